"""Voices for training: EmoDB utterances, several takes of each (as recorded, and altered), as audio-tower states.

The audio tower is frozen, so its states are computed once and cached; everything after them is trained from the cache.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import track as progress
from transformers import AutoFeatureExtractor
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from emollm.data.alter import CONDITIONS, alter
from emollm.data.arrays import Arrays
from emollm.emotions import EMOTIONS
from emollm.errors import BadArgumentError
from emollm.media.clip import read_clip
from emollm.media.decode import SAMPLE_RATE
from emollm.model.audio_encoder import CHUNK_SECONDS, encode_chunks, pool_layers
from emollm.model.processing_emollm import WINDOW_SECONDS
from emollm.voice.prosody import Prosody, measure_prosody

# Letter of the file name (sixth character) to label, Burkhardt et al. 2005.
EMODB_LETTERS = {
    "W": "anger", "L": "boredom", "E": "disgust", "A": "fear", "F": "happiness", "T": "sadness", "N": "neutral",
}  # fmt: skip
# Two speakers, a man and a woman, are never trained on: 15 and 16. Speakers 13 and 10 choose among models.
TEST_SPEAKERS, VALID_SPEAKERS = ("15", "16"), ("10", "13")
PROSODY_FIELDS = tuple(Prosody.__dataclass_fields__)
RECORDED = 0  # the take that is the recording itself


@dataclass
class Voices(Arrays):
    """``N`` takes of utterances.

    Attributes:
        states: ``(N, W, 2 * D * (1 + L))`` float32, mean and deviation of encoder frames per half-second window, of
            the tower's last layer and then of ``L`` earlier ones; NaN behind the end.
        prosody: ``(N, 8)`` raw numbers in the order of :class:`Prosody`'s fields, NaN where unmeasured.
        vector: ``(N, 8)`` what the model sees of them.
        emotion: ``(N,)`` label of :data:`EMOTIONS`.
        speaker, name: ``(N,)`` as in the corpus.
        take: ``(N,)`` 0 is as recorded, -1 - i is condition i of :data:`CONDITIONS`, others are altered at random.
        split: ``(N,)`` train, valid or test by speaker; takes under a condition are ``condition``, for measuring only.
    """

    states: np.ndarray
    prosody: np.ndarray
    vector: np.ndarray
    emotion: np.ndarray
    speaker: np.ndarray
    name: np.ndarray
    take: np.ndarray
    split: np.ndarray

    def __len__(self) -> int:
        return len(self.take)

    def prosody_of(self, row: int) -> Prosody:
        numbers = [None if math.isnan(value) else float(value) for value in self.prosody[row]]
        return Prosody(**dict(zip(PROSODY_FIELDS, numbers)))  # type: ignore[arg-type]


@dataclass(frozen=True)
class Ear:
    """The frozen audio tower as the model will use it: ``layers`` and ``context_s`` of :func:`encode_chunks`."""

    encoder: WhisperEncoder
    extractor: Any
    layers: Sequence[int] = ()
    context_s: float | None = None

    @classmethod
    def load(cls, folder: Path, layers: Sequence[int] = (), context_s: float | None = None) -> Ear:
        encoder = WhisperEncoder.from_pretrained(folder).eval()
        return cls(encoder, AutoFeatureExtractor.from_pretrained(folder), layers, context_s)

    @torch.no_grad()
    def states(self, sound: np.ndarray) -> np.ndarray:
        """``(W, 2 * D * (1 + L))`` float32 per half-second window of a sound of at most 30 s."""
        mel = self.extractor(sound, sampling_rate=SAMPLE_RATE, return_tensors="pt")["input_features"]
        seconds = torch.tensor([len(sound) / SAMPLE_RATE])
        windows = math.ceil(float(seconds) / WINDOW_SECONDS - 1e-4)
        hidden = encode_chunks(self.encoder, mel, seconds, self.layers, self.context_s)
        rate = self.encoder.config.max_source_positions / CHUNK_SECONDS
        layers = 1 + len(self.layers)
        states = pool_layers(hidden, seconds, torch.tensor([WINDOW_SECONDS]), windows, rate, layers)
        return states[0].numpy().astype(np.float32)


def prepare_emodb(root: Path, ear: Ear, takes: int = 4, seed: int = 0, conditions: bool = False) -> Voices:
    """Read EmoDB in its original layout (``wav/03a01Fa.wav``) and encode ``takes`` takes of each utterance.

    With ``conditions``, each utterance is encoded under each of :data:`CONDITIONS` too.

    Raises:
        BadArgumentError: ``root`` holds no EmoDB.
    """
    files = sorted((root / "wav").glob("*.wav"))
    if not files:
        raise BadArgumentError(f"{root} holds no EmoDB (no wav/*.wav).")
    measured = range(-len(CONDITIONS), 0) if conditions else range(0)
    columns: dict[str, list] = {key: [] for key in Voices.__dataclass_fields__}
    for file in progress(files, description="EmoDB"):
        recorded = read_clip(file).waveform
        assert recorded is not None
        for take in (*range(takes), *measured):
            sound = _take(recorded, take, np.random.default_rng([seed, zlib.crc32(file.stem.encode()), take % 2**16]))
            prosody = measure_prosody(sound)
            if prosody is None:
                continue
            columns["states"].append(ear.states(sound))
            numbers = [getattr(prosody, key) for key in PROSODY_FIELDS]
            columns["prosody"].append([np.nan if number is None else number for number in numbers])
            columns["vector"].append(prosody.vector())
            columns["emotion"].append(EMODB_LETTERS[file.stem[5]])
            columns["speaker"].append(file.stem[:2])
            columns["name"].append(file.stem)
            columns["take"].append(take)
            columns["split"].append(_split(file.stem[:2]) if take >= 0 else "condition")
    longest = max(len(states) for states in columns["states"])
    columns["states"] = [np.pad(s, ((0, longest - len(s)), (0, 0)), constant_values=np.nan) for s in columns["states"]]
    assert set(columns["emotion"]) <= set(EMOTIONS)
    return Voices(**{key: np.array(values) for key, values in columns.items()})


def _take(recorded: np.ndarray, take: int, random: np.random.Generator) -> np.ndarray:
    if take == RECORDED:
        return recorded
    if take < 0:
        return np.asarray(list(CONDITIONS.values())[-1 - take](recorded, random), np.float32)
    return alter(recorded, random)


def _split(speaker: str) -> str:
    return "test" if speaker in TEST_SPEAKERS else "valid" if speaker in VALID_SPEAKERS else "train"
