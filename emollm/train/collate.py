"""Records to batches: expanded placeholders, tower states, labels on what the model itself is to write."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from emollm.data.clip_states import ClipEncoder
from emollm.data.compose import Composed, FaceStates, face_course
from emollm.data.schema import Record
from emollm.data.voices import Voices
from emollm.model.processing_emollm import WINDOW_SECONDS, EmoLLMProcessor, Placeholders

IGNORED = -100
_ASSISTANT, _END = "<|im_start|>assistant\n", "<|im_end|>"


@dataclass
class Example:
    """One dialogue and the tower states of its clip.

    Attributes:
        face: ``(W, D)``, NaN where there is no face.
        sound: ``(V, 2 * A)``, no rows where there is no voice.
        prosody: ``(8,)``.
    """

    messages: list[dict[str, Any]]
    think: bool
    face: np.ndarray
    sound: np.ndarray
    prosody: np.ndarray
    timed: bool
    window_s: float = WINDOW_SECONDS

    @property
    def placeholders(self) -> Placeholders:
        shown = np.flatnonzero(~np.isnan(self.face).any(-1)).tolist()
        return Placeholders(shown, len(self.sound), self.window_s, self.timed)


class _Collator(ABC):
    """Collator for SFT: right-padded tokens, one clip a record, media arrays with the clips along dim 0."""

    def __init__(self, processor: EmoLLMProcessor):
        self.processor = processor
        self._header = processor.tokenizer.encode(_ASSISTANT, add_special_tokens=False)
        self._end = processor.tokenizer.convert_tokens_to_ids(_END)

    @abstractmethod
    def example(self, row: dict[str, str]) -> Example:
        """The dialogue and media of one row."""

    def __call__(self, rows: list[dict[str, str]]) -> dict[str, Tensor]:
        examples = [self.example(row) for row in rows]
        texts = [
            self.processor.apply_chat_template(one.messages, tokenize=False, enable_thinking=one.think)
            for one in examples
        ]
        # Each text names the placeholders that it has; a record whose message is an image says nothing of a voice.
        texts = self.processor.expand(texts, [one.placeholders for one in examples])
        tokens = self.processor.tokenizer(
            texts, padding=True, padding_side="right", return_tensors="pt", add_special_tokens=False
        )
        return {
            "input_ids": tokens["input_ids"],
            "attention_mask": tokens["attention_mask"],
            "labels": self._labels(tokens["input_ids"], tokens["attention_mask"]),
            "face_states": _pad([one.face for one in examples]),
            "face_window_s": torch.tensor([one.placeholders.face_window_s for one in examples]),
            "audio_states": _pad([one.sound for one in examples]),
            "audio_prosody": torch.from_numpy(np.stack([one.prosody for one in examples])),
        }

    def _labels(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """The ids of the last assistant turn with its end token, everything else ignored."""
        labels = torch.full_like(input_ids, IGNORED)
        for row, ids in enumerate(input_ids.tolist()):
            length = int(attention_mask[row].sum())
            width = len(self._header)
            starts = [i + width for i in range(length - width) if ids[i : i + width] == self._header]
            end = ids.index(self._end, starts[-1])
            labels[row, starts[-1] : end + 1] = input_ids[row, starts[-1] : end + 1]
        return labels


class ComposedCollator(_Collator):
    """Of composed records."""

    def __init__(self, processor: EmoLLMProcessor, faces: FaceStates, voices: Voices):
        super().__init__(processor)
        self.faces, self.voices = faces, voices

    def example(self, row: dict[str, str]) -> Example:
        record = Composed.from_json(row["record"])
        course = face_course(record, self.faces)
        voice = record.voice
        prosody = np.zeros(8, np.float32) if voice is None else self.voices.vector[voice]
        return Example(
            record.messages, record.think, course, self._sound(record), prosody, record.timed, record.window_s
        )

    def _sound(self, record: Composed) -> np.ndarray:
        """``(W, 2 * D)`` states of the record's voice, no rows where there is none."""
        if record.voice is None:
            return np.zeros((0, self.voices.states.shape[-1]), np.float32)
        states = self.voices.states[record.voice]
        return states[~np.isnan(states).any(-1)]


class ClipCollator(_Collator):
    """Of records about real clips (:class:`emollm.data.schema.Record`), whose states are cached.

    Args:
        folder: of the file of records, which their paths are relative to.
    """

    AS_VIDEO = 0.6  # share of pictures and sounds that are shown as ``analyze`` shows them: as videos that lack a part

    def __init__(self, processor: EmoLLMProcessor, encoder: ClipEncoder, folder: Path):
        super().__init__(processor)
        self.encoder, self.folder = encoder, folder

    def example(self, row: dict[str, str]) -> Example:
        record = Record.model_validate_json(row["record"])
        states = self.encoder.states(record, self.folder)
        without = record.without or ""
        messages = record.chat()
        if hashlib.sha256(record.id.encode()).digest()[0] < 256 * self.AS_VIDEO or without:
            for part in messages[0]["content"]:
                part["type"] = "text" if part["type"] == "text" else "video"
        media = {part["type"] for part in messages[0]["content"]}
        face = states.face[:0] if without == "face" or "audio" in media else states.face
        sound = states.sound[:0] if without == "voice" or "image" in media else states.sound
        prosody = states.prosody if len(sound) else np.zeros_like(states.prosody)
        return Example(messages, record.think, face, sound, prosody, states.duration_s > 0, states.window_s)


def _pad(parts: list[np.ndarray]) -> Tensor:
    """``(I, longest, D)`` with NaN behind each part's end."""
    longest = max(1, *(len(part) for part in parts))
    padded = np.full((len(parts), longest, parts[0].shape[-1]), np.nan, np.float32)
    for row, part in enumerate(parts):
        padded[row, : len(part)] = part
    return torch.from_numpy(padded)
