"""An ablation of a tiny model: trained, evaluated and tabulated by the very commands that a user would type."""

import json
import wave

import numpy as np
import pytest
import yaml
from tiny import make_speech

from emollm.cli import main
from emollm.data.cards import find_card
from emollm.errors import BadArgumentError, EmoLLMError
from emollm.train import ablation
from emollm.train.ablation import STATES, AblationRecipe, train_ablation
from emollm.train.grpo import GRPORecipe
from emollm.train.recipe import load_recipe


@pytest.fixture
def bench(tmp_path):
    """A benchmark of four recordings."""
    folder = tmp_path / "datasets" / "voices"
    folder.mkdir(parents=True)
    for number, label in enumerate(["anger", "sadness", "anger", "neutral"]):
        with wave.open(str(folder / f"{label}-{number}.wav"), "wb") as file:
            file.setparams((1, 2, 16000, 0, "NONE", ""))
            file.writeframes((8000 * make_speech(1.0 + 0.1 * number)).astype(np.int16).tobytes())
    labels = {label: label for label in ("anger", "sadness", "neutral")}
    data = {
        "name": "voices", "title": "Voices", "paper": "none", "get": "made", "licence": "none", "terms": "none",
        "modalities": ["voice"], "folder": "voices", "labels": labels, "label_origin": "exact",
        "layout": {"kind": "folder", "pattern": r"(?P<emotion>[a-z]+)-(?P<id>\d)\.wav"},
    }  # fmt: skip
    (tmp_path / "data.yaml").write_text(yaml.safe_dump(data))
    card = {
        "name": "toy", "title": "Toy voices", "task": "emotion", "data": ["data.yaml"], "answers": list(labels),
        "metrics": ["war", "uar", "parse_failures"],
    }  # fmt: skip
    (tmp_path / "toy.yaml").write_text(yaml.safe_dump(card))
    return tmp_path / "toy.yaml"


@pytest.fixture
def recipe(tmp_path, bench, data, parts, start):
    grpo = {
        "output": "", "llm": str(parts.llm), "audio_encoder": str(parts.audio_encoder),
        "face_tower": str(parts.face_tower), "faces": [str(data / "faces" / "fake.npz")],
        "voice_head": str(parts.voice_head), "voices": str(data / "voices" / "emodb.npz"),
        "stages": [{"records": 4, "think_share": 0.5, "mix": {"emotion": 1.0}}], "start_from": str(start),
        "rewards": {"length": 1.0, "format": 1.0}, "batch_size": 2, "generations": 2, "wanted_tokens": 1,
        "max_tokens": 12, "temperature": 3.0, "learning_rate": 0.05, "warmup_steps": 0, "save_steps": 5, "bf16": False,
    }  # fmt: skip
    (tmp_path / "grpo.yaml").write_text(yaml.safe_dump(grpo))
    return AblationRecipe(
        output=tmp_path / "out",
        recipe=str(tmp_path / "grpo.yaml"),
        seeds=[3, 4],
        changes={"max_steps": 3},
        variants={
            "start": {"about": "SFT only"},
            "all": {"about": "all rewards", "changes": {}},
            "schedule": {
                "about": "+ data-efficient",
                "changes": {"schedule": {"retire_below": 0.5}, "rewards.format": 0.0},
                "against": "all",
            },
        },
        evaluations=[{"benchmark": str(bench), "root": tmp_path / "datasets"}],
        thinking=[False],
        engine="transformers",
        root=tmp_path / "other",
    )


@pytest.fixture
def commands(monkeypatch):
    """Commands as they are given, each run in this process."""
    given = []

    def emollm(*arguments):
        given.append(arguments)
        with pytest.raises(SystemExit) as end:
            main(list(arguments))
        assert not end.value.code

    monkeypatch.setattr(ablation, "emollm", emollm)
    return given


