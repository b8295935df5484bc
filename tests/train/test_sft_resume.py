"""A run that is killed (SIGKILL) in another process, and goes on."""

import json
import os
import signal
import subprocess
import sys
import time
from importlib.util import find_spec

import pytest
import yaml
from safetensors.torch import load_file
from torch.testing import assert_close

from emollm.train.trainer import last_complete

STEPS = 24


@pytest.fixture
def recipe(tmp_path, data, parts):
    file = tmp_path / "recipe.yaml"
    content = {
        "output": "",
        "llm": str(parts.llm),
        "audio_encoder": str(parts.audio_encoder),
        "face_tower": str(parts.face_tower),
        "faces": [str(data / "faces" / "fake.npz")],
        "voice_head": str(parts.voice_head),
        "voices": str(data / "voices" / "emodb.npz"),
        "stages": [{"records": 4 * STEPS, "think_share": 0.5, "mix": {"emotion": 1.0}}],
        "batch_size": 4,
        "learning_rate": 0.02,
        "lora_rank": 2,
        "log_steps": 1,
        "save_steps": 3,
    }
    file.write_text(yaml.safe_dump(content))
    return file


def start(recipe, output) -> subprocess.Popen:
    command = [sys.executable, "-m", "emollm.train.sft", str(recipe), f"output={output}"]
    with output.with_suffix(".log").open("a") as log:
        return subprocess.Popen(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, stdout=log, stderr=log)


def test_a_killed_run_ends_as_an_unbroken_one(recipe, tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert start(recipe, whole).wait() == 0, whole.with_suffix(".log").read_text()
    process = start(recipe, killed)
    while last_complete(killed / "checkpoints") is None:
        assert process.poll() is None, killed.with_suffix(".log").read_text()
        time.sleep(0.02)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert not (killed / "log.json").exists()
    kept = last_complete(killed / "checkpoints") / "trainer_state.json"
    state = json.loads(kept.read_text())
    state["log_history"][0]["from_before"] = True  # a run that began anew would not have it
    kept.write_text(json.dumps(state))
    assert start(recipe, killed).wait() == 0, killed.with_suffix(".log").read_text()

    logs = [json.loads((run / "log.json").read_text()) for run in (whole, killed)]
    assert logs[1][0].pop("from_before")
    curves = [{entry["step"]: float(entry["loss"]) for entry in log if "loss" in entry} for log in logs]
    assert list(curves[0]) == list(range(1, STEPS + 1))
    assert curves[1] == pytest.approx(curves[0], rel=1e-4)
    assert len(set(curves[0].values())) > STEPS // 2
    for file in ("adapters.safetensors", "lora/adapter_model.safetensors"):
        one, other = load_file(whole / file), load_file(killed / file)
        for key, value in one.items():
            assert_close(value, other[key], rtol=1e-3, atol=1e-4, msg=lambda text, key=key: f"{key}: {text}")
    if find_spec("tensorboard"):
        assert list((killed / "tensorboard").iterdir())
