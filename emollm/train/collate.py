"""Composed records to batches: expanded placeholders, tower states, labels on what the model itself is to write."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from emollm.data.compose import Composed, FaceStates, face_course
from emollm.data.voices import Voices
from emollm.model.processing_emollm import EmoLLMProcessor, Placeholders

IGNORED = -100
_ASSISTANT, _END = "<|im_start|>assistant\n", "<|im_end|>"


class ComposedCollator:
    """Collator for SFT: right-padded tokens, one clip a record, media arrays with the clips along dim 0.

    Args:
        flicker_seed: seeds the frame-to-frame flicker of composed faces; None leaves them still.
    """

    def __init__(self, processor: EmoLLMProcessor, faces: FaceStates, voices: Voices, flicker_seed: int | None = None):
        self.processor, self.faces, self.voices = processor, faces, voices
        self.flicker_seed = flicker_seed
        self._header = processor.tokenizer.encode(_ASSISTANT, add_special_tokens=False)
        self._end = processor.tokenizer.convert_tokens_to_ids(_END)

    def __call__(self, rows: list[dict[str, str]]) -> dict[str, Tensor]:
        records = [Composed.from_json(row["record"]) for row in rows]
        texts = [
            self.processor.apply_chat_template(record.messages, tokenize=False, enable_thinking=record.think)
            for record in records
        ]
        courses = [face_course(record, self.faces, self._random(record)) for record in records]
        sounds = [self._sound(record) for record in records]
        # Each text names the placeholders that it has; a record whose message is an image says nothing of a voice.
        texts = self.processor.expand(
            texts,
            [
                Placeholders(np.flatnonzero(~np.isnan(face).any(-1)).tolist(), len(sound), timed=record.timed)
                for record, face, sound in zip(records, courses, sounds)
            ],
        )
        tokens = self.processor.tokenizer(
            texts, padding=True, padding_side="right", return_tensors="pt", add_special_tokens=False
        )
        prosody = [self._prosody(record) for record in records]
        batch = {
            "input_ids": tokens["input_ids"],
            "attention_mask": tokens["attention_mask"],
            "labels": self._labels(tokens["input_ids"], tokens["attention_mask"]),
            "face_states": _pad(courses),
            "audio_states": _pad(sounds),
            "audio_prosody": torch.from_numpy(np.stack(prosody)),
        }
        return batch

    def _random(self, record: Composed) -> np.random.Generator | None:
        """Seeded by the record, not by its turn, so that a resumed run flickers as an unbroken one."""
        if self.flicker_seed is None:
            return None
        return np.random.default_rng([self.flicker_seed, *(number for part in record.faces for number in part)])

    def _sound(self, record: Composed) -> np.ndarray:
        """``(W, 2 * D)`` states of the record's voice, no rows where there is none."""
        if record.voice is None:
            return np.zeros((0, self.voices.states.shape[-1]), np.float32)
        states = self.voices.states[record.voice]
        return states[~np.isnan(states).any(-1)]

    def _prosody(self, record: Composed) -> np.ndarray:
        return np.zeros(8, np.float32) if record.voice is None else self.voices.vector[record.voice]

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


def _pad(parts: list[np.ndarray]) -> Tensor:
    """``(I, longest, D)`` with NaN behind each part's end."""
    longest = max(1, *(len(part) for part in parts))
    padded = np.full((len(parts), longest, parts[0].shape[-1]), np.nan, np.float32)
    for row, part in enumerate(parts):
        padded[row, : len(part)] = part
    return torch.from_numpy(padded)
