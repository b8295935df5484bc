"""How something is said: pitch, level, speed and pauses of a voice, as numbers, as a vector and as words."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter1d
from scipy.signal import find_peaks

from emollm.voice.frames import FLOOR_DB, HOP_S, VoiceFrames, voice_frames
from emollm.voice.vad import VAD_RATE

# Fewer voiced frames than this (50 ms) are no basis for a pitch.
_MIN_VOICED_FRAMES = 5
# de Jong & Wempe (2009): a syllable nucleus is a peak at most 25 dB under the loudest speech, 2 dB above the dips
# around it. On the 120 EmoDB clips that hold their whole sentence this counts 89 % of the syllables (off by 1.5 a
# sentence, correlation of rates 0.46). Without smoothing it counts 100 %, but hoarse sad voices come out as fast;
# the paper's demand that the peak be voiced loses another quarter, as pyin is strict about voicing.
_PEAK_GATE_DB, _PEAK_DIP_DB, _SMOOTHING_FRAMES = 25.0, 2.0, 1.0

# Centre and scale of each number of `Prosody.vector`: mean and standard deviation over the 535 clips of EmoDB (all
# ten speakers), measured once and rounded: pitch 11.7 +- 6.5 semitones over 100 Hz, its spread 2.43 +- 1.02, level
# -20.1 +- 4.1 and its spread 6.3 +- 1.5, rate 5.6 +- 0.9, voiced share 0.64 +- 0.19. The copy measured holds clips of
# 2 s at full peak with hardly a pause, so level gets a wider scale, and pauses and length are set by hand for
# conversation.
_CENTRE = np.array([12.0, 2.4, -20.0, 6.3, 5.6, 0.1, 0.64, 1.0])
_SCALE = np.array([6.5, 1.0, 5.0, 1.5, 0.9, 0.15, 0.19, 2.0])
_REFERENCE_HZ, _LIMIT = 100.0, 3.0

# Where the words change: (below, above). Pitch is relative to all adults, whoever speaks: in EmoDB's neutral clips the
# speakers' medians run from 103 to 214 Hz, so "high" is over all of them and "low" is their lower half. Level: only
# what a normal gain cannot explain is called quiet or loud. Spread and rate: about one standard deviation around the
# EmoDB mean. Pauses: a tenth and a third of the time.
_PITCH_HZ, _SPREAD_SEMITONES, _LEVEL_DB = (130.0, 240.0), (1.4, 3.4), (-34.0, -14.0)
_RATE, _PAUSE_SHARE = (4.7, 6.5), (0.1, 0.33)

#: What is said of a voice: the words for low, medium and high, and for a pitch that is not measured. A normal
#: intonation is not worth a word.
PROSODY_WORDS: tuple[tuple[str, ...], ...] = (
    ("low pitch", "medium pitch", "high pitch", "no measurable pitch"),
    ("flat intonation", "", "varied intonation"),
    ("quiet", "normal level", "loud"),
    ("slow", "medium pace", "fast"),
    ("few pauses", "some pauses", "many pauses"),
)
# Place in the vector of the number behind each of the words.
_SPOKEN = [0, 1, 2, 4, 5]
# A measured pitch at the very centre: not 0, which says that there is none.
_MEASURED = 1e-6


def _in_semitones(pitch_hz: float) -> float:
    return 12 * float(np.log2(pitch_hz / _REFERENCE_HZ))


_WORD_LIMITS = np.array([[_in_semitones(hz) for hz in _PITCH_HZ], _SPREAD_SEMITONES, _LEVEL_DB, _RATE, _PAUSE_SHARE])
# (2, 5): below and above, in the space and precision of the vector.
_LOW, _HIGH = ((_WORD_LIMITS.T - _CENTRE[_SPOKEN]) / _SCALE[_SPOKEN]).astype(np.float32)


@dataclass(frozen=True)
class Prosody:
    """A voice over all the speech of a clip.

    ``pitch_hz`` is the median and ``pitch_sd_semitones`` the spread of voiced pitch, both None where nothing is voiced
    (a whisper). ``energy_db`` and ``energy_sd_db`` are mean and spread of the level of voiced speech in dB of full
    scale: they depend on the recording's gain as much as on the speaker. ``rate`` is syllable-like peaks per second of
    speech, ``pause_share`` the share of time between first and last speech in which nobody speaks, ``voiced_share``
    the share of speech that has a pitch, ``speech_s`` the seconds of speech.
    """

    pitch_hz: float | None
    pitch_sd_semitones: float | None
    energy_db: float
    energy_sd_db: float
    rate: float
    pause_share: float
    voiced_share: float
    speech_s: float

    def vector(self) -> np.ndarray:
        """(8,) float32 in the order of the fields, each about -2 to 2 and never beyond 3; 0 where unmeasured.

        Pitch enters in semitones and length as a logarithm, as they are heard. A pitch that is measured is never 0.
        """
        pitch = None if self.pitch_hz is None else _in_semitones(self.pitch_hz)
        numbers = [pitch, self.pitch_sd_semitones, self.energy_db, self.energy_sd_db]
        numbers += [self.rate, self.pause_share, self.voiced_share, np.log2(self.speech_s)]
        measured = np.array([np.nan if number is None else number for number in numbers], dtype=np.float64)
        standard = np.clip((measured - _CENTRE) / _SCALE, -_LIMIT, _LIMIT)
        if abs(standard[0]) < _MEASURED:
            standard[0] = _MEASURED
        return np.nan_to_num(standard, nan=0.0).astype(np.float32)

    def summary(self) -> str:
        """Short words, such as "high pitch, varied intonation, loud, fast, few pauses"."""
        words = (slot[index] for slot, index in zip(PROSODY_WORDS, word_indices(self.vector())))
        return ", ".join(word for word in words if word)


def word_indices(vector: np.ndarray) -> np.ndarray:
    """``(..., 5)`` int64 index into each of :data:`PROSODY_WORDS`, of ``(..., 8)`` float32 vectors of voices.

    It reads the vector and not the numbers behind it, because the model is given the vector alone.
    """
    spoken = vector[..., _SPOKEN]
    index = (spoken >= _LOW).astype(np.int64) + (spoken > _HIGH)
    index[..., 0] = np.where(spoken[..., 0] == 0, 3, index[..., 0])
    return index


@dataclass(frozen=True)
class ProsodyTrack:
    """W windows: ``start_s`` (W,), median ``pitch_hz`` (W,; NaN if unvoiced), RMS ``energy_db`` (W,) of all sound in
    the window in dB of full scale, and ``speech_share`` (W,) 0-1."""

    start_s: np.ndarray
    pitch_hz: np.ndarray
    energy_db: np.ndarray
    speech_share: np.ndarray


def measure_prosody(voice: np.ndarray | VoiceFrames, sample_rate: int = VAD_RATE) -> Prosody | None:
    """Prosody of a waveform ((N,) float mono), or None where nobody is heard: silence, noise, a beep, under 0.1 s.

    To describe the same sound with :func:`prosody_track` too, measure :func:`voice_frames` once and hand that in.
    """
    frames = voice if isinstance(voice, VoiceFrames) else voice_frames(voice, sample_rate)
    spoken = np.flatnonzero(frames.speech)
    if not len(spoken):
        return None
    voiced = ~np.isnan(frames.pitch_hz)
    pitch = frames.pitch_hz[voiced]
    has_pitch = len(pitch) >= _MIN_VOICED_FRAMES
    level = frames.energy_db[voiced if has_pitch else frames.speech]
    speech_s = len(spoken) * HOP_S
    return Prosody(
        pitch_hz=float(np.median(pitch)) if has_pitch else None,
        pitch_sd_semitones=float(np.std(12 * np.log2(pitch))) if has_pitch else None,
        energy_db=float(level.mean()),
        energy_sd_db=float(level.std()),
        rate=_syllable_peaks(frames) / speech_s,
        pause_share=1 - len(spoken) / int(spoken[-1] - spoken[0] + 1),
        voiced_share=len(pitch) / len(spoken),
        speech_s=speech_s,
    )


def prosody_track(voice: np.ndarray | VoiceFrames, window_s: float = 0.5, sample_rate: int = VAD_RATE) -> ProsodyTrack:
    """The same numbers in windows of ``window_s`` seconds from 0 to the end of the sound, the last one shorter."""
    frames = voice if isinstance(voice, VoiceFrames) else voice_frames(voice, sample_rate)
    size = max(round(window_s / HOP_S), 1)
    starts = np.arange(0, len(frames.speech), size)
    pitch_hz = np.full(len(starts), np.nan)
    for index, start in enumerate(starts):
        pitch = frames.pitch_hz[start : start + size]
        pitch = pitch[~np.isnan(pitch)]
        if len(pitch) >= _MIN_VOICED_FRAMES:
            pitch_hz[index] = np.median(pitch)
    counts = np.diff(np.append(starts, len(frames.speech)))
    power = np.add.reduceat(10 ** (frames.energy_db / 10), starts) / counts if len(starts) else np.zeros(0)
    spoken = np.add.reduceat(frames.speech.astype(float), starts) / counts if len(starts) else np.zeros(0)
    return ProsodyTrack(starts * HOP_S, pitch_hz, 10 * np.log10(power), spoken)


def _syllable_peaks(frames: VoiceFrames) -> int:
    level = np.where(frames.speech, gaussian_filter1d(frames.energy_db, _SMOOTHING_FRAMES), FLOOR_DB)
    loudest = float(np.percentile(frames.energy_db[frames.speech], 95))
    # Silence on both sides lets a peak at the very edge of the sound count.
    level = np.concatenate([[FLOOR_DB], level, [FLOOR_DB]])
    peaks, _ = find_peaks(level, height=loudest - _PEAK_GATE_DB, prominence=_PEAK_DIP_DB)
    return len(peaks)
