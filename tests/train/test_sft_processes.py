"""Instruction tuning in two processes, as torchrun (or `accelerate launch` on GPUs) starts them."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec

import pytest
import yaml

from emollm.train.sft import SFTRecipe, train_sft


def test_two_processes_learn_what_one_does_with_batches_twice_as_large(data, parts, tmp_path):
    content = {
        "output": str(tmp_path / "two"), "llm": str(parts.llm), "audio_encoder": str(parts.audio_encoder),
        "face_tower": str(parts.face_tower), "faces": [str(data / "faces" / "fake.npz")],
        "voice_head": str(parts.voice_head), "voices": str(data / "voices" / "emodb.npz"),
        "stages": [{"records": 16, "think_share": 0.5, "mix": {"emotion": 1.0}}],
        "batch_size": 2, "learning_rate": 1e-3, "lora_rank": 2, "log_steps": 1, "save_steps": 2,
    }  # fmt: skip
    (tmp_path / "sft.yaml").write_text(yaml.safe_dump(content))
    launch = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
        "-m", "emollm.train.sft", str(tmp_path / "sft.yaml"),
    ]  # fmt: skip
    alone = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "ACCELERATE_USE_CPU": "1"}
    done = subprocess.run(launch, env=os.environ | alone, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

    train_sft(SFTRecipe(**content | {"output": tmp_path / "one", "batch_size": 4}))
    for what, tolerance in (("loss", 0.02), ("grad_norm", 0.3)):  # each process drops out parts of its own
        two, one = (_logged(tmp_path / run, what) for run in ("two", "one"))
        assert len(two) == len(one) == 4
        assert two == pytest.approx(one, rel=tolerance)
    for file in ("adapters.safetensors", "lora/adapter_model.safetensors", "train.jsonl"):
        assert (tmp_path / "two" / file).exists()
    assert len(list((tmp_path / "two").glob("tensorboard/events*"))) == bool(find_spec("tensorboard"))


def _logged(run, what):
    return [line[what] for line in json.loads((run / "log.json").read_text()) if what in line]
