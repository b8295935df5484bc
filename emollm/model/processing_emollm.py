"""The processor: perception of a clip and a text with placeholders to model inputs.

In the text a face is one ``<|face|>`` and a voice one ``<|audio|>`` (the chat template writes both for a video). Each
is expanded to a time-stamped run of placeholders, one per window, three for the summary and one per reading symbol
(:mod:`emollm.model.symbols`), or to words that declare the modality missing::

    face: 0s<|face|><|face|> 1s<|face|><|face|> all<|face|><|face|><|face|> course part<|face|>... part<|face|>...
    voice: none

A picture has no times and no course: ``face:<|face|> all<|face|><|face|><|face|> shows<|face|>...``.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
import torch
from transformers import BatchFeature, ProcessorMixin

from emollm.face.detect import BLENDSHAPES
from emollm.face.track import FaceTrack
from emollm.media.clip import SAMPLE_RATE, Clip
from emollm.model.audio_encoder import CHUNK_SECONDS, PROSODY_SIZE
from emollm.model.configuration_emollm import SUMMARY_TOKENS
from emollm.model.course import MAX_PHASES
from emollm.model.symbols import PHASE_SYMBOLS, STILL_SYMBOLS, VOICE_SYMBOLS
from emollm.voice.prosody import Prosody

FACE_TOKEN, AUDIO_TOKEN = "<|face|>", "<|audio|>"
THINK_TOKENS, ANSWER_TOKENS = ("<think>", "</think>"), ("<answer>", "</answer>")
_PLACEHOLDER = re.compile(f"{re.escape(FACE_TOKEN)}({re.escape(AUDIO_TOKEN)})?|{re.escape(AUDIO_TOKEN)}")
WINDOW_SECONDS = 0.5  # two tokens a second and modality ...
MAX_WINDOWS = 64  # ... up to 32 s; the windows of longer clips are longer


@dataclass(frozen=True)
class ClipInputs:
    """What the model is given of one clip and one person; a missing modality is None.

    ``waveform`` is ``(N,)`` float32 mono 16 kHz and comes with ``prosody``. ``source`` is the clip that all of it was
    taken from, for engines that send it on; the model is not given it.
    """

    duration_s: float
    face: FaceTrack | None = None
    waveform: np.ndarray | None = None
    prosody: Prosody | None = None
    source: Clip | None = field(default=None, repr=False)

    @property
    def window_s(self) -> float:
        return window_seconds(self.duration_s)


def window_seconds(duration_s: float) -> float:
    """Length of a window: half a second, or longer where a clip would need more than ``MAX_WINDOWS``."""
    return max(WINDOW_SECONDS, duration_s / MAX_WINDOWS)


@dataclass(frozen=True)
class Placeholders:
    """What the placeholders of one clip stand for: windows that show the face, in order, and windows of sound.

    ``timed`` is False for a picture, whose only window has no time worth telling.
    """

    face: list[int]
    audio: int
    window_s: float = WINDOW_SECONDS
    timed: bool = True

    @classmethod
    def of(cls, clip: ClipInputs) -> Placeholders:
        shown = sorted(set(face_windows(clip).tolist()) - {-1})
        return cls(shown, audio_window_count(clip), clip.window_s, clip.duration_s > 0)

    @property
    def face_window_s(self) -> float:
        """Seconds of a window as the face tower is given them, 0 for a picture."""
        return self.window_s if self.timed else 0.0


def face_windows(inputs: ClipInputs) -> np.ndarray:
    """``(T,)`` index of the window of each frame, -1 for frames that are not usable."""
    if inputs.face is None:
        return np.zeros(0, np.int64)
    index = np.minimum((inputs.face.times / inputs.window_s + 1e-4).astype(np.int64), MAX_WINDOWS - 1)
    return np.where(inputs.face.usable, index, -1)


def audio_window_count(inputs: ClipInputs) -> int:
    if inputs.waveform is None or inputs.prosody is None:
        return 0
    return min(math.ceil(len(inputs.waveform) / SAMPLE_RATE / inputs.window_s - 1e-4), MAX_WINDOWS)


def _run(name: str, token: str, windows: list[int], clip: Placeholders, symbols: str) -> str:
    """Time-stamped placeholders of one modality and those of its ``symbols``, or the words that it is missing."""
    if not windows:
        return f"{name}: none\n"
    pieces, last = [f"{name}:"], -1
    for window in windows:
        second = int(window * clip.window_s + 1e-4)
        if clip.timed and second != last:
            pieces.append(f" {second}s")
            last = second
        pieces.append(token)
    return "".join([*pieces, " all", token * SUMMARY_TOKENS, symbols, "\n"])


def _face_run(clip: Placeholders) -> str:
    part = " part" + FACE_TOKEN * PHASE_SYMBOLS
    symbols = " course" + part * MAX_PHASES if clip.timed else " shows" + FACE_TOKEN * STILL_SYMBOLS
    return _run("face", FACE_TOKEN, clip.face, clip, symbols)


def _voice_run(clip: Placeholders) -> str:
    return _run("voice", AUDIO_TOKEN, list(range(clip.audio)), clip, " sounds" + AUDIO_TOKEN * VOICE_SYMBOLS)


class EmoLLMProcessor(ProcessorMixin):
    """Joins the tokenizer with the speech encoder's feature extractor and the face tower's crop size.

    Args:
        feature_extractor: log-mel extractor of the audio tower (``WhisperFeatureExtractor``).
        tokenizer: tokenizer of the language model that knows the placeholder and section tokens.
        image_size: side of the face crops that the face tower takes.
    """

    def __init__(self, feature_extractor: Any, tokenizer: Any, image_size: int = 80, chat_template: str | None = None):
        self.image_size = image_size
        super().__init__(feature_extractor, tokenizer, chat_template=chat_template)

    def __call__(
        self, text: str | list[str], clips: list[ClipInputs] | None = None, padding_side: str = "left", **kwargs: Any
    ) -> BatchFeature:
        """Tokenize ``text`` with its placeholders expanded, and pack the media of ``clips``.

        Args:
            text: one text or a batch; every clip has one ``<|face|>``, one ``<|audio|>`` or both adjoining, in order.
            clips: the clips of all texts, in order of appearance.
            padding_side: left for generation, right for training.

        Raises:
            ValueError: the placeholders do not fit the clips.
        """
        texts = [text] if isinstance(text, str) else list(text)
        expanded = self.expand(texts, [Placeholders.of(clip) for clip in clips or []])
        tokens = self.tokenizer(
            expanded, padding=True, padding_side=padding_side, return_tensors="pt", add_special_tokens=False
        )
        media = self.pack(clips) if clips else {}
        return BatchFeature({"input_ids": tokens["input_ids"], "attention_mask": tokens["attention_mask"], **media})

    def expand(self, texts: list[str], clips: list[Placeholders]) -> list[str]:
        """Replace the single placeholders of each text by the run that its clip needs."""
        waiting = iter(clips)

        def fill(match: re.Match[str]) -> str:
            clip = next(waiting, None)
            if clip is None:
                raise ValueError("the text has more placeholders than there are clips")
            face = _face_run(clip) if FACE_TOKEN in match[0] else ""
            return face + (_voice_run(clip) if AUDIO_TOKEN in match[0] else "")

        expanded = [_PLACEHOLDER.sub(fill, text) for text in texts]
        if next(waiting, None) is not None:
            raise ValueError("there are more clips than placeholders in the text")
        return expanded

    def pack(self, clips: list[ClipInputs]) -> dict[str, torch.Tensor]:
        """Media arrays of :class:`EmoLLMModel`, one row a clip; a modality that no clip has is left out."""
        return {**self._pack_faces(clips), **self._pack_sounds(clips)}

    def _pack_faces(self, clips: list[ClipInputs]) -> dict[str, torch.Tensor]:
        frames = max((len(clip.face.times) for clip in clips if clip.face is not None), default=0)
        if frames == 0:
            return {}
        size = self.image_size
        pixels = np.zeros((len(clips), frames, size, size, 3), np.uint8)
        shapes = np.full((len(clips), frames, len(BLENDSHAPES)), np.nan, np.float32)
        window = np.full((len(clips), frames), -1, np.int64)
        for i, clip in enumerate(clips):
            if clip.face is not None:
                count = len(clip.face.times)
                pixels[i, :count] = [
                    cv2.resize(crop, (size, size), interpolation=cv2.INTER_AREA) for crop in clip.face.crops
                ]
                shapes[i, :count] = clip.face.blendshapes
                window[i, :count] = face_windows(clip)
        return {
            "face_pixels": torch.from_numpy(pixels),
            "face_blendshapes": torch.from_numpy(shapes),
            "face_window": torch.from_numpy(window),
            "face_window_s": torch.tensor(
                [Placeholders.of(clip).face_window_s for clip in clips], dtype=torch.float32
            ),
        }

    def _pack_sounds(self, clips: list[ClipInputs]) -> dict[str, torch.Tensor]:
        counts = [audio_window_count(clip) for clip in clips]
        if not any(counts):
            return {}
        seconds = np.zeros(len(clips), np.float32)
        prosody = np.zeros((len(clips), PROSODY_SIZE), np.float32)
        chunks: list[list[np.ndarray]] = []
        step = int(CHUNK_SECONDS * SAMPLE_RATE)
        for i, clip in enumerate(clips):
            sound = clip.waveform if counts[i] and clip.waveform is not None else np.zeros(0, np.float32)
            sound = sound[: int(MAX_WINDOWS * clip.window_s * SAMPLE_RATE)]
            seconds[i] = len(sound) / SAMPLE_RATE
            chunks.append([sound[start : start + step] for start in range(0, len(sound), step)])
            if counts[i] and clip.prosody is not None:
                prosody[i] = clip.prosody.vector()
        flat = [chunk for item in chunks for chunk in item]
        mel = self.feature_extractor(flat, sampling_rate=SAMPLE_RATE, return_tensors="np")["input_features"]
        features = np.zeros((len(clips), max(map(len, chunks)), *mel.shape[1:]), np.float32)
        done = 0
        for i, item in enumerate(chunks):
            features[i, : len(item)] = mel[done : done + len(item)]
            done += len(item)
        return {
            "input_features": torch.from_numpy(features),
            "audio_seconds": torch.from_numpy(seconds),
            "audio_window_s": torch.tensor([clip.window_s for clip in clips], dtype=torch.float32),
            "audio_prosody": torch.from_numpy(prosody),
        }
