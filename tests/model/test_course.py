"""The phases of a clip, as model and training texts read them alike."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from emollm.data.facts import named_units
from emollm.emotions import EXPRESSIONS
from emollm.facs import AU_CODES
from emollm.model.course import MAX_NAMED, MAX_PHASES, Course, named, read_course

HAPPY, SAD, ANGRY = (EXPRESSIONS.index(name) for name in ("happiness", "sadness", "anger"))


def readings(labels: list[int], sure: float = 0.8, units: dict[int, float] | None = None) -> Tensor:
    """``(1, W, 27)``: each window shows its label with probability ``sure``; ``units`` as AU index: intensity."""
    made = torch.zeros(1, len(labels), 27)
    made[..., 17:25] = (1 - sure) / 7
    made[0, torch.arange(len(labels)), 17 + torch.tensor(labels)] = sure
    for index, intensity in (units or {}).items():
        made[..., index] = intensity / 5
    return made


def course(made: Tensor, present: list[bool] | None = None, window_s: float = 0.5) -> Course:
    shown = (
        torch.ones(made.shape[:2], dtype=torch.bool) if present is None else torch.tensor([present], dtype=torch.bool)
    )
    return read_course(made, shown, torch.tensor([window_s]))


def phases(read: Course, item: int = 0) -> list[tuple[int, int, int]]:
    rows = zip(read.first[item].tolist(), read.last[item].tolist(), read.expression[item].tolist())
    return [row for row in rows if row != (-1, -1, -1)]


def test_a_clear_change_is_cut_where_it_happens() -> None:
    assert phases(course(readings([HAPPY] * 7 + [SAD] * 9))) == [(0, 6, HAPPY), (7, 15, SAD)]


@pytest.mark.parametrize(("window_s", "shut", "counts"), [(0.0, 4.0, 4.0), (0.0, 1.9, 0.0), (0.5, 4.0, 0.0)])
def test_closed_eyes_count_in_a_picture_and_blinks_in_no_video(window_s: float, shut: float, counts: float) -> None:
    made = readings([HAPPY], units={AU_CODES.index("AU45"): shut, AU_CODES.index("AU12"): 3.0})
    units = course(made, window_s=window_s).units[0, 0]
    assert units[AU_CODES.index("AU45")] == pytest.approx(counts, abs=1e-5)
    assert units[AU_CODES.index("AU12")] == pytest.approx(3.0, abs=1e-5)


def test_three_phases_and_no_more() -> None:
    assert phases(course(readings([HAPPY] * 5 + [SAD] * 6 + [HAPPY] * 7))) == [
        (0, 4, HAPPY), (5, 10, SAD), (11, 17, HAPPY),
    ]  # fmt: skip
    many = [HAPPY] * 8 + [SAD] * 9 + [ANGRY] * 10 + [0] * 11 + [2] * 12
    assert len(phases(course(readings(many)))) == MAX_PHASES


def test_a_flickering_expression_is_not_cut() -> None:
    labels = [SAD if i % 4 == 1 else HAPPY for i in range(24)]
    assert phases(course(readings(labels))) == [(0, 23, HAPPY)]


@pytest.mark.parametrize("blip", [1, 2])
def test_a_short_blip_is_no_phase(blip: int) -> None:
    labels = [HAPPY] * 8 + [SAD] * blip + [HAPPY] * 8
    assert [phase[2] for phase in phases(course(readings(labels, sure=0.9)))] == [HAPPY]


def test_a_phase_lasts_two_seconds_whatever_the_windows() -> None:
    labels = [HAPPY] * 6 + [SAD] * 2
    assert len(phases(course(readings(labels, sure=0.95), window_s=0.5))) == 1
    assert phases(course(readings(labels, sure=0.95), window_s=1.0)) == [(0, 5, HAPPY), (6, 7, SAD)]
    assert phases(course(readings([HAPPY] * 4 + [SAD] * 4, sure=0.95), window_s=0.5)) == [(0, 3, HAPPY), (4, 7, SAD)]


def test_an_unsure_head_is_not_believed_to_change() -> None:
    assert len(phases(course(readings([HAPPY] * 4 + [SAD] * 4, sure=0.2)))) == 1


def test_what_missing_windows_hold_does_not_matter() -> None:
    made = readings([SAD] * 3 + [HAPPY] * 8 + [ANGRY] * 4 + [HAPPY] * 4 + [SAD], units={8: 3.0})
    present = [False] * 3 + [True] * 8 + [False] * 4 + [True] * 4 + [False]
    made[0, ~torch.tensor(present)] = torch.nan
    read = course(made, present)
    assert phases(read) == [(3, 18, HAPPY)]
    assert read.units[0, 0, 8] == 3.0
    assert not read.units[0, 1:].any()


def test_a_cut_in_a_gap_is_the_earliest() -> None:
    made = readings([HAPPY] * 5 + [ANGRY] * 3 + [SAD] * 5)
    assert phases(course(made, [True] * 5 + [False] * 3 + [True] * 5)) == [(0, 4, HAPPY), (5, 12, SAD)]


def test_units_are_those_of_the_phase() -> None:
    made = readings([HAPPY] * 6 + [SAD] * 6)
    made[0, :6, 8], made[0, 6:, 10] = 4.0 / 5, 2.0 / 5
    made[0, 0, 8], made[0, 1, 8] = 5.0 / 5, 1.0 / 5  # one window is stronger, one weaker
    units = course(made).units[0]
    assert units[0, 8].item() == 4.0
    assert units[1, 10].item() == 2.0
    assert units[0, 10] == units[1, 8] == 0


def test_a_still_is_one_phase() -> None:
    read = course(readings([SAD], units={0: 1.0}), window_s=0.0)
    assert phases(read) == [(0, 0, SAD)]
    assert read.units[0, 0, 0] == 1.0  # exactly, so that it counts as present
    assert len(phases(course(readings([SAD] * 9 + [HAPPY] * 9), window_s=0.0))) == 1


@pytest.mark.parametrize("windows", [0, 1, 5])
def test_no_face_no_phase(windows: int) -> None:
    read = course(torch.full((1, windows, 27), torch.nan), [False] * windows)
    assert phases(read) == []
    assert read.first.shape == read.last.shape == read.expression.shape == (1, MAX_PHASES)
    assert read.units.shape == (1, MAX_PHASES, 17)
    assert not read.units.any()


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 10**6), windows=st.integers(1, 40), sharp=st.floats(0.1, 5))
def test_a_batch_reads_as_its_items_and_neighbours_differ(seed: int, windows: int, sharp: float) -> None:
    random = torch.Generator().manual_seed(seed)
    made = torch.rand(4, windows, 27, generator=random)
    made[..., 17:25] = (sharp * torch.randn(4, windows, 8, generator=random)).softmax(-1)
    present = torch.rand(4, windows, generator=random) > 0.2
    window_s = torch.tensor([0.5, 0.7, 2.0, 0.0])
    whole = read_course(made, present, window_s)
    for i in range(4):
        used = present[i].nonzero()[:, 0]
        length = int(used[-1]) + 1 if len(used) else 1
        one = read_course(made[i : i + 1, :length], present[i : i + 1, :length], window_s[i : i + 1])
        for name in ("first", "last", "expression", "units"):
            assert torch.equal(getattr(whole, name)[i], getattr(one, name)[0])
        rows = phases(whole, i)
        if len(used):
            assert (rows[0][0], rows[-1][1]) == (int(used[0]), int(used[-1]))
        least = max(2, int(np.ceil(2 / window_s[i].item() - 1e-4))) if window_s[i] else 1
        for before, after in pairwise(rows):
            assert before[1] + 1 == after[0]
            assert before[2] != after[2]
        assert len(rows) < 2 or all(last - first + 1 >= least for first, last, _ in rows)


INTENSITIES = st.sampled_from([0.0, 0.99, 1.0, 1.5, 2.0, 2.5, 3.5, 4.49, 4.5, 5.0])


@given(values=st.lists(INTENSITIES, min_size=17, max_size=17))
def test_named_are_the_strongest_that_are_present(values: list[float]) -> None:
    order, level = named(torch.tensor([values]))
    assert order.shape == level.shape == (1, MAX_NAMED)
    found = {AU_CODES[i]: n for i, n in zip(order[0].tolist(), level[0].tolist()) if i >= 0}
    present = [(-value, row) for row, value in enumerate(values) if value >= 1.0]
    assert list(found.items()) == [(AU_CODES[row], round(-minus)) for minus, row in sorted(present)[:MAX_NAMED]]
    assert found == named_units(np.array(values))
    assert all((i < 0) == (n == 0) for i, n in zip(order[0].tolist(), level[0].tolist()))
