"""What the folders of finished runs say, as the model card takes it."""

import json
import os

import pytest
import torch
import yaml
from safetensors.torch import save_file

from emollm.errors import BadArgumentError
from emollm.eval import provenance
from emollm.eval.trained import read_training
from emollm.model.face_encoder import FaceEncoder
from emollm.train.collect import main


@pytest.fixture
def runs(parts, data, start, tmp_path, monkeypatch):
    """Recipes and the run folders that they name, as the trainings leave them; those of the starts are gone."""
    monkeypatch.setattr(provenance, "hardware", lambda: {"cpu": "Abacus", "cores": "2"})
    recipes = {
        "face_start": {"output": "face_start", "sources": {"fake": "f"}, "cache": data / "faces", "backbone": True},
        "face": {
            "output": "face", "start_from": "face_start", "sources": {"fake": "f", "gone": "g"},
            "cache": data / "faces", "epochs": 2,
        },
        "voice": {"output": "voice", "emodb": "e", "cache": data / "voices"},
        "sft_start": {
            "output": "sft_start", "face_tower": "face", "faces": ["f"], "voice_head": "v", "voices": "w",
            "stages": [{"records": 8, "think_share": 0.0, "mix": {"emotion": 1.0}}], "seed": 4,
        },
        "sft": {
            "output": "sft", "face_tower": "face", "faces": ["f"], "voice_head": "v", "voices": "w",
            "stages": [{"records": 4, "think_share": 0.5, "mix": {"emotion": 1.0}}], "seed": 3,
        },
    }  # fmt: skip
    for name, recipe in recipes.items():
        recipe["output"] = tmp_path / recipe["output"]
        text = yaml.safe_dump(json.loads(json.dumps(recipe, default=str)))
        (tmp_path / f"{name}.yaml").write_text(text)
    FaceEncoder.from_pretrained(parts.face_tower).save_pretrained(tmp_path / "face")
    state = {"global_step": 300, "best_global_step": 200}
    for step, time in ((200, 1_000), (300, 2_800)):
        file = tmp_path / "face" / "checkpoints" / f"checkpoint-{step}" / "trainer_state.json"
        file.parent.mkdir(parents=True)
        file.write_text(json.dumps(state))
        os.utime(file, (time, time))
    (tmp_path / "voice").mkdir()
    (tmp_path / "voice" / "scores.json").write_text('{"test_war": 0.75}')
    run = tmp_path / "sft"
    run.mkdir()
    for name in ("adapters.safetensors", "lora"):
        (run / name).symlink_to(start / name)
    (run / "checkpoints" / "checkpoint-700").mkdir(parents=True)
    (run / "checkpoints" / "checkpoint-700" / "trainer_state.json").write_text('{"global_step": 700}')
    (run / "log.json").write_text('[{"loss": 1.0, "step": 10}, {"train_runtime": 5400.0, "step": 700}]')
    return tmp_path


def collect(runs, *more):
    recipes = [
        part
        for name in ("face_start", "face", "voice", "sft_start", "sft")
        for part in (f"--{name}", str(runs / f"{name}.yaml"))
    ]
    main([*recipes, "--out", str(runs / "training.json"), *more])
    return read_training(runs / "training.json")


def test_what_the_runs_left(runs, data, parts):
    found = collect(runs, "--variant", "another", str(parts.face_tower), str(data / "faces" / "fake.npz"))
    face, sft, voice = found.stages["face"], found.stages["sft"], found.stages["voice"]
    assert (face.steps, face.chosen_step, face.hours, face.hours_from) == (300, 200, 1.5, "checkpoints")
    assert (sft.steps, sft.chosen_step, sft.hours, sft.hours_from) == (700, None, 1.5, "log")
    assert sft.core_hours == 1.5 * int(found.hardware["cores"])
    assert sft.gpu_minutes is None
    assert (voice.steps, voice.hours, voice.core_hours) == (None, None, None)
    assert face.recipe["epochs"] == 2
    assert found.stages["face_start"].recipe["backbone"]
    assert found.stages["face_start"].steps is None
    assert face.recipe["learning_rate"] == 2e-3  # defaults are written down, too
    assert sft.seed == 3
    assert (found.stages["sft_start"].seed, found.stages["sft_start"].steps) == (4, None)
    assert found.voice == {"test_war": 0.75}
    assert found.folds is None
    assert set(found.face) == set(found.sources) == {"fake"}
    assert found.face["fake"].faces == found.sources["fake"].valid == 12
    assert sum(one.count for one in found.face["fake"].per_class.values()) == 8
    assert found.variants[0].about == "another"
    assert found.variants[0].scores == found.face["fake"]
    assert min(found.parameters.values()) > 0
    assert sum(found.recordings.values()) > 0


def test_a_run_costs_what_its_own_machine_gave(runs):
    (runs / "face" / "machine.json").write_text('{"cpu": "Loom", "cores": "16", "gpu": "Engine"}')
    (runs / "sft" / "machine.json").write_text('{"cpu": "Loom", "cores": "8"}')
    found = collect(runs)
    face, sft = found.stages["face"], found.stages["sft"]
    assert (face.hardware["gpu"], face.gpu_minutes, face.core_hours) == ("Engine", 90.0, None)
    assert (sft.hardware["cpu"], sft.gpu_minutes, sft.core_hours) == ("Loom", None, 12.0)
    assert found.stages["voice"].hardware is None
    assert found.hardware == {"cpu": "Abacus", "cores": "2"}


def test_changes_are_those_of_the_run(runs):
    assert collect(runs, "--change", "face.epochs=3", "--change", "sft.seed=9").stages["face"].recipe["epochs"] == 3
    assert collect(runs, "--change", "sft.seed=9").stages["sft"].seed == 9


def test_a_run_in_two_parts_is_not_timed_by_its_last(runs):
    (runs / "sft" / "tensorboard").mkdir()
    for part in (1, 2):
        (runs / "sft" / "tensorboard" / f"events.out.tfevents.{part}").touch()
    assert collect(runs).stages["sft"].hours is None


def test_the_weights_are_as_new_as_their_newest_part(runs):
    newest = 4_000_000_000
    os.utime(runs / "face" / "config.json", (newest, newest))
    assert collect(runs).trained.timestamp() == newest


def test_an_unfinished_run_is_refused(runs):
    (runs / "sft" / "adapters.safetensors").unlink()
    with pytest.raises(BadArgumentError, match="not finished"):
        collect(runs)


def test_parameters_are_counted_by_part(runs):
    (runs / "sft" / "adapters.safetensors").unlink()
    save_file(
        {"voice_head.a": torch.zeros(2, 3), "face_adapter.b": torch.zeros(5)}, runs / "sft" / "adapters.safetensors"
    )
    parameters = collect(runs).parameters
    assert (parameters["voice_head"], parameters["adapters"]) == (6, 5)
