"""What was trained and what it scored on its own: ``training.json`` beside the shipped weights.

``python -m emollm.train.collect`` writes it, the model card is made of it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from emollm.errors import BadArgumentError
from emollm.eval.measure import Score

Interval = tuple[float, float, float]
StageName = Literal["face_start", "face", "voice", "sft_start", "sft"]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Stage(_Part):
    """One training run.

    Attributes:
        recipe: all keys of its recipe as it ran, those left to their defaults too.
        chosen_step: of the checkpoint that was kept, where a validation split chose one.
        hours: wall time; ``hours_from`` the trainer's own clock ("log"), or, where that has not run through, the
            speed between two checkpoints by the times of their files ("checkpoints").
        hardware: what it ran on; None where the run did not note it, and :class:`Training` says what is assumed.
        core_hours: without a GPU, ``hours`` on every core that the process may use: the most it can have been.
        gpu_minutes: ``hours`` in minutes, of a run on a GPU.
    """

    recipe: dict[str, Any]
    seed: int
    steps: int | None = None
    chosen_step: int | None = None
    hours: float | None = None
    hours_from: Literal["log", "checkpoints"] | None = None
    hardware: dict[str, str] | None = None
    core_hours: float | None = None
    gpu_minutes: float | None = None


class ClassScore(_Part):
    recall: float
    count: int


class UnitScore(_Part):
    """F1 at intensity >= 1, and Pearson r; None where it has no value (a constant measurement)."""

    f1: float
    r: float | None


class FaceScores(_Part):
    """What :func:`emollm.train.face_scores.face_scores` gives; intervals are (value, low, high)."""

    faces: int
    war: Interval | None = None
    uar: Interval | None = None
    per_class: dict[str, ClassScore] = Field(default_factory=dict)
    au_f1: Interval | None = None
    au_mae: float | None = None
    per_au: dict[str, UnitScore] = Field(default_factory=dict)

    def score(self, name: Literal["war", "uar", "au_f1"]) -> Score | None:
        found: Interval | None = getattr(self, name)
        return found and Score(name=name, value=found[0], low=found[1], high=found[2], n=self.faces)


class Variant(_Part):
    """A tower that does not ship, for comparison: ``about`` says what it was trained on or how."""

    about: str
    source: str
    scores: FaceScores


class Source(_Part):
    """Faces of one prepared source; ``people`` where it says who is shown."""

    train: int
    valid: int
    people: int | None = None


class Training(_Part):
    """``training.json``: what was trained, at what cost, and what its towers score on their own.

    Attributes:
        trained: when the last of the weights were done; results measured before are of other weights.
        commit: of the code that collected this; ``dirty`` if files differed from it.
        hardware: that this was collected on, and stages ran on that do not name their own.
        parameters: of "face_tower", "voice_head", "adapters" and "lora".
        image_size: side of the crop that the face tower sees, in pixels.
        sources: source -> faces; ``recordings``: split -> utterances of EmoDB.
        face: source -> scores of the face tower on its validation faces.
        voice, folds: ``scores.json`` and ``folds.json`` of :mod:`emollm.train.voice`.
    """

    trained: AwareDatetime
    commit: str | None = None
    dirty: bool = False
    hardware: dict[str, str] = Field(default_factory=dict)
    versions: dict[str, str] = Field(default_factory=dict)
    parameters: dict[str, int] = Field(default_factory=dict)
    image_size: int
    stages: dict[StageName, Stage]
    sources: dict[str, Source] = Field(default_factory=dict)
    recordings: dict[str, int] | None = None
    face: dict[str, FaceScores] = Field(default_factory=dict)
    variants: list[Variant] = Field(default_factory=list)
    voice: dict[str, float] | None = None
    folds: dict[str, float] | None = None

    def save(self, file: Path) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(self.model_dump_json(indent=1) + "\n", encoding="utf-8")


def read_training(file: Path) -> Training:
    """Raises BadArgumentError where there is no such file, or it holds something else."""
    try:
        return Training.model_validate_json(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadArgumentError(f"There is no {file}; make it with: python -m emollm.train.collect.") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise BadArgumentError(f"{file} is wrong at '{where}': {first['msg']}.") from error
