"""Recipes: YAML files, one a run, checked against a pydantic model before anything starts."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

import yaml
from pydantic import BaseModel, ValidationError
from transformers.trainer_utils import get_last_checkpoint

from emollm.errors import BadArgumentError

R = TypeVar("R", bound=BaseModel)


def load_recipe(kind: type[R], path: str | Path, overrides: list[str] | None = None) -> R:
    """Read a recipe and apply ``key=value`` overrides (values are YAML; dots reach into maps).

    Raises:
        BadArgumentError: the file is missing, is not YAML, or a key is unknown or of the wrong type.
    """
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8")) or {}
    except OSError as error:
        raise BadArgumentError(f"The recipe {path} cannot be read: {error.strerror}.") from error
    except yaml.YAMLError as error:
        raise BadArgumentError(f"The recipe {path} is not valid YAML.") from error
    for override in overrides or []:
        dotted, _, value = override.partition("=")
        target = content
        *parents, key = dotted.split(".")
        for parent in parents:
            target = target.setdefault(parent, {})
        target[key] = yaml.safe_load(value)
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise BadArgumentError(f"The recipe {path} is wrong at '{where}': {first['msg']}.") from error


def last_checkpoint(folder: Path) -> str | None:
    """The newest trainer checkpoint in ``folder``, or None where there is none to resume from."""
    return get_last_checkpoint(str(folder)) if folder.exists() else None
