import numpy as np
import pytest

from emollm.facs import AU_CODES
from emollm.reasoning.spans import au_spans, describe_time


def measured(**columns: list[float]) -> tuple[np.ndarray, np.ndarray]:
    """Half-second windows with the given AU columns, all other AUs 0."""
    length = len(next(iter(columns.values())))
    starts = np.arange(length) * 0.5
    intensities = np.zeros((length, len(AU_CODES)))
    for code, values in columns.items():
        intensities[:, AU_CODES.index(code)] = values
    return np.stack([starts, starts + 0.5], axis=1), intensities


def found(**columns: list[float]) -> list[tuple[str, float, float]]:
    return [(s.code, s.start_s, s.end_s) for s in au_spans(*measured(**columns))]


def test_span_with_mean_intensity():
    (span,) = au_spans(*measured(AU12=[0, 0, 2, 3, 4, 0, 0]))
    assert (span.code, span.name, span.start_s, span.end_s) == ("AU12", "lip corner puller", 1.0, 2.5)
    assert span.intensity == pytest.approx(3.0)


def test_hysteresis_starts_at_threshold_and_holds_above_three_quarters():
    assert found(AU4=[0.9, 0.9, 1.0, 0.8, 0.8, 0.7, 0.7]) == [("AU4", 1.0, 2.5)]


def test_one_low_window_is_bridged_and_two_are_not():
    assert found(AU4=[2, 2, 0, 2, 2]) == [("AU4", 0.0, 2.5)]
    assert found(AU4=[2, 2, 0, 0, 2, 2]) == [("AU4", 0.0, 1.0), ("AU4", 2.0, 3.0)]


def test_nan_is_a_gap_and_not_part_of_the_mean():
    nan = float("nan")
    (span,) = au_spans(*measured(AU4=[2, nan, 4]))
    assert (span.start_s, span.end_s, span.intensity) == (0.0, 1.5, pytest.approx(3.0))
    assert found(AU4=[2, 2, nan, nan, 2, 2]) == [("AU4", 0.0, 1.0), ("AU4", 2.0, 3.0)]
    assert found(AU4=[nan, nan]) == []


def test_blips_are_dropped_unless_strong_or_a_blink():
    assert found(AU4=[0, 1.9, 0]) == []
    assert found(AU4=[0, 2.0, 0]) == [("AU4", 0.5, 1.0)]
    assert found(AU45=[0, 1.2, 0]) == [("AU45", 0.5, 1.0)]


def test_still_image_keeps_its_one_window():
    assert found(AU12=[1.2], AU6=[0.9]) == [("AU12", 0.0, 0.5)]


def test_no_windows():
    assert au_spans(np.zeros((0, 2)), np.zeros((0, 17))) == []


@pytest.mark.parametrize(
    ("start", "end", "text"),
    [(0, 8, "0-8 s"), (2.5, 3, "2.5-3 s"), (0.04, 7.96, "0-8 s"), (3, 3, "3 s"), (10, 20, "10-20 s")],
)
def test_describe_time(start, end, text):
    assert describe_time(start, end) == text
