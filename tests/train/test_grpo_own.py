"""GRPO on one's own clips, by the command; reading the clips is stood in for by random states."""

import json
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch
from fakes import FACE_SIZE
from safetensors.torch import load_file
from tiny import AUDIO_SIZE, make_tiny

from emollm.cli import main
from emollm.data import clip_states
from emollm.data.cards import find_card
from emollm.data.clip_states import ClipEncoder, ClipStates
from emollm.data.compose import READINGS
from emollm.data.schema import Record, write_file
from emollm.train import own
from emollm.train.grpo import GRPORecipe
from emollm.train.recipe import load_recipe
from emollm.train.reward_functions import REWARDS


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return make_tiny(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def records(tmp_path, tiny, monkeypatch):
    """Videos, pictures and sounds, with and without a thought."""
    monkeypatch.setattr(own, "default_model", lambda: tiny)
    monkeypatch.setattr(clip_states, "default_model", lambda: tiny)
    monkeypatch.setattr(clip_states, "cache_dir", lambda: tmp_path / "cache")

    def encode(self, record, path):
        random = np.random.default_rng(len(record.id))
        windows = 1 if record.images else 4
        face = random.uniform(0, 1, (0 if record.audios else windows, FACE_SIZE)).astype(np.float32)
        sound = random.normal(size=(0 if record.images else windows, 2 * AUDIO_SIZE)).astype(np.float32)
        return ClipStates(
            face, sound, np.zeros(8, np.float32), np.zeros(0, np.float32), READINGS, 0.5, 0.0 if record.images else 2.0
        )

    monkeypatch.setattr(ClipEncoder, "_encode", encode)
    found = []
    for number in range(9):
        mark, field, name = (
            ("<video>", "videos", "v.mp4"), ("<image>", "images", "i.png"), ("<audio>", "audios", "a.wav"),
        )[number % 3]  # fmt: skip
        (tmp_path / f"{number}{name}").write_bytes(b"")
        answer = "<answer>happiness: so it seems.</answer>" if number != 4 else "<answer>No voice is heard.</answer>"
        found.append(
            Record(
                id=str(number),
                messages=[
                    {"role": "user", "content": f"{mark}How does this person feel?"},
                    {"role": "assistant", "content": answer},
                ],
                think=number % 2 == 0,
                labels={"emotion": "happiness", "votes": {"happiness": 2, "neutral": 1}},
                label_origin={"emotion": "human", "votes": "human"},
                split="valid" if number == 8 else "train",
                **{field: [f"{number}{name}"]},
            )
        )
    write_file(tmp_path / "train.jsonl", found)
    return tmp_path / "train.jsonl"


def test_the_command_trains_on_ones_own_clips(records, tiny, tmp_path, capfd):
    recipe = tmp_path / "grpo.yaml"
    recipe.write_text(
        f"output: {tmp_path / 'run'}\nrecords: {records}\nrewards: {{format: 1, votes: 1, length: 1}}\nmax_steps: 2\n"
        "batch_size: 3\ngenerations: 2\nmax_tokens: 8\nwanted_tokens: 2\nlora_rank: 2\nlearning_rate: 0.05\n"
        "warmup_steps: 0\n"
    )
    with pytest.raises(SystemExit) as stop:
        main(["train", "grpo", str(recipe)])
    assert not stop.value.code
    summary = json.loads(capfd.readouterr().out.strip().split("\n")[-1])
    assert summary["rewards/votes/mean"] == -1.0  # random weights write nothing that can be read
    replies = [json.loads(line) for file in (tmp_path / "run" / "replies").iterdir() for line in file.open()]
    assert len(replies) == 2 * 3 * 2
    assert {(line["think"], line["carrier"]) for line in replies} >= {(True, "voice"), (False, "face")}
    before, after = (load_file(folder / "model.safetensors") for folder in (tiny, tmp_path / "run" / "model"))
    changed = {key.split(".")[1] for key in before if not torch.equal(before[key], after[key])}
    assert changed <= {"language_model"}


def test_the_commands_of_the_guide(records, tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = (Path(__file__).parents[2] / "docs" / "grpo.md").read_text(encoding="utf-8")
    default, own_clips = map(shlex.split, text.split("```sh\n")[1].split("```")[0].strip().split("\n"))
    assert load_recipe(GRPORecipe, find_card("train", default[3]), default[4:]).rollouts == "vllm"
    given = dict(word.split("=") for word in own_clips[4:])
    assert given["records"] == records.name
    Path(given["model"]).parent.mkdir(parents=True)
    Path(given["model"]).symlink_to(tiny)
    small = ["max_steps=1", "batch_size=2", "generations=2", "max_tokens=8", "lora_rank=2", "learning_rate=0.05"]
    with pytest.raises(SystemExit) as stop:
        main([*own_clips[1:], *small])
    assert not stop.value.code
    assert (Path(given["output"]) / "model" / "model.safetensors").exists()
    assert all(f"| `{name}`" in text or f", `{name}`" in text for name in REWARDS)


def test_the_recipe_of_the_default_model_is_valid():
    recipe = load_recipe(GRPORecipe, find_card("train", "tiny/grpo"))
    assert recipe.output.parts[0] == "runs"
    documented = find_card("train", "tiny/grpo").read_text(encoding="utf-8")
    idle = {"llm", "audio_encoder", "gradient_accumulation", "think_weight", "answer_weight"}
    assert all(f"{key}:" in documented for key in set(GRPORecipe.model_fields) - idle)
