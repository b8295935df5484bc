"""Recipes of synthetic faces: which head, which people, how many pictures or clips."""

import json
from pathlib import Path
from typing import Literal

import numpy as np
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from emollm.data.anny_head import anny_head
from emollm.data.clips import ClipRecipe
from emollm.data.head import Array, Head, load_head
from emollm.data.looks import Looks
from emollm.data.phenotypes import Traits
from emollm.errors import BadArgumentError


class HeadRecipe(BaseModel):
    """Which head is drawn: its kind, file, parts and gains (see :func:`emollm.data.head.load_head`)."""

    model_config = ConfigDict(extra="forbid")
    kind: Literal["ict", "anny"] = "ict"
    path: Path | None = None
    parts: dict[str, list[tuple[int, int]]] = {}
    gains: dict[str, float] = {}
    licence: str = ""

    def load(self, path: Path | None = None) -> Head:
        """The head in the file ``path``, else in the recipe's, else Anny's own where that is the kind.

        Raises:
            BadArgumentError: no file is named, or it holds no such head.
        """
        source = path or self.path or (anny_head() if self.kind == "anny" else None)
        if source is None:
            raise BadArgumentError("the recipe names no head: give the path of your blendshape head (.npz)")
        return load_head(source, self.parts, self.gains)


class Recipe(BaseModel):
    """Everything that decides the pictures; the same recipe and head give the same bytes."""

    model_config = ConfigDict(extra="forbid")
    head: HeadRecipe
    seed: int = Field(0, ge=0)
    identities: int = Field(400, ge=2)
    images_per_identity: int = Field(15, ge=1)
    valid_share: float = Field(0.1, gt=0, lt=1)
    size: int = Field(192, ge=48, le=1024)
    neutral_share: float = Field(0.08, ge=0, le=1)
    prototype_share: float = Field(0.5, ge=0, le=1)
    identity_spread: float = Field(0.9, ge=0)
    clips: ClipRecipe | None = None

    def split(self, identity: int) -> str:
        """The last ``valid_share`` of the people are for validation."""
        training = self.identities - max(1, round(self.identities * self.valid_share))
        return "train" if identity < training else "valid"

    def kept(self) -> str:
        """The recipe as text, without the places of files."""
        return json.dumps(self.model_dump(mode="json", exclude={"head": {"path"}, "clips": {"sounds"}}))


def load_recipe(path: Path) -> Recipe:
    """Read a recipe (YAML).

    Raises:
        BadArgumentError: missing, not YAML, or a key or value that is not one.
    """
    try:
        return Recipe.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except OSError:
        raise BadArgumentError(f"no recipe at {path}") from None
    except yaml.YAMLError:
        raise BadArgumentError(f"{path} is not valid YAML") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the recipe"
        raise BadArgumentError(f"{path}: {where}: {first['msg']}") from None


def draw_person(recipe: Recipe, identity: int, head: Head) -> tuple[Array, Looks]:
    """Neutral vertices (V, 3) and looks of a recipe's person."""
    rng = np.random.default_rng([recipe.seed, identity])
    traits = Traits.random(rng)
    return head.draw_person(traits, rng, recipe.identity_spread), Looks.random(rng, traits)
