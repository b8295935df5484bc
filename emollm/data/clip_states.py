"""Clips after the towers: perceived and encoded once, kept as small files, used for explanations and for training.

A clip's file is named by the clip (path, size, time of change), the part of it that is meant, and the towers' weights.
Each is written whole or not at all, so a run that was killed goes on with the next clip.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from emollm.data.schema import Record
from emollm.errors import EmoLLMError, WeightsError
from emollm.model.checkpoint import default_model
from emollm.model.modeling_emollm import EmoLLMForConditionalGeneration
from emollm.model.processing_emollm import ClipInputs, EmoLLMProcessor
from emollm.model.towers import MediaTowers, load_towers
from emollm.weights import cache_dir

_TOWERS = ("model.face_tower.", "model.audio_tower.", "model.voice_head.")
_VERSION = 1  # raise it when perception or this file's form changes


@dataclass
class ClipStates:
    """What the model knows of one clip and its main person.

    Attributes:
        face: ``(W, D)`` float32 states per window, NaN rows without a face, no rows where no face is at all.
        sound: ``(V, audio_state_size)`` float32 states per window of sound, no rows without a voice.
        prosody: ``(8,)`` float32, standardised.
        voice_readings: ``(R,)`` emotion probabilities, valence, arousal; empty without a voice.
        face_readings: number of last columns of ``face`` that are readings: AUs / 5, expressions, valence, arousal.
        window_s: length of a window.
        duration_s: 0 for a picture.
        voice: prosody in words, None without a voice.
        said: transcript.
    """

    face: np.ndarray
    sound: np.ndarray
    prosody: np.ndarray
    voice_readings: np.ndarray
    face_readings: int
    window_s: float
    duration_s: float
    voice: str | None = None
    said: str = ""

    def save(self, file: Path) -> None:
        arrays = {key: value for key, value in vars(self).items() if isinstance(value, np.ndarray)}
        plain = {key: value for key, value in vars(self).items() if key not in arrays}
        file.parent.mkdir(parents=True, exist_ok=True)
        part = file.with_name(f"{file.name}.{os.getpid()}.part")
        save_file(arrays, part, metadata={"plain": json.dumps(plain)})
        part.replace(file)

    @classmethod
    def load(cls, file: Path) -> ClipStates:
        with safe_open(file, framework="numpy") as opened:
            plain = json.loads(opened.metadata()["plain"])
            return cls(**{key: opened.get_tensor(key) for key in opened.keys()}, **plain)  # noqa: SIM118


class ClipEncoder:
    """Perceives and encodes the clips of records with the towers of a checkpoint, loaded when first needed.

    Args:
        model: folder of a merged checkpoint; None is the embedded default.
        cache: where states are kept; None is the user's cache folder.
    """

    def __init__(self, model: Path | None = None, cache: Path | None = None):
        self.folder = model or default_model()
        self.cache = (cache or cache_dir() / "clips") / towers_digest(self.folder)[:16]
        self._loaded: tuple[MediaTowers, EmoLLMProcessor] | None = None
        self._lock = Lock()

    def file_of(self, record: Record, folder: Path) -> Path:
        """Where the states of a record's clip are kept; ``folder`` is that of the file of records."""
        clip = folder / record.media[0]
        about = clip.stat()
        parts = [os.path.abspath(clip), about.st_size, about.st_mtime_ns, record.start_s, record.end_s]
        key = json.dumps([_VERSION, *parts, record.face_crop, record.transcript])
        return self.cache / f"{hashlib.sha256(key.encode()).hexdigest()}.safetensors"

    def states(self, record: Record, folder: Path) -> ClipStates:
        """The states of a record's clip, from the cache where it has them.

        Raises:
            ClipError: the clip is missing or cannot be read. NothingToReadError: neither a face nor a voice.
        """
        from emollm.errors import ClipError

        try:
            file = self.file_of(record, folder)
        except OSError as error:
            raise ClipError(f"There is no file {record.media[0]}.") from error
        try:
            return ClipStates.load(file)
        except (OSError, SafetensorError, ValueError):
            states = self._encode(record, folder / record.media[0])
            states.save(file)
            return states

    def all(
        self, records: Sequence[Record], folder: Path, on_progress: Callable[[int, int], None] | None = None
    ) -> Iterator[tuple[Record, ClipStates | EmoLLMError]]:
        """Each record with its states, or with what is wrong with its clip; several clips are read at once."""
        with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
            try:
                found = pool.map(lambda record: self.attempt(record, folder), records)
                for done, (record, states) in enumerate(zip(records, found), start=1):
                    if on_progress:
                        on_progress(done, len(records))
                    yield record, states
            finally:
                pool.shutdown(cancel_futures=True)

    def attempt(self, record: Record, folder: Path) -> ClipStates | EmoLLMError:
        """As :meth:`states`, with what is wrong with the clip in their place."""
        try:
            return self.states(record, folder)
        except WeightsError:
            raise
        except EmoLLMError as error:
            return error

    def _model(self) -> tuple[MediaTowers, EmoLLMProcessor]:
        with self._lock:
            if self._loaded is None:
                model, processor = load_towers(self.folder), EmoLLMProcessor.from_pretrained(self.folder)
                self._loaded = model.to("cuda" if torch.cuda.is_available() else "cpu"), processor
            return self._loaded

    def _encode(self, record: Record, path: Path) -> ClipStates:
        from emollm.media.clip import read_clip
        from emollm.media.cut import cut
        from emollm.perceive import perceive

        clip = read_clip(path, transcript="none" if record.transcript else "auto")
        if record.start_s is not None or record.end_s is not None:
            clip = cut(clip, record.start_s or 0.0, record.end_s)
        perception = perceive(clip, face_crop=record.face_crop)
        inputs = ClipInputs(
            duration_s=clip.duration_s,
            face=perception.people[0] if perception.people else None,
            waveform=perception.waveform,
            prosody=perception.prosody,
        )
        states = self._states(inputs)
        states.voice = perception.prosody.summary() if len(states.sound) and perception.prosody else None
        states.said = record.transcript or " ".join(segment.text for segment in clip.transcript)
        return states

    @torch.inference_mode()
    def _states(self, inputs: ClipInputs) -> ClipStates:
        model, processor = self._model()
        config = model.config
        device = next(model.parameters()).device
        media = {key: value.to(device) for key, value in processor.pack([inputs]).items()}
        face = np.zeros((0, config.face_config.feature_size), np.float32)
        sound, prosody = np.zeros((0, config.audio_state_size), np.float32), np.zeros(8, np.float32)
        readings = np.zeros(0, np.float32)
        if "face_pixels" in media:
            faces = model.get_face_features(
                media["face_pixels"], media["face_blendshapes"], media["face_window"], media["face_window_s"]
            )
            if bool(faces.present.any()):  # type: ignore[union-attr]
                face = faces.last_hidden_state[0].float().cpu().numpy()  # type: ignore[index]
        if "input_features" in media:
            voice = model.get_audio_features(
                media["input_features"], media["audio_seconds"], media["audio_window_s"], media["audio_prosody"]
            )
            sound = voice.last_hidden_state[0].float().cpu().numpy()  # type: ignore[index]
            prosody = media["audio_prosody"][0].float().cpu().numpy()
            readings = voice.readings[0].float().cpu().numpy()  # type: ignore[index]
        return ClipStates(
            np.ascontiguousarray(face), np.ascontiguousarray(sound), prosody, readings,
            config.face_config.num_readings, float(inputs.window_s), float(inputs.duration_s),
        )  # fmt: skip


