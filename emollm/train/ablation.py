"""What each reward and the schedule add: variants of one GRPO recipe, trained, evaluated and held against each other.

``emollm train ablation RECIPE``. Every run is an ``emollm train grpo`` and every evaluation an ``emollm eval`` of its
own, so all can be repeated by themselves. Whatever is finished is not done again: the same command goes on, and in the
end (or with ``only_table=true``, at any time) makes the tables of what is there.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from emollm.data.cards import find_card
from emollm.engines import check_engine, is_url
from emollm.errors import BadArgumentError, EmoLLMError
from emollm.model.checkpoint import merged, ship
from emollm.train.ablation_table import Ablation, Group, tabulate
from emollm.train.grpo import RECIPE, GRPORecipe
from emollm.train.recipe import load_recipe
from emollm.weights import fetch

START = "start"  # folder of the model that all runs start from, in place of a seed
STATES = "face_states_train.safetensors"


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Variant(_Part):
    """One way to train.

    Attributes:
        about: its name in the tables.
        changes: of the GRPO recipe, key by key, dots reach into maps; None is the untrained model that all start from.
        against: a further variant to hold it against, beside the first.
    """

    about: str
    changes: dict[str, Any] | None = None
    against: str | None = None


class Evaluation(_Part):
    """A benchmark, or part of it, as ``emollm eval`` takes them; ``root`` where its data lie elsewhere."""

    benchmark: str
    split: str | None = None
    limit: int | None = None
    root: Path | None = None


class AblationRecipe(_Part):
    """Keys of an ablation; ``train/tiny/ablation.yaml`` explains each."""

    output: Path
    recipe: str
    seeds: list[int] = Field(min_length=1)
    changes: dict[str, Any] = {}
    variants: dict[str, Variant] = Field(min_length=2)
    evaluations: list[Evaluation] = Field(min_length=1)
    thinking: list[bool] = [True, False]
    engine: str = "auto"
    root: Path = Path("datasets")
    only_table: bool = False

    @field_validator("engine")
    @classmethod
    def _engine(cls, engine: str) -> str:
        try:
            check_engine(engine)
        except BadArgumentError as error:
            raise ValueError(str(error)) from None
        if is_url(engine):
            raise ValueError("no server has all variants; name auto, transformers or vllm")
        return engine

    @model_validator(mode="after")
    def _begins_untrained(self) -> AblationRecipe:
        first, *others = [variant.changes is None for variant in self.variants.values()]
        if not first or any(others):
            raise ValueError("the first variant must be without changes, the model that all start from, and no other")
        if unknown := {variant.against for variant in self.variants.values()} - {None, *self.variants}:
            raise ValueError(f"there is no variant {', '.join(map(str, unknown))}")
        return self

    def folders(self, name: str) -> list[Path]:
        """Of the runs of a variant, one a seed; the untrained model has one."""
        seeds = [START] if self.variants[name].changes is None else [f"seed{seed}" for seed in self.seeds]
        return [self.output / name / seed for seed in seeds]


def train_ablation(recipe: AblationRecipe) -> dict[str, str]:
    """Train and evaluate what is missing, then print the tables, and write them as ``ablation.md`` and
    ``ablation.json`` with ``rewards.png`` into the output folder.

    Returns:
        Where they lie.

    Raises:
        BadArgumentError: a folder holds a run by other settings. EmoLLMError: a run, or an evaluation, has failed.
    """
    from rich.console import Console

    if not recipe.only_table:
        for number in range(len(recipe.seeds)):  # one seed of all variants after the other, so that each can be read
            for name in recipe.variants:
                if number < len(recipe.folders(name)):
                    _run(recipe, name, number)
    found = table(recipe)
    found.show(Console(file=sys.stdout))
    return found.write(recipe.output)


def table(recipe: AblationRecipe) -> Ablation:
    """Read the logs and results of all variants."""
    groups = [
        Group(name, variant.about, recipe.folders(name), variant.against) for name, variant in recipe.variants.items()
    ]
    names = [(_name(each, think), think) for each in recipe.evaluations for think in recipe.thinking]
    return tabulate(groups, names)


def _run(recipe: AblationRecipe, name: str, number: int) -> None:
    variant, folder, seed = recipe.variants[name], recipe.folders(name)[number], recipe.seeds[number]
    base = find_card("train", recipe.recipe)
    changes = recipe.changes | (variant.changes or {}) | {"output": str(folder), "seed": seed}
    overrides = [f"{key}={json.dumps(value)}" for key, value in changes.items()]
    wanted = load_recipe(GRPORecipe, base, overrides)
    if wanted.start_from is None or wanted.face_tower is None:
        raise BadArgumentError("An ablation needs a recipe on composed clips, with start_from.")
    if variant.changes is not None:
        _check(wanted)
        if not (folder / "log.json").exists():
            _share_states(wanted, [path for other in recipe.variants for path in recipe.folders(other)])
            emollm("train", "grpo", str(base), *overrides)
    missing = [
        (each, think)
        for each in recipe.evaluations
        for think in recipe.thinking
        if not (folder / _name(each, think) / "result.json").exists()
    ]
    if missing:
        model = folder / "model"
        _make_model(wanted, wanted.start_from if variant.changes is None else folder, model)
        for each, think in missing:
            emollm("eval", each.benchmark, *_options(each, think, model, folder, recipe))
        shutil.rmtree(model)  # made again from the run's folder at any time, and large


def _name(evaluation: Evaluation, think: bool) -> str:
    return Path(evaluation.benchmark).stem + ("" if think else "-no-think")


def _options(each: Evaluation, think: bool, model: Path, folder: Path, recipe: AblationRecipe) -> list[str]:
    given = {
        "model": model,
        "root": each.root or recipe.root,
        "out": folder / _name(each, think),
        "split": each.split,
        "engine": recipe.engine,
        "limit": each.limit,
    }
    options = [part for key, value in given.items() if value is not None for part in (f"--{key}", str(value))]
    return [*options, "--think" if think else "--no-think"]


def _check(wanted: GRPORecipe) -> None:
    note = wanted.output / RECIPE
    if note.exists() and GRPORecipe.model_validate_json(note.read_text(encoding="utf-8")) != wanted:
        raise BadArgumentError(f"The run in {wanted.output} was made by other settings; name another output.")


def _share_states(wanted: GRPORecipe, runs: list[Path]) -> None:
    """What the face tower reads from the training faces takes minutes and is the same in all runs."""
    for run in runs:
        if (run / "log.json").exists() and not (wanted.output / STATES).exists():
            made = GRPORecipe.model_validate_json((run / RECIPE).read_text(encoding="utf-8"))
            if (made.face_tower, made.faces) == (wanted.face_tower, wanted.faces):
                wanted.output.mkdir(parents=True, exist_ok=True)
                os.link(run / STATES, wanted.output / STATES)


def _make_model(recipe: GRPORecipe, run: Path, target: Path) -> None:
    """The model that a run ends with, in the precision that is shipped, as a folder that loads by itself."""
    assert recipe.face_tower is not None
    with TemporaryDirectory() as parts:
        ship(run, recipe.face_tower, Path(parts))
        llm, audio_encoder = recipe.llm or fetch("llm"), recipe.audio_encoder or fetch("audio_encoder")
        model, processor = merged(Path(parts), Path(llm), Path(audio_encoder))
    model.save_pretrained(target)
    processor.save_pretrained(target)


def emollm(*arguments: str) -> None:
    """The command line in a process of its own. Raises EmoLLMError where it fails; it has said why."""
    done = subprocess.run([sys.executable, "-m", "emollm", *arguments], stderr=sys.stderr, check=False)
    if done.returncode:
        raise EmoLLMError(f"'emollm {' '.join(arguments[:2])}' ended with code {done.returncode}.")
