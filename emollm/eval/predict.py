"""Who answers: one protocol for EmoLLM and every baseline."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

from emollm.emotions import EXPRESSIONS
from emollm.engines import is_url
from emollm.errors import EmoLLMError
from emollm.eval.schema import Measured, Reply, Sample
from emollm.facs import AU_CODES, MAX_INTENSITY
from emollm.media.cut import cut

if TYPE_CHECKING:
    from emollm.api import EmoLLM
    from emollm.serve.engine import EncodedClip, Generation, Request


class CannotAnswerError(EmoLLMError):
    """This predictor cannot answer such a sample whatever the clip holds, as a face model cannot judge a recording."""


class Predictor(Protocol):
    """Answers samples in the grammar of :mod:`emollm.reasoning.parse`, without a thought unless it is a `Thinker`.

    Attributes:
        name: as shown in tables.
    """

    name: str

    def describe(self) -> dict[str, str]:
        """Versions, checkpoint digest, settings: what decides its answers. A run goes on only with equal ones."""
        ...

    def prepare(self, sample: Sample, question: str) -> Any:
        """Read the clip. Called ahead of :meth:`answer`, in several background threads at once.

        Raises:
            EmoLLMError: the clip cannot be read. CannotAnswerError: not a sample for this predictor.
        """
        ...

    def answer(self, prepared: list[Any], think: bool) -> list[Reply]:
        """Reply to one batch, in order. What it raises ends the run."""
        ...


@runtime_checkable
class Thinker(Predictor, Protocol):
    """A predictor whose replies begin with a thought when it is asked to think, and that can go on from a thought."""

    def prepare_thought(self, question: str, thought: str) -> Any:
        """As :meth:`Predictor.prepare`, without a clip. ``thought``: the beginning of a reply, up to its answer."""
        ...


@dataclass(frozen=True)
class _Question:
    """A request, and how long its clip is; None where it has no clip."""

    request: Request
    duration_s: float | None


class EmoLLMPredictor:
    """EmoLLM through its engine, the whole way that a user's clip goes; the main person is asked about."""

    def __init__(self, model: EmoLLM):
        self.model, self.name = model, model.name

    def describe(self) -> dict[str, str]:
        from emollm import __version__

        return {"model": self.name, "emollm": __version__, **self._engine}

    @cached_property
    def _engine(self) -> dict[str, str]:
        """Read once: it takes a digest of all the weights, and those that are loaded stay the same."""
        return self.model.engine.describe()

    def prepare(self, sample: Sample, question: str) -> _Question:
        """Read, perceive and encode the clip."""
        from emollm.api import clip_inputs
        from emollm.media.clip import read_clip
        from emollm.perceive import perceive
        from emollm.reading import choose_people
        from emollm.reasoning.prompts import clip_message
        from emollm.serve.engine import Request

        clip = read_clip(sample.clip, transcript=sample.transcript)
        if sample.start_s is not None or sample.end_s is not None:
            clip = cut(clip, sample.start_s or 0.0, sample.end_s)
        perception = perceive(clip, face_crop=sample.face_crop)
        encoded = self.model.engine.encode(clip_inputs(perception, choose_people(perception, "main")[0]))
        said = " ".join(segment.text for segment in clip.transcript)
        return _Question(Request([clip_message(question, said)], encoded), clip.duration_s)

    def prepare_thought(self, question: str, thought: str) -> _Question:
        if is_url(self.model.engine.name):
            raise CannotAnswerError("A server cannot be asked to go on from a thought.")
        from emollm.reasoning.prompts import clip_message
        from emollm.serve.engine import NO_CLIP, Request

        return _Question(Request([clip_message(question)], NO_CLIP, thought), None)

    def answer(self, prepared: list[_Question], think: bool) -> list[Reply]:
        generations = self.model.engine.generate_batch([asked.request for asked in prepared], think)
        return [_reply(asked, generation) for asked, generation in zip(prepared, generations, strict=True)]


def _reply(asked: _Question, generation: Generation) -> Reply:
    reply = Reply(
        text=generation.text,
        distribution={label: round(share, 6) for label, share in generation.distribution.items()},
        prompt_sha256=sha256(generation.prompt.encode()).hexdigest(),
    )
    if asked.duration_s is not None:
        from emollm.api import describe_person
        from emollm.reasoning.parse import parse_answer

        clip = asked.request.clip
        report = describe_person(parse_answer(generation.text), generation.distribution, clip, asked.duration_s)
        reply.verification = report.verification
        reply.measured = measured(clip)
        reply.measured.valence, reply.measured.arousal = report.valence, report.arousal
    return reply


def measured(clip: EncodedClip) -> Measured:
    """What the face tower read over the whole clip; empty without a face."""
    if clip.face_readings is None or clip.face_readings.isnan().all():
        return Measured()
    face = clip.face_readings.numpy()
    units = MAX_INTENSITY * np.nanmax(face[:, : len(AU_CODES)], axis=0)
    shares = np.nanmean(face[:, len(AU_CODES) : len(AU_CODES) + len(EXPRESSIONS)], axis=0)
    return Measured(
        aus={code: round(float(value), 3) for code, value in zip(AU_CODES, units)},
        expression={label: round(float(share), 4) for label, share in zip(EXPRESSIONS, shares)},
    )
