"""Pitch, level and speech of a sound on one grid of 10 ms: measured once, read by all that describes a voice."""

from __future__ import annotations

from dataclasses import dataclass

import librosa
import numpy as np
from scipy.ndimage import uniform_filter1d

from emollm.voice.vad import VAD_RATE, speech_segments

HOP_S = 0.01
FLOOR_DB = -100.0
MIN_DURATION_S = 0.1
PITCH_MIN_HZ, PITCH_MAX_HZ = 65.0, 500.0
_HOP = int(VAD_RATE * HOP_S)
_LEVEL_WINDOW = 512  # 32 ms at 16 kHz: two periods of the lowest pitch
# pyin costs as much as its grid is fine. Against 16 kHz and bins of 0.1 semitones, 8 kHz and 0.2 semitones take a
# third of the time (0.02 of the sound's length), and the median pitch of nine EmoDB clips moves by 0.2 semitones.
_PITCH_RATE, _PITCH_WINDOW, _PITCH_RESOLUTION = 8000, 512, 0.2
_VOICED_RANGE_DB = 40.0
# Viterbi keeps every frame of a call in memory, so long speech goes through in pieces.
_MAX_PIECE_FRAMES = 3000
# When Silero finds no speech, a cry or a laugh may still be there: it is taken if Silero is at least in doubt, the
# sound has a pitch and overtones, and it is short. Long pitched sound in which Silero hears nobody is music.
_DOUBT, _EXCLAMATION_MAX_S, _EXCLAMATION_MIN_S, _OVERTONE_SHARE = 0.2, 2.0, 0.1, 0.01
_GATE_DB = 25.0


@dataclass(frozen=True)
class VoiceFrames:
    """F frames of 10 ms; frame i is centred on ``i * HOP_S`` seconds.

    ``pitch_hz`` (F,) is NaN where the sound is unvoiced or nobody speaks; ``energy_db`` (F,) is the RMS level in dB
    of full scale, never under :data:`FLOOR_DB`; ``speech`` (F,) says where somebody speaks.
    """

    pitch_hz: np.ndarray
    energy_db: np.ndarray
    speech: np.ndarray


