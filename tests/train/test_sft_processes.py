"""Instruction tuning in two processes, as torchrun (or `accelerate launch` on GPUs) starts them."""

import json
from importlib.util import find_spec

import pytest
from launch import in_two_processes

from emollm.train.sft import SFTRecipe, train_sft


def test_two_processes_learn_what_one_does_with_batches_twice_as_large(data, parts, tmp_path):
    content = {
        "output": str(tmp_path / "two"), "llm": str(parts.llm), "audio_encoder": str(parts.audio_encoder),
        "face_tower": str(parts.face_tower), "faces": [str(data / "faces" / "fake.npz")],
        "voice_head": str(parts.voice_head), "voices": str(data / "voices" / "emodb.npz"),
        "stages": [{"records": 16, "think_share": 0.5, "mix": {"emotion": 1.0}}],
        "batch_size": 2, "learning_rate": 1e-3, "lora_rank": 2, "log_steps": 1, "save_steps": 2,
    }  # fmt: skip
    in_two_processes("emollm.train.sft", content | {"max_steps": 2}, tmp_path)
    in_two_processes("emollm.train.sft", content, tmp_path)  # and go on from there

    train_sft(SFTRecipe(**content | {"output": tmp_path / "one", "batch_size": 4}))
    two, one = (_logged(tmp_path / run, "loss") for run in ("two", "one"))
    assert len(two) == len(one) == 4
    assert two == pytest.approx(one, rel=0.02)  # each process drops out parts of its own
    two, one = (_logged(tmp_path / run, "grad_norm")[0] for run in ("two", "one"))
    assert two == pytest.approx(one, rel=0.3)
    for file in ("adapters.safetensors", "lora/adapter_model.safetensors", "train.jsonl"):
        assert (tmp_path / "two" / file).exists()
    logs = list((tmp_path / "two").glob("tensorboard/events*"))
    assert len(logs) == 2 * bool(find_spec("tensorboard"))  # one for each time it was started, of the first process


def _logged(run, what):
    return [line[what] for line in json.loads((run / "log.json").read_text()) if what in line]
