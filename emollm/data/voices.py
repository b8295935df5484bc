"""Voices for training: EmoDB utterances, several takes of each (as recorded, and altered), as audio-tower states.

The audio tower is frozen, so its states are computed once and cached; everything after them is trained from the cache.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import librosa
import numpy as np
import torch
from rich.progress import track as progress
from transformers import AutoFeatureExtractor
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from emollm.data.arrays import Arrays
from emollm.emotions import EMOTIONS
from emollm.errors import BadArgumentError
from emollm.media.clip import read_clip
from emollm.media.decode import SAMPLE_RATE
from emollm.model.audio_encoder import pool_windows
from emollm.model.processing_emollm import WINDOW_SECONDS
from emollm.voice.prosody import Prosody, measure_prosody

# Letter of the file name (sixth character) to label, Burkhardt et al. 2005.
EMODB_LETTERS = {
    "W": "anger", "L": "boredom", "E": "disgust", "A": "fear", "F": "happiness", "T": "sadness", "N": "neutral",
}  # fmt: skip
# Two speakers, a man and a woman, are never trained on: 15 and 16. Speakers 13 and 10 choose among models.
TEST_SPEAKERS, VALID_SPEAKERS = ("15", "16"), ("10", "13")
PROSODY_FIELDS = tuple(Prosody.__dataclass_fields__)


@dataclass
class Voices(Arrays):
    """``N`` takes of utterances.

    Attributes:
        states: ``(N, W, 2 * D)`` float32, mean and deviation of encoder frames per half-second window; NaN behind
            the end.
        prosody: ``(N, 8)`` raw numbers in the order of :class:`Prosody`'s fields, NaN where unmeasured.
        vector: ``(N, 8)`` what the model sees of them.
        emotion: ``(N,)`` label of :data:`EMOTIONS`.
        speaker, name: ``(N,)`` as in the corpus.
        take: ``(N,)`` 0 is as recorded.
        split: ``(N,)`` train, valid or test, by speaker.
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


def alter(sound: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Another take: speed, gain, microphone, room and noise vary; pitch only as far as it stays the person."""
    sound = librosa.effects.time_stretch(sound, rate=random.uniform(0.88, 1.14))
    sound = librosa.effects.pitch_shift(sound, sr=SAMPLE_RATE, n_steps=random.uniform(-1.2, 1.2))
    if random.random() < 0.4:  # a duller or thinner microphone
        spectrum = np.fft.rfft(sound)
        frequency = np.fft.rfftfreq(len(sound), 1 / SAMPLE_RATE)
        low, high = random.uniform(20, 250), random.uniform(3000, 7500)
        sound = np.fft.irfft(spectrum / (1 + (low / (frequency + 1)) ** 4) / (1 + (frequency / high) ** 4), len(sound))
    if random.random() < 0.4:  # a room: exponentially decaying noise tail
        length = int(random.uniform(0.1, 0.4) * SAMPLE_RATE)
        tail = random.standard_normal(length) * np.exp(-6 * np.arange(length) / length) * random.uniform(0.02, 0.08)
        tail[0] = 1.0
        sound = np.convolve(sound, tail)[: len(sound)]
    if random.random() < 0.6:
        level = np.sqrt(np.mean(sound**2)) * 10 ** (-random.uniform(10, 30) / 20)
        sound = sound + level * random.standard_normal(len(sound))
    sound = sound / (np.abs(sound).max() + 1e-9) * 10 ** (-random.uniform(0, 20) / 20)
    return sound.astype(np.float32)


def prepare_emodb(root: Path, encoder_folder: Path, takes: int = 4, seed: int = 0) -> Voices:
    """Read EmoDB in its original layout (``wav/03a01Fa.wav``) and encode ``takes`` takes of each utterance."""
    files = sorted((root / "wav").glob("*.wav"))
    if not files:
        raise BadArgumentError(f"{root} holds no EmoDB (no wav/*.wav).")
    encoder = WhisperEncoder.from_pretrained(encoder_folder).eval()
    extractor = AutoFeatureExtractor.from_pretrained(encoder_folder)
    random = np.random.default_rng(seed)
    columns: dict[str, list] = {key: [] for key in Voices.__dataclass_fields__}
    for file in progress(files, description="EmoDB"):
        recorded = read_clip(file).waveform
        assert recorded is not None
        for take in range(takes):
            sound = recorded if take == 0 else alter(recorded, random)
            measured = measure_prosody(sound)
            if measured is None:
                continue
            columns["states"].append(encode(sound, encoder, extractor))
            numbers = [getattr(measured, key) for key in PROSODY_FIELDS]
            columns["prosody"].append([np.nan if number is None else number for number in numbers])
            columns["vector"].append(measured.vector())
            columns["emotion"].append(EMODB_LETTERS[file.stem[5]])
            speaker = file.stem[:2]
            columns["speaker"].append(speaker)
            columns["name"].append(file.stem)
            columns["take"].append(take)
            columns["split"].append(
                "test" if speaker in TEST_SPEAKERS else "valid" if speaker in VALID_SPEAKERS else "train"
            )
    longest = max(len(states) for states in columns["states"])
    columns["states"] = [np.pad(s, ((0, longest - len(s)), (0, 0)), constant_values=np.nan) for s in columns["states"]]
    assert set(columns["emotion"]) <= set(EMOTIONS)
    return Voices(**{key: np.array(values) for key, values in columns.items()})


@torch.no_grad()
def encode(sound: np.ndarray, encoder: WhisperEncoder, extractor: object) -> np.ndarray:
    """States of a sound of at most 30 s: ``(W, 2 * D)`` float32 per half-second window."""
    mel = extractor(sound, sampling_rate=SAMPLE_RATE, return_tensors="pt")["input_features"]  # type: ignore[operator]
    seconds = len(sound) / SAMPLE_RATE
    windows = math.ceil(seconds / WINDOW_SECONDS - 1e-4)
    hidden = encoder(mel).last_hidden_state
    states = pool_windows(hidden, torch.tensor([seconds]), torch.tensor([WINDOW_SECONDS]), windows)
    return states[0].numpy().astype(np.float32)
