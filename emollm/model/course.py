"""The course of a clip: what the face holds, from when to when, read off the heads of the face tower.

The model states it in reading symbols and training texts are written from it, so both call the same code. It has no
parameters and counts in whole numbers (fixed point), so that sums are exact and the answer is the same on any device
and in any batch.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from emollm.emotions import EXPRESSIONS
from emollm.facs import AU_CODES, BLINK, MAX_INTENSITY, PRESENT

MAX_PHASES = 3  # a clip is cut into at most so many
MAX_NAMED = 4  # AUs stated of one phase, strongest first
SWITCH_PENALTY = 3.0  # nats that a further phase must gain
# A phase lasts at least two windows, and two seconds: texts speak of whole seconds, and a blip is no phase.
MIN_WINDOWS, MIN_SECONDS = 2, 2.0
# One window that the head gets wrong with certainty counts for no more than this probability.
_LEAST_PROBABILITY = 0.02
_SHARE = 5  # of a phase's windows; one in so many is stronger than what is said of it
CLOSED = 2.0  # AU45 of eyes that are shut or nearly so; the weaker ones are narrow in a smile, or look down
_FIXED_POINT = 2**20
_FORBIDDEN = -(2**50)


@dataclass
class Course:
    """The phases of I clips, in order.

    Attributes:
        first, last: ``(I, P)`` int64, windows at which the phase starts and ends (inclusive), -1 where there is no
            such phase.
        expression: ``(I, P)`` int64 index into ``EXPRESSIONS``, -1 where there is no such phase.
        units: ``(I, P, 17)`` float32, intensity 0-5 that a fifth of the phase's present windows reach, 0 where there
            is none. Claims are held against the peak (:mod:`emollm.reasoning.verify`): a mean strays further from it.
            AU45 counts in a still picture only, from ``CLOSED`` on: in a video everybody blinks.
    """

    first: Tensor
    last: Tensor
    expression: Tensor
    units: Tensor


def read_course(readings: Tensor, present: Tensor, window_s: Tensor) -> Course:
    """Cut each clip into the phases of one expression that make its readings most likely.

    A phase is as likely as the probabilities of its expression over its windows; each further phase costs
    ``SWITCH_PENALTY``, so neighbouring phases never hold the same expression. Of equals, fewer phases and earlier cuts
    are taken. The first phase starts at the first present window, the last ends at the last one.

    Args:
        readings: ``(I, W, 27)``: AU intensities / 5, expression probabilities, valence and arousal.
        present: ``(I, W)`` bool, windows that show a face; what the others hold does not matter.
        window_s: ``(I,)`` seconds, 0 for a still picture, which is one phase.
    """
    seen = torch.where(present[..., None], readings.float(), 0.0)
    units = (seen[..., : len(AU_CODES)] * MAX_INTENSITY * _FIXED_POINT).round().long()
    likely = seen[..., len(AU_CODES) : len(AU_CODES) + len(EXPRESSIONS)].clamp(min=_LEAST_PROBABILITY).log()
    likely = torch.where(present[..., None], (likely * _FIXED_POINT).round().long(), 0)
    count, likely = _sums(present.long()), _sums(likely)
    blink = units[..., AU_CODES.index(BLINK)]
    blink *= (window_s == 0)[:, None] & (blink >= round(CLOSED * _FIXED_POINT))
    edges = _edges(likely, count, window_s)
    exists = edges[:, 1:] > edges[:, :-1]
    return Course(
        first=torch.where(exists, edges[:, :-1], -1),
        last=torch.where(exists, edges[:, 1:] - 1, -1),
        expression=torch.where(exists, _between(likely, edges).argmax(-1), -1),
        units=_reached(units, present, edges).float() / _FIXED_POINT,
    )


def _reached(units: Tensor, present: Tensor, edges: Tensor) -> Tensor:
    """``(I, P, 17)``: of each phase's windows in order of strength, the one behind the strongest fifth."""
    window = torch.arange(present.shape[1], device=present.device)
    inside = (window >= edges[:, :-1, None]) & (window < edges[:, 1:, None]) & present[:, None]
    if not inside.shape[-1]:
        return units.new_zeros(*inside.shape[:2], units.shape[-1])
    ordered = torch.where(inside[..., None], units[:, None], -1).sort(dim=2, descending=True).values
    rank = (inside.sum(-1) - 1).clamp(min=0) // _SHARE
    return ordered.gather(2, rank[..., None, None].expand(-1, -1, 1, units.shape[-1]))[:, :, 0].clamp(min=0)


def _edges(likely: Tensor, count: Tensor, window_s: Tensor) -> Tensor:
    """``(I, P + 1)`` windows at which phases start, and the end; equal neighbours enclose no phase.

    likely: ``(I, W + 1, 8)`` and count: ``(I, W + 1)``, sums over the windows before each.
    """
    end = (count[:, :-1] < count[:, -1:]).sum(1)
    start = torch.minimum((count[:, 1:] == 0).sum(1), end)
    least = torch.ceil(MIN_SECONDS / window_s.float() - 1e-4).clamp(min=MIN_WINDOWS, max=2**20).long()
    penalty = round(SWITCH_PENALTY * _FIXED_POINT)

    at = torch.arange(count.shape[1], device=count.device)
    items = torch.arange(len(count), device=count.device)
    best = (likely[:, None] - likely[:, :, None]).amax(-1)  # (I, W + 1, W + 1): from one edge to another
    head = best[items, start].masked_fill(at - start[:, None] < least[:, None], _FORBIDDEN)
    tail = best[items, :, end].masked_fill(end[:, None] - at < least[:, None], _FORBIDDEN)
    middle = best.masked_fill(at - at[:, None] < least[:, None, None], _FORBIDDEN)

    two, cut = (head + tail).max(1)
    three, cuts = (head[:, :, None] + middle + tail[:, None]).flatten(1).max(1)
    scores = torch.stack([best[items, start, end], two - penalty, three - 2 * penalty], dim=1)
    first, second = cuts // len(at), cuts % len(at)
    options = torch.stack(
        [
            torch.stack([start, end, end, end], dim=1),
            torch.stack([start, cut, end, end], dim=1),
            torch.stack([start, first, second, end], dim=1),
        ],
        dim=1,
    )
    return options[items, scores.argmax(1)]


def named(units: Tensor) -> tuple[Tensor, Tensor]:
    """The AUs worth naming in ``(..., 17)`` intensities: up to ``MAX_NAMED`` that are present.

    Returns:
        ``(..., 4)`` AU index, strongest first (of equals the lower index), -1 where there is no further one; and
        ``(..., 4)`` its level 1-5, 0 where there is none.
    """
    strength, order = units.sort(dim=-1, descending=True, stable=True)
    strength, order = strength[..., :MAX_NAMED], order[..., :MAX_NAMED]
    worth = strength >= PRESENT
    level = torch.where(worth, strength, 0.0).round().clamp(max=MAX_INTENSITY).long()
    return torch.where(worth, order, -1), level


def _sums(values: Tensor) -> Tensor:
    """``(I, W + 1, ...)`` sums of the ``(I, W, ...)`` windows before each."""
    nothing = values.new_zeros(len(values), 1, *values.shape[2:])
    return torch.cat([nothing, values.cumsum(1)], dim=1)


def _between(sums: Tensor, edges: Tensor) -> Tensor:
    """``(I, P, N)`` sums between neighbouring edges; sums: ``(I, W + 1, N)``."""
    taken = sums.gather(1, edges[..., None].expand(-1, -1, sums.shape[-1]))
    return taken[:, 1:] - taken[:, :-1]
