"""Who runs the model: one small protocol for transformers, vLLM and OpenAI-compatible servers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from emollm.emotions import EMOTIONS
from emollm.model.processing_emollm import ClipInputs, EmoLLMProcessor, Placeholders
from emollm.model.towers import TowerMixin, TowerOutput, load_towers
from emollm.reasoning.prompts import Message

MAX_NEW_TOKENS = 320


@dataclass(frozen=True)
class EncodedClip:
    """A clip after the towers.

    Attributes:
        placeholders: what its placeholders stand for.
        states: media arguments of the model (``face_states``, ``face_window_s``, ``audio_states``,
            ``audio_prosody``), one item.
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
        temperature: 0 takes the likeliest token; above it, tokens are drawn, the same ones for the same ``seed``.
    """

    messages: list[Message]
    clip: EncodedClip
    thought: str = ""
    temperature: float = 0.0
    seed: int = 0


#: Declares both modalities missing: for questions that are to be answered from a thought alone.
NO_CLIP = EncodedClip(Placeholders(face=[], audio=0), states={})


@torch.inference_mode()
def encode_clip(clip: ClipInputs, processor: EmoLLMProcessor, towers: TowerMixin, device: str = "cpu") -> EncodedClip:
    """Run the towers, which lie on ``device``, over one clip and person."""
    media = {key: value.to(device) for key, value in processor.pack([clip]).items()}
    states: dict[str, Tensor] = {}
    face_readings = voice_readings = None
    if "face_pixels" in media:
        faces = towers.get_face_features(
            media["face_pixels"], media["face_blendshapes"], media["face_window"], media["face_window_s"]
        )
        states["face_states"], readings, present = _all_there(faces)
        states["face_window_s"] = media["face_window_s"]
        face_readings = readings[0].masked_fill(~present[0, :, None], float("nan")).cpu()
    if "input_features" in media:
        sound = towers.get_audio_features(
            media["input_features"], media["audio_seconds"], media["audio_window_s"], media["audio_prosody"]
        )
        states["audio_states"], readings, _ = _all_there(sound)
        states["audio_prosody"] = media["audio_prosody"]
        voice_readings = readings[0].cpu()
    return EncodedClip(Placeholders.of(clip), states, face_readings, voice_readings)


def _all_there(output: TowerOutput) -> tuple[Tensor, Tensor, Tensor]:
    """The fields of an output, none of which is None after a call."""
    return output.last_hidden_state, output.readings, output.present  # type: ignore[return-value]


class LocalTowers:
    """Towers and processor of a checkpoint in this process, for engines whose language model is elsewhere.

    Args:
        folder: a merged EmoLLM checkpoint.

    Raises:
        WeightsError: the folder holds no EmoLLM checkpoint.
    """

    def __init__(self, folder: Path):
        self.towers = load_towers(folder)
        self.processor = EmoLLMProcessor.from_pretrained(folder)
        # Labels differ in their first token, so the one behind <answer> tells them apart.
        tokenizer = self.processor.tokenizer
        self.label_ids = [tokenizer.encode(label, add_special_tokens=False)[0] for label in EMOTIONS]
        self.answer_id: int = self.towers.config.answer_token_id

    def encode(self, clip: ClipInputs) -> EncodedClip:
        return encode_clip(clip, self.processor, self.towers)


class Engine(Protocol):
    """Encodes a clip once, then answers any number of questions about it, greedily unless a request wants otherwise.

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
