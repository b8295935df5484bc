"""Curves of training logs: one panel a reward, one colour a variant, a band over its seeds."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

SMOOTH = 10  # points of the log in one of a curve
COLUMNS = 3


class Curve(BaseModel):
    """One figure of one run's log, as logged."""

    model_config = ConfigDict(extra="forbid")

    name: str
    variant: str
    run: str
    steps: list[int]
    values: list[float]


def smooth(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean of each point and those before it, :data:`SMOOTH` at most. ``(N,)`` to ``(N,)``."""
    sums = np.concatenate([[0.0], np.cumsum(values)])
    end = np.arange(1, len(values) + 1)
    start = np.maximum(0, end - SMOOTH)
    return (sums[end] - sums[start]) / (end - start)


def draw(curves: Sequence[Curve], about: Mapping[str, str]) -> bytes:
    """PNG: the mean over a variant's runs, smoothed, and the band from the lowest to the highest of them.

    Args:
        about: variant -> what the legend calls it.
    """
    from matplotlib.figure import Figure

    names = list(dict.fromkeys(curve.name for curve in curves))
    rows = max(1, -(-len(names) // COLUMNS))
    figure = Figure(figsize=(4 * COLUMNS, 2.6 * rows + 0.6), dpi=110, layout="constrained")
    panels = figure.subplots(rows, COLUMNS, squeeze=False).flat
    colours = {name: f"C{number}" for number, name in enumerate(about)}
    for name, panel in zip(names, panels):
        panel.set(title=name, xlabel="step")
        for variant in about:
            runs = [curve for curve in curves if (curve.name, curve.variant) == (name, variant)]
            if runs:
                steps, values = _aligned(runs)
                panel.plot(steps, values.mean(0), color=colours[variant], linewidth=1.4)
                panel.fill_between(
                    steps, values.min(0), values.max(0), color=colours[variant], alpha=0.15, linewidth=0
                )
        panel.grid(color="#e6e6e6", linewidth=0.7)
        panel.spines[["top", "right"]].set_visible(False)
    for panel in list(panels):
        panel.set_visible(False)
    drawn = [variant for variant in about if any(curve.variant == variant for curve in curves)]
    handles = [figure.axes[0].plot([], [], color=colours[variant])[0] for variant in drawn]
    if handles:
        figure.legend(handles, [about[variant] for variant in drawn], loc="outside lower center", ncols=len(drawn))
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def _aligned(runs: Sequence[Curve]) -> tuple[list[int], NDArray[np.float64]]:
    """Steps that all runs have, and ``(runs, steps)`` smoothed values."""
    smoothed = [dict(zip(run.steps, smooth(np.asarray(run.values)))) for run in runs]
    steps = sorted(set.intersection(*(set(run) for run in smoothed)))
    return steps, np.array([[run[step] for step in steps] for run in smoothed])