def voice_frames(waveform: np.ndarray, sample_rate: int = VAD_RATE) -> VoiceFrames:
    """Measure ``waveform`` ((N,) float mono, full scale 1.0). Sound under 0.1 s or silence has no speech frames.

    Pitch is by pyin (Mauch & Dixon 2014), 65-500 Hz; octave errors are removed by the second pass of De Looze & Hirst
    (2008): only 0.72 times the 35th to 1.9 times the 65th percentile of the speaker's pitch is kept.
    """
    waveform = np.nan_to_num(np.asarray(waveform, dtype=np.float32))
    if sample_rate != VAD_RATE and len(waveform):
        waveform = librosa.resample(waveform, orig_sr=sample_rate, target_sr=VAD_RATE)
    if len(waveform) < MIN_DURATION_S * VAD_RATE:
        count = -(-len(waveform) // _HOP)
        return VoiceFrames(np.full(count, np.nan), np.full(count, FLOOR_DB), np.zeros(count, dtype=bool))
    return frames_of_segments(waveform, speech_segments(waveform)) or _exclamation(waveform)


def frames_of_segments(waveform: np.ndarray, segments: list[tuple[float, float]]) -> VoiceFrames | None:
    """:func:`voice_frames` of 16 kHz sound in which the speech is known to be ``segments``; None if there is none."""
    if not segments:
        return None
    waveform = waveform - waveform.mean()
    energy_db = _level(waveform)
    speech = np.zeros(len(energy_db), dtype=bool)
    pitch_hz = np.full(len(energy_db), np.nan)
    low_rate = librosa.resample(waveform, orig_sr=VAD_RATE, target_sr=_PITCH_RATE)
    for start_s, end_s in segments:
        end = min(round(end_s / HOP_S), len(energy_db))
        for first in range(round(start_s / HOP_S), end, _MAX_PIECE_FRAMES):
            last = min(first + _MAX_PIECE_FRAMES, end)
            speech[first:last] = True
            pitch_hz[first:last] = _pitch(low_rate, first, last)
    # pyin's window is longer than the level's, so it hears a voice a little before it starts and after it ends.
    pitch_hz[energy_db < energy_db[speech].max(initial=FLOOR_DB) - _VOICED_RANGE_DB] = np.nan
    return VoiceFrames(_without_octave_errors(pitch_hz), energy_db, speech)


def _exclamation(waveform: np.ndarray) -> VoiceFrames:
    """Short voiced sounds that the voice activity model did not take for speech."""
    waveform = waveform - waveform.mean()
    energy_db = _level(waveform)
    nothing = VoiceFrames(np.full(len(energy_db), np.nan), energy_db, np.zeros(len(energy_db), dtype=bool))
    if not speech_segments(waveform, threshold=_DOUBT):
        return nothing
    loud = _runs(energy_db > max(float(energy_db.max()) - _GATE_DB, -60.0))
    if sum(end - start for start, end in loud) * HOP_S > 2 * _EXCLAMATION_MAX_S:
        return nothing
    candidate = frames_of_segments(waveform, [(start * HOP_S, end * HOP_S) for start, end in loud])
    if candidate is None:
        return nothing
    voiced = [run for run in _runs(~np.isnan(candidate.pitch_hz)) if (run[1] - run[0]) * HOP_S >= _EXCLAMATION_MIN_S]
    if not voiced or sum(end - start for start, end in voiced) * HOP_S > _EXCLAMATION_MAX_S:
        return nothing
    if not _has_overtones(waveform, candidate.pitch_hz, voiced):
        return nothing
    speech = np.zeros(len(energy_db), dtype=bool)
    for start, end in voiced:
        speech[start:end] = True
    return VoiceFrames(np.where(speech, candidate.pitch_hz, np.nan), energy_db, speech)


def _level(waveform: np.ndarray) -> np.ndarray:
    power = uniform_filter1d(np.square(waveform), _LEVEL_WINDOW, mode="constant")[::_HOP]
    return np.maximum(10 * np.log10(np.maximum(power, 1e-18)), FLOOR_DB)


def _pitch(low_rate: np.ndarray, first: int, last: int) -> np.ndarray:
    hop = int(_PITCH_RATE * HOP_S)
    piece = low_rate[first * hop : last * hop]
    found, _, _ = librosa.pyin(
        piece,
        fmin=PITCH_MIN_HZ,
        fmax=PITCH_MAX_HZ,
        sr=_PITCH_RATE,
        frame_length=_PITCH_WINDOW,
        hop_length=hop,
        resolution=_PITCH_RESOLUTION,
    )
    # pyin centres frames and so returns one more than the piece has hops, or fewer at the very end of the sound.
    pitch_hz = np.full(last - first, np.nan)
    pitch_hz[: len(found)] = found[: last - first]
    return pitch_hz


def _without_octave_errors(pitch_hz: np.ndarray) -> np.ndarray:
    if np.isnan(pitch_hz).all():
        return pitch_hz
    low, high = np.nanpercentile(pitch_hz, [35, 65])
    return np.where((pitch_hz >= 0.72 * low) & (pitch_hz <= 1.9 * high), pitch_hz, np.nan)


def _has_overtones(waveform: np.ndarray, pitch_hz: np.ndarray, voiced: list[tuple[int, int]]) -> bool:
    """A beep or a whistle has no energy above its pitch; a voice always has."""
    share = []
    for start, end in voiced:
        piece = waveform[start * _HOP : end * _HOP]
        power = np.abs(np.fft.rfft(piece * np.hanning(len(piece)))) ** 2
        above = np.fft.rfftfreq(len(piece), 1 / VAD_RATE) > 1.5 * np.nanmax(pitch_hz[start:end])
        share.append(power[above].sum() / max(power.sum(), 1e-12))
    return float(np.mean(share)) > _OVERTONE_SHARE


def _runs(mask: np.ndarray) -> list[tuple[int, int]]:
    """First and last-plus-one index of every run of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(np.int8)))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist()))
