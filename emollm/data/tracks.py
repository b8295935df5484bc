"""Action Units over time: events with onset, apex and offset, blinks, and the wandering of a head and a gaze."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from emollm.data.expressions import choose_aus, unevenness
from emollm.data.head import Array
from emollm.facs import MAX_INTENSITY

Levels = dict[str, Array]  # AU -> (T, 2) intensities 0-5 on the subject's left and right

_BLINK = "AU45"
_BLINK_EVERY_S = 3.5
_SILENCED_BY_BLINK = ("AU5", "AU7")


@dataclass(frozen=True)
class Event:
    """One AU that rises from ``onset_s``, holds from ``apex_s`` to ``offset_s`` and is gone at ``end_s``.

    ``left`` and ``right`` are its intensities (0-5) at the apex, on the subject's sides.
    """

    code: str
    onset_s: float
    apex_s: float
    offset_s: float
    end_s: float
    left: float
    right: float

    def at(self, times: Array) -> Array:
        """(T, 2) intensities on the left and right at ``times`` (T,) in seconds: a soft rise, a hold, a soft fall."""
        rise = (times - self.onset_s) / (self.apex_s - self.onset_s)
        fall = (self.end_s - times) / (self.end_s - self.offset_s)
        share = np.clip(np.minimum(rise, fall), 0, 1)
        return (share**2 * (3 - 2 * share))[:, None] * (self.left, self.right)


def draw_events(rng: np.random.Generator, seconds: float, neutral_share: float, prototype_share: float) -> list[Event]:
    """Expressions one after another (chosen by :func:`emollm.data.expressions.choose_aus`), and blinks."""
    return [*_expressions(rng, seconds, neutral_share, prototype_share), *_blinks(rng, seconds)]


def _expressions(
    rng: np.random.Generator, seconds: float, neutral_share: float, prototype_share: float
) -> Iterator[Event]:
    onset = rng.uniform(-0.3, 0.6)
    while onset < seconds - 0.6:
        rise, hold, fall = rng.uniform(0.15, 0.8), rng.uniform(0.4, 2.2), rng.uniform(0.2, 1.2)
        for code, intensity in choose_aus(rng, neutral_share, prototype_share).items():
            start, apex, offset, end = np.cumsum([onset, rise, hold, fall]) + rng.normal(0, 0.06)
            left, right = (min(intensity * side, MAX_INTENSITY) for side in unevenness(rng, code))
            yield Event(code, start, apex, offset, end, left, right)
        onset += rise + hold + fall + rng.uniform(-0.3, 0.8)


def _blinks(rng: np.random.Generator, seconds: float) -> Iterator[Event]:
    start = rng.exponential(_BLINK_EVERY_S)
    while start < seconds:
        close, shut, open_again = rng.uniform(0.06, 0.12), rng.uniform(0.03, 0.08), rng.uniform(0.1, 0.2)
        _, apex, offset, end = np.cumsum([start, close, shut, open_again])
        yield Event(_BLINK, start, apex, offset, end, MAX_INTENSITY, MAX_INTENSITY)
        start = end + rng.exponential(_BLINK_EVERY_S)


def levels(events: Sequence[Event], times: Array) -> Levels:
    """Every AU's intensities at ``times`` (T,): the strongest of its events; closing lids silence AU5 and AU7."""
    found: Levels = {}
    for event in events:
        found[event.code] = np.maximum(found.get(event.code, 0.0), event.at(times))
    if _BLINK in found:
        for code in _SILENCED_BY_BLINK:
            if code in found:
                found[code] = found[code] * (1 - found[_BLINK] / MAX_INTENSITY)
    return found


def wander(rng: np.random.Generator, times: Array, size: float, fastest_hz: float = 0.7) -> Array:
    """(T,) a smooth random course around 0 of about this standard deviation."""
    rates, phases = rng.uniform(0.05, fastest_hz, 4), rng.uniform(0, 2 * np.pi, 4)
    weights = rng.normal(0, 1, 4)
    course = np.sin(2 * np.pi * rates * times[:, None] + phases) @ weights
    return size * course / np.sqrt(2)


def glances(rng: np.random.Generator, times: Array, size: float) -> Array:
    """(T, 2) gaze across and up: held, with a jump every second or two."""
    jumps = np.sort(rng.uniform(0, times[-1] + 1e-6, rng.poisson(times[-1] / 1.5)))
    places = rng.normal(0, size, (len(jumps) + 1, 2))
    return places[np.searchsorted(jumps, times, side="right")]
