"""GRPO that is killed (SIGKILL) at a random step in another process, and goes on."""

import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest
import yaml
from safetensors.torch import load_file
from torch.testing import assert_close

from emollm.serve.vllm_setup import vllm_version
from emollm.train.trainer import last_complete

STEPS, SAVE_STEPS = 10, 3
CLOCKS = {"step_time", "train_runtime", "train_samples_per_second", "train_steps_per_second"}


FEW = [{"records": 12, "think_share": 0.5, "mix": {"emotion": 1.0}}]
needs_vllm = pytest.mark.skipif(vllm_version() is None, reason="vLLM is not installed")


@pytest.fixture(
    params=[
        pytest.param({}, id="plain"),
        pytest.param({"schedule": {"retire_below": 0.2, "rest": 1}, "stages": FEW}, id="schedule"),
        pytest.param({"rollouts": "vllm", "temperature": 2.0}, id="vllm", marks=needs_vllm),
    ]
)
def recipe(request, tmp_path, data, parts, start):
    """Random weights are told apart by nothing but when they stop, so that is what is rewarded."""
    file = tmp_path / "grpo.yaml"
    content = {
        "output": "",
        "llm": str(parts.llm),
        "audio_encoder": str(parts.audio_encoder),
        "face_tower": str(parts.face_tower),
        "faces": [str(data / "faces" / "fake.npz")],
        "voice_head": str(parts.voice_head),
        "voices": str(data / "voices" / "emodb.npz"),
        "stages": [{"records": 40, "think_share": 0.5, "mix": {"emotion": 1.0}}],
        "start_from": str(start),
        "rewards": {"length": 1.0, "format": 1.0},
        "batch_size": 4,
        "generations": 4,
        "wanted_tokens": 1,
        "max_tokens": 48,
        "temperature": 3.0,  # some stop early
        "learning_rate": 0.02,
        "warmup_steps": 0,
        "save_steps": SAVE_STEPS,
        "max_steps": STEPS,
    }
    file.write_text(yaml.safe_dump(content | request.param))
    return file


def begin(recipe, output) -> subprocess.Popen:
    command = [sys.executable, "-m", "emollm.train.grpo", str(recipe), f"output={output}"]
    alone = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}  # one core sums in the same order every time
    with output.with_suffix(".log").open("a") as log:
        return subprocess.Popen(command, env=os.environ | alone, stdout=log, stderr=log)


def log_of(run):
    """What was logged, without times."""
    history = json.loads((run / "log.json").read_text())
    return [{key: value for key, value in line.items() if key not in CLOCKS} for line in history]


def test_a_killed_run_goes_on_as_an_unbroken_one(recipe, tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert begin(recipe, whole).wait() == 0, whole.with_suffix(".log").read_text()

    at = f"replies/{random.randrange(SAVE_STEPS + 1, STEPS):05d}-0.jsonl"
    process = begin(recipe, killed)
    while not (killed / at).exists():
        assert process.poll() is None, killed.with_suffix(".log").read_text()
        time.sleep(0.001)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert not (killed / "log.json").exists()
    kept = last_complete(killed / "checkpoints") / "trainer_state.json"
    state = json.loads(kept.read_text())
    state["log_history"][0]["from_before"] = True  # a run that began anew would not have it
    kept.write_text(json.dumps(state))
    assert begin(recipe, killed).wait() == 0, killed.with_suffix(".log").read_text()

    one, other = log_of(whole), log_of(killed)
    losses, since = [line["loss"] for line in one[:-1]], int(kept.parent.name.rpartition("-")[2])
    assert one.pop()["train_loss"] == pytest.approx(sum(losses) / STEPS, abs=1e-6)
    assert other.pop()["train_loss"] == pytest.approx(sum(losses[since:]) / (STEPS - since), abs=1e-6)
    assert other[0].pop("from_before"), at
    assert [line["step"] for line in one] == list(range(1, STEPS + 1))
    assert other == one, at
    rewards = [line["rewards/length/mean"] for line in one]
    assert len(set(rewards)) > 2
    assert one[-1]["kl"] > 0
    assert one[-1]["num_tokens"] > one[-2]["num_tokens"]
    if "schedule/resting" in one[-1]:
        first, second = (run / "checkpoints" / f"checkpoint-{STEPS}" / "schedule.json" for run in (whole, killed))
        assert first.read_text() == second.read_text()
        assert one[-1]["schedule/solved"] + one[-1]["schedule/hopeless"] > 0
    names = [sorted(file.name for file in (run / "replies").iterdir()) for run in (whole, killed)]
    assert names[0] == names[1] == [f"{step:05d}-0.jsonl" for step in range(1, STEPS + 1)]
    for name in names[0]:
        assert (killed / "replies" / name).read_text() == (whole / "replies" / name).read_text(), f"{name} after {at}"
    for file in ("adapters.safetensors", "lora/adapter_model.safetensors"):
        first, second = load_file(whole / file), load_file(killed / file)
        for key, value in first.items():
            assert_close(value, second[key], rtol=0, atol=0, msg=lambda text, key=key: f"{key}, {at}: {text}")