def test_variants_are_trained_evaluated_and_held_against_each_other(recipe, commands, capfd):
    written = train_ablation(recipe)
    done = [(command[0], command[-1].rpartition("=")[2]) for command in commands]
    one_seed = [("train", "3"), ("eval", "--no-think")] * 2
    assert done == [("eval", "--no-think"), *one_seed, *[("train", "4"), ("eval", "--no-think")] * 2]
    engines = {command[command.index("--engine") + 1] for command in commands if command[0] == "eval"}
    assert engines == {"transformers"}
    found = json.loads((recipe.output / "ablation.json").read_text())
    assert [(run["variant"], run["run"]) for run in found["trained"]] == [
        ("all", "seed3"), ("all", "seed4"), ("schedule", "seed3"), ("schedule", "seed4"),
    ]  # fmt: skip
    assert {(run["steps"], run["replies"]) for run in found["trained"]} == {(3, 12)}  # equal compute
    assert [(entry["variant"], entry["scores"][0]["seeds"]) for entry in found["scores"]] == [
        ("start", 1), ("all", 2), ("schedule", 2),
    ]  # fmt: skip
    pairs = [(entry["variant"], entry["against"]) for entry in found["differences"]]
    assert pairs == [("all", "start"), ("schedule", "start"), ("schedule", "all")]
    assert {score["n"] for entry in found["scores"] for score in entry["scores"][:2]} == {4}
    text, printed = (recipe.output / "ablation.md").read_text(), capfd.readouterr().out
    assert all(words in text for words in ("SFT only", "+ data-efficient", "labels: exact"))
    assert "Toy voices: differences" in printed
    assert (recipe.output / "rewards.png").read_bytes().startswith(b"\x89PNG")
    assert set(written) == {"table", "data", "curves"}

    folders = {name: recipe.folders(name) for name in recipe.variants}
    digests = [
        json.loads((folder / "toy-no-think" / "result.json").read_text())["describe"]
        for folder in (folders["start"][0], folders["all"][0], folders["schedule"][0])
    ]
    assert len({str(sorted(digest.items())) for digest in digests}) == 3
    states = [(folder / STATES).stat().st_ino for name in ("all", "schedule") for folder in folders[name]]
    assert len(set(states)) == 1
    assert not list(recipe.output.rglob("model"))

    commands.clear()
    before = (recipe.output / "ablation.json").read_text()
    train_ablation(recipe)
    assert commands == []
    assert (recipe.output / "ablation.json").read_text() == before

    (folders["all"][1] / "toy-no-think" / "result.json").unlink()
    train_ablation(recipe.model_copy(update={"only_table": True}))
    found = json.loads((recipe.output / "ablation.json").read_text())
    assert commands == []
    assert [entry["scores"][0]["seeds"] for entry in found["scores"]] == [1, 1, 2]

    with pytest.raises(BadArgumentError, match="was made by other settings"):
        train_ablation(recipe.model_copy(update={"changes": {"max_steps": 2}}))


def test_a_command_that_fails_ends_the_ablation():
    with pytest.raises(EmoLLMError, match="'emollm train nose' ended with code 2"):
        ablation.emollm("train", "nose", "recipe.yaml")


@pytest.mark.parametrize(
    ("variants", "match"),
    [
        ({"a": {"about": "a", "changes": {}}, "b": {"about": "b"}}, "the first variant must be without changes"),
        ({"a": {"about": "a"}, "b": {"about": "b"}}, "the first variant must be without changes"),
        ({"a": {"about": "a"}, "b": {"about": "b", "changes": {}, "against": "c"}}, "there is no variant c"),
    ],
)
def test_mistakes_in_a_recipe_are_named(tmp_path, recipe, variants, match):
    content = recipe.model_dump(mode="json") | {"variants": variants}
    (tmp_path / "ablation.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(BadArgumentError, match=match):
        load_recipe(AblationRecipe, tmp_path / "ablation.yaml")


@pytest.mark.parametrize(
    ("engine", "match"), [("fast", "There is no engine 'fast'"), ("http://127.0.0.1:8000/v1", "no server has all")]
)
def test_an_engine_that_cannot_evaluate_is_refused(recipe, engine, match):
    with pytest.raises(ValueError, match=match):
        AblationRecipe.model_validate(recipe.model_dump() | {"engine": engine})


def test_the_recipe_of_the_default_model_is_valid():
    file = find_card("train", "tiny/ablation")
    recipe, text = load_recipe(AblationRecipe, file), file.read_text(encoding="utf-8")
    assert all(f"{key}:" in text for key in AblationRecipe.model_fields)
    base = find_card("train", recipe.recipe)
    made = {}
    for name, variant in recipe.variants.items():
        changes = recipe.changes | (variant.changes or {})
        made[name] = load_recipe(GRPORecipe, base, [f"{key}={json.dumps(value)}" for key, value in changes.items()])
    replies = {(one.max_steps, one.batch_size, one.generations, one.stages[0].records) for one in made.values()}
    assert len(replies) == 1
    weighed = {name: {key for key, weight in one.rewards.items() if weight} for name, one in made.items()}
    assert weighed["label"] < weighed["units"] < weighed["support"] == weighed["schedule"]
    assert [name for name, one in made.items() if one.schedule] == ["schedule"]
    assert [one.stages[0].think_share for one in made.values()] == [0.5] * 5 + [1.0, 0.0]
    assert made["support"].rewards == load_recipe(GRPORecipe, base).rewards
