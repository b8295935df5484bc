"""Who runs the model: one small protocol for transformers, vLLM and OpenAI-compatible servers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Protocol

from torch import Tensor

from emollm.engines import check_engine
from emollm.errors import EngineError
from emollm.model.processing_emollm import ClipInputs, Placeholders
from emollm.reasoning.prompts import Message

MAX_NEW_TOKENS = 320


@dataclass(frozen=True)
class EncodedClip:
    """A clip after the towers.

    Attributes:
        placeholders: what its placeholders stand for.
        states: media arguments of the model (``face_states``, ``audio_states``, ``audio_prosody``), one item.
        face_readings: ``(W, R)`` AUs / 5, expression probabilities, valence, arousal per window; NaN rows without
            a face. None where no face is.
        voice_readings: ``(R,)`` emotion probabilities, valence, arousal, or None.
    """

    placeholders: Placeholders
    states: dict[str, Tensor]
    face_readings: Tensor | None = None
    voice_readings: Tensor | None = None


@dataclass
class Generation:
    """One finished reply.

    Attributes:
        text: with section tags, and with the thought that it goes on from.
        distribution: probability of each label where the label is written; empty if no answer was begun.
        prompt: the exact text that was replied to, every placeholder in it, without that thought.
    """

    text: str = ""
    distribution: dict[str, float] = field(default_factory=dict)
    prompt: str = ""


@dataclass(frozen=True)
class Request:
    """One question of a batch.

    Attributes:
        messages: as the chat template takes them.
        clip: the clip that the first message is about.
        thought: beginning of the reply, such as ``<think>...</think>\\n``; the model goes on from there.
    """

    messages: list[Message]
    clip: EncodedClip
    thought: str = ""


#: Declares both modalities missing: for questions that are to be answered from a thought alone.
NO_CLIP = EncodedClip(Placeholders(face=[], audio=0), states={})


class Engine(Protocol):
    """Encodes a clip once, then answers any number of questions about it, greedily.

    Attributes:
        name: as reports show it, such as ``transformers``.
    """

    name: str

    def describe(self) -> dict[str, str]:
        """What decides the replies: checkpoint digest, engine, device, dtype, versions."""
        ...

    def encode(self, clip: ClipInputs) -> EncodedClip:
        """Run the towers over one clip and person. May be called from several threads at once."""
        ...

    def stream(
        self, messages: list[Message], clip: EncodedClip, think: bool, result: Generation | None = None
    ) -> Iterator[str]:
        """Yield the reply piece by piece, section tags included; ``result`` is filled when it is finished."""
        ...

    def generate_batch(self, requests: list[Request], think: bool) -> list[Generation]:
        """Whole replies to several requests, in order, clips with and without a face or a voice mixed."""
        ...


def checkpoint_digest(folder: Path) -> str:
    """SHA-256 over every file of a checkpoint; over its name where it is not a folder but a hub id."""
    digest = sha256()
    for file in sorted(folder.rglob("*")) if folder.is_dir() else []:
        if file.is_file():
            with file.open("rb") as opened:
                while block := opened.read(1 << 20):
                    digest.update(block)
    digest.update(b"" if folder.is_dir() else str(folder).encode())
    return digest.hexdigest()


def load_engine(name: str, folder: Path) -> Engine:
    """The engine of that name over a merged checkpoint; ``auto`` takes the best that this machine has.

    Raises:
        WeightsError: the folder holds no EmoLLM checkpoint. BadArgumentError: no such engine.
    """
    check_engine(name)
    if name not in ("auto", "transformers"):
        raise EngineError(f"The engine {name} is not built in yet.")
    from emollm.serve.transformers_engine import TransformersEngine

    return TransformersEngine(folder)
