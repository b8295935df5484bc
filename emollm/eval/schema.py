"""What evaluation passes around: a sample to ask about, what was replied, and one JSON line of each."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from emollm.report import Verification


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Truth(_Part):
    """Labels of one sample; what is not labelled is None. Label words are the data set's, mapped by its card.

    Attributes:
        emotions: open-vocabulary words.
        votes: label -> share of the raters.
        aus: AU code -> intensity 0-5, or 0/1 where only occurrence is coded.
        sentiment: negative to positive, 0 is neutral.
        text: reference explanation.
    """

    emotion: str | None = None
    emotions: list[str] | None = None
    votes: dict[str, float] | None = None
    valence: float | None = None
    arousal: float | None = None
    sentiment: float | None = None
    aus: dict[str, float] | None = None
    text: str | None = None


class Sample(_Part):
    """One question about one clip.

    Attributes:
        id: unique within the benchmark.
        question: None asks what the benchmark's card asks.
        transcript: as in ``EmoLLM.analyze``.
        start_s, end_s: the part of the clip that is meant; None is the whole.
        groups: fields of the row: speaker, split, group labels.
        base: id of the sample that this one is a variant of, ``variant`` what was done to it.
        thought_of: id of a sample whose thought is to be continued without the clip.
    """

    id: str
    clip: Path
    truth: Truth = Field(default_factory=Truth)
    question: str | None = None
    face_crop: bool = False
    transcript: str = "none"
    start_s: float | None = None
    end_s: float | None = None
    groups: dict[str, str] = Field(default_factory=dict)
    base: str | None = None
    variant: str | None = None
    thought_of: str | None = None


class Measured(_Part):
    """What the towers measured, beside what the model says.

    Attributes:
        aus: AU code -> largest intensity (0-5) of any window.
        expression: label -> mean probability over the windows.
        valence, arousal: in [-1, 1].
    """

    aus: dict[str, float] = Field(default_factory=dict)
    expression: dict[str, float] = Field(default_factory=dict)
    valence: float | None = None
    arousal: float | None = None


class Reply(_Part):
    """What a predictor says to one sample.

    Attributes:
        text: the raw reply with its section tags.
        distribution: the model's probability of each label it may give, empty if it gives none.
        prompt_sha256: of the exact text that the model was given, where it was given one.
    """

    text: str
    distribution: dict[str, float] = Field(default_factory=dict)
    measured: Measured | None = None
    verification: Verification | None = None
    prompt_sha256: str | None = None


class Line(_Part):
    """One sample's line in ``samples.jsonl``.

    Attributes:
        status: ok; unparsed (the reply breaks the grammar, ``error`` says how); failed (the clip could not be read or
            holds nothing to read); skipped (this predictor cannot answer such a sample).
        label: the reply's label as the benchmark names it, None where it gave none or one outside the answer space.
        claimed: AU code -> claimed intensity (None where none was given).
        seconds: time of this sample: its own reading plus its share of its batch's generation.
        commit: of the code that replied, in short, ``+`` where files differed from it; None outside a checkout.
    """

    id: str
    status: Literal["ok", "unparsed", "failed", "skipped"]
    error: str | None = None
    prompt_sha256: str | None = None
    raw: str | None = None
    label: str | None = None
    claimed: dict[str, float | None] = Field(default_factory=dict)
    distribution: dict[str, float] = Field(default_factory=dict)
    measured: Measured | None = None
    verification: Verification | None = None
    seconds: float = 0.0
    commit: str | None = None