def load_checkpoint(folder: Path) -> tuple[EmoLLMForConditionalGeneration, EmoLLMProcessor]:
    """A merged checkpoint in float32.

    Raises:
        WeightsError: the folder holds none.
    """
    try:
        processor = EmoLLMProcessor.from_pretrained(folder)
        model = EmoLLMForConditionalGeneration.from_pretrained(folder, dtype=torch.float32, use_safetensors=True)
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise WeightsError(f"{folder} holds no EmoLLM checkpoint that can be loaded.") from error
    return model, processor  # type: ignore[return-value]


def towers_digest(folder: Path) -> str:
    """SHA-256 over the weights that decide the states, so that models with the same towers share them.

    Raises:
        WeightsError: the folder holds no checkpoint with towers.
    """
    digest, found = hashlib.sha256(), False
    try:
        for file in sorted(folder.glob("*.safetensors")):
            with safe_open(file, framework="pt") as opened:
                for key in sorted(key for key in opened.keys() if key.startswith(_TOWERS)):  # noqa: SIM118
                    found = True
                    tensor = opened.get_tensor(key)
                    digest.update(f"{key}{tuple(tensor.shape)}".encode())
                    digest.update(tensor.reshape(-1).contiguous().view(torch.uint8).numpy().tobytes())
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"{folder} holds no EmoLLM checkpoint that can be loaded.") from error
    if not found:
        raise WeightsError(f"{folder} holds no EmoLLM checkpoint that can be loaded.")
    return digest.hexdigest()
