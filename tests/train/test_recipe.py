from pathlib import Path

import pytest
from pydantic import BaseModel, ConfigDict

from emollm.errors import BadArgumentError
from emollm.train.face import FaceRecipe
from emollm.train.recipe import load_recipe
from emollm.train.sft import SFTRecipe
from emollm.train.voice import VoiceRecipe

RECIPES = Path(__file__).parents[2] / "train" / "tiny"


class Recipe(BaseModel):
    model_config = ConfigDict(extra="forbid")

    output: Path
    steps: int = 3
    sources: dict[str, str] = {}


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text("output: runs/a  # where it goes\nsources: {a: x}\n")
    return path


def test_values_and_defaults(path):
    assert load_recipe(Recipe, path) == Recipe(output=Path("runs/a"), steps=3, sources={"a": "x"})


def test_overrides(path):
    recipe = load_recipe(Recipe, path, ["steps=7", "sources.b=y", "output=out=put"])
    assert recipe == Recipe(output=Path("out=put"), steps=7, sources={"a": "x", "b": "y"})


@pytest.mark.parametrize(
    ("content", "overrides", "match"),
    [
        ("output: a\ntypo: 1\n", [], "wrong at 'typo'"),
        ("steps: 1\n", [], "wrong at 'output'"),
        ("output: a\nsteps: many\n", [], "wrong at 'steps'"),
        ("output: [a\n", [], "not valid YAML"),
        ("output: a\n", ["steps=x"], "wrong at 'steps'"),
    ],
)
def test_mistakes_are_named(path, content, overrides, match):
    path.write_text(content)
    with pytest.raises(BadArgumentError, match=match) as error:
        load_recipe(Recipe, path, overrides)
    assert "\n" not in str(error.value)


def test_a_missing_recipe(tmp_path):
    with pytest.raises(BadArgumentError, match="cannot be read"):
        load_recipe(Recipe, tmp_path / "nowhere.yaml")


@pytest.mark.parametrize(
    ("kind", "name"),
    [(FaceRecipe, "face"), (VoiceRecipe, "voice"), (SFTRecipe, "sft"), (SFTRecipe, "finetune")],
)
def test_the_recipes_of_the_default_model_are_valid(kind, name):
    assert load_recipe(kind, RECIPES / f"{name}.yaml").output.parts[0] == "runs"
