"""From measured intensities per window to the spans in which an Action Unit is held."""

import numpy as np

from emollm.facs import ACTION_UNITS
from emollm.report import ActionUnitSpan

RELEASE = 0.75  # a span ends below this share of its onset threshold, so noise at the threshold does not chop it up
MAX_GAP = 1  # windows in a row that may be low or unmeasured inside a span
BLIP = 2.0  # a single window weaker than this is taken for noise …
BRIEF = "AU45"  # … except for a blink, which is over within one


def au_spans(window_times: np.ndarray, intensities: np.ndarray, threshold: float = 1.0) -> list[ActionUnitSpan]:
    """Spans of every AU, in AU order then by start.

    window_times: (T, 2) start and end in seconds, in order. intensities: (T, 17) on 0-5, columns as
    :data:`emollm.facs.ACTION_UNITS`; NaN where unmeasured. A span's intensity is the mean of its measured windows.
    A clip of one window (a still image) has no blips: everything at the threshold counts.
    """
    spans = []
    for unit, values in zip(ACTION_UNITS, np.asarray(intensities, dtype=float).T):
        for first, last in _runs(values, threshold):
            intensity = float(np.nanmean(values[first : last + 1]))
            if first == last and intensity < BLIP and unit.code != BRIEF and len(values) > 1:
                continue
            start_s, end_s = float(window_times[first][0]), float(window_times[last][1])
            spans.append(
                ActionUnitSpan(code=unit.code, name=unit.name, intensity=intensity, start_s=start_s, end_s=end_s)
            )
    return spans


def _runs(values: np.ndarray, threshold: float) -> list[tuple[int, int]]:
    """First and last window of each run; NaN compares false and so counts as low."""
    runs: list[tuple[int, int]] = []
    first: int | None = None
    last = 0
    for index, value in enumerate(values):
        if first is None:
            if value >= threshold:
                first = last = index
        elif value >= threshold * RELEASE:
            last = index
        elif index - last > MAX_GAP:
            runs.append((first, last))
            first = None
    return runs if first is None else [*runs, (first, last)]


def describe_time(start_s: float, end_s: float) -> str:
    """``"0-8 s"``, ``"2.5-3 s"``; ``"3 s"`` where both round to the same tenth of a second."""
    start, end = (f"{time:.1f}".removesuffix(".0") for time in (start_s, end_s))
    return f"{start} s" if start == end else f"{start}-{end} s"
