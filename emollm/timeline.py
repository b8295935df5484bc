"""The picture of a report: what was measured over time, what the answer claims of it, and the faces."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from itertools import groupby, pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from emollm.facs import ACTION_UNITS, AU_NAMES, MAX_INTENSITY
from emollm.report import ActionUnitSpan, EmotionReport, PersonReport

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

Faces = Mapping[int, Sequence[tuple[float, np.ndarray]]]  # per person id: (time in s, (112, 112, 3) uint8 RGB crop)

PRESENT = 1.0  # intensity from which an AU counts as present (FACS A)
WIDTH_IN, DPI = 12.0, 150  # 1800 px; letters stay readable when shown at 1200
LEFT, RIGHT = 0.20, 0.965  # of the width: room for AU names and for peaks
MAX_PEOPLE = 4
EMOTION_COLORS = {
    "neutral": "#c3c8cf", "happiness": "#f4b942", "surprise": "#f08a4b", "sadness": "#5b84b1", "anger": "#d1495b",
    "disgust": "#7a9e5e", "fear": "#8d6fb0", "contempt": "#a67f5d", "boredom": "#8ea5ad",
}  # fmt: skip
INK, SOFT, MEASURED, SUPPORTED, UNSUPPORTED = "#22303c", "#6b7885", "#b4c4d4", "#2f9e6e", "#d1495b"


def draw_timeline(report: EmotionReport, faces: Faces) -> Figure:
    """The picture: the answer as title, then a block per person (at most 4).

    Over time: expression band, a ridge per AU that reaches 1 or is claimed, the faces at their times. A still image
    or a clip of one window: the face beside bars. Green is claimed and measured, red is claimed but not borne out.
    """
    from matplotlib.figure import Figure

    people = report.people[:MAX_PEOPLE]
    title = textwrap.wrap(report.answer, 92, max_lines=3, placeholder=" …") or ["(no answer)"]
    heights = [0.62 + 0.27 * len(title)] + [_block_height(person, bool(faces.get(person.id))) for person in people]
    figure = Figure(figsize=(WIDTH_IN, sum(heights)), dpi=DPI, facecolor="white")
    head, *blocks = np.asarray(figure.subfigures(len(heights), 1, height_ratios=heights, squeeze=False)).ravel()

    top = heights[0]
    head.text(0.03, 1 - 0.2 / top, "\n".join(title), size=15, weight="bold", color=INK, va="top", linespacing=1.25,
              parse_math=False)  # fmt: skip
    length = f" · {report.clip.duration_s:.1f} s" if report.clip.duration_s else ""
    more = f" · {len(report.people)} people, the first {MAX_PEOPLE} shown" if len(report.people) > MAX_PEOPLE else ""
    about = f"{Path(report.clip.path).name}{length} · {textwrap.shorten(report.question, 80, placeholder=' …')}{more}"
    head.text(0.03, 0.12 / top, about, size=10, color=SOFT, va="bottom", parse_math=False)
    windows = [entry for person in people for entry in person.timeline]
    if windows:
        _draw_legend(head, 0.12 / top)
    for person, block, height in zip(people, blocks, heights[1:]):
        _draw_headline(person, block, height)
        if _has_time(person):
            limits = min(entry.start_s for entry in windows), max(entry.end_s for entry in windows)
            _draw_over_time(person, block, height, faces.get(person.id, ()), limits)
        else:
            _draw_still(person, block, height, faces.get(person.id, ()))
    return figure


def _has_time(person: PersonReport) -> bool:
    return len(person.timeline) > 1


def _shown_units(person: PersonReport) -> list[str]:
    """Codes of the AUs worth a row: those that reach 1 in some window, and those that the answer claims."""
    reached = {code for entry in person.timeline for code, value in entry.aus.items() if value >= PRESENT}
    claimed = {span.code for span in person.action_units if span.claimed}
    return [unit.code for unit in ACTION_UNITS if unit.code in reached | claimed]


def _block_height(person: PersonReport, has_faces: bool) -> float:
    rows = max(len(_shown_units(person)), 1)
    if _has_time(person):
        return 0.5 + 0.34 + 0.36 * rows + 0.15 + (0.95 if has_faces else 0) + 0.5
    return 0.7 + max(2.2, 0.3 * rows)


def _draw_legend(head: SubFigure, y: float) -> None:
    from matplotlib.patches import Patch

    meanings = {
        "measured": MEASURED,
        "✓ claimed and measured": SUPPORTED,
        "✗ claimed, not borne out": UNSUPPORTED,
    }
    head.legend(
        handles=[Patch(color=color, label=label) for label, color in meanings.items()],
        loc="lower right", bbox_to_anchor=(RIGHT, y + 0.015), ncols=3, frameon=False, fontsize=9, labelcolor=SOFT,
        handlelength=1.1, handleheight=0.9, columnspacing=1.4, borderaxespad=0, borderpad=0,
    )  # fmt: skip


def _draw_headline(person: PersonReport, block: SubFigure, height: float) -> None:
    parts = [f"Person {person.id}"] if person.id else []
    if person.emotion.label:
        sure = person.emotion.confidence
        parts.append(person.emotion.label + ("" if sure is None else f" {sure:.0%}"))
    parts += [
        f"{name} {value:+.1f}" for name, value in (("valence", person.valence), ("arousal", person.arousal))
        if value is not None
    ]  # fmt: skip
    if person.voice is not None and person.voice.summary:
        parts.append(f"voice: {person.voice.summary}")
    line = textwrap.shorten("   ·   ".join(parts), 150, placeholder=" …")
    block.text(0.03, 1 - 0.24 / height, line, size=11, weight="bold", color=INK, va="center", parse_math=False)


def _bare(axes: Axes) -> None:
    axes.set_yticks([])
    axes.tick_params(length=0, labelsize=9.5, labelcolor=SOFT)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _draw_over_time(
    person: PersonReport,
    block: SubFigure,
    height: float,
    faces: Sequence[tuple[float, np.ndarray]],
    limits: tuple[float, float],
) -> None:
    from matplotlib.ticker import MaxNLocator

    codes = _shown_units(person)
    tall = [0.34, 0.36 * max(len(codes), 1) + 0.15] + ([0.95] if faces else [])
    grid = block.add_gridspec(
        len(tall), 1, height_ratios=tall, hspace=0, left=LEFT, right=RIGHT, top=1 - 0.45 / height, bottom=0.5 / height
    )
    rows = [block.add_subplot(grid[index]) for index in range(len(tall))]
    for axes in rows:
        _bare(axes)
        axes.set_xlim(limits)
        axes.xaxis.set_major_locator(MaxNLocator(10, steps=[1, 2, 5, 10]))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.tick_params(labelbottom=axes is rows[-1])
    rows[-1].set_xlabel("seconds", color=SOFT, size=9.5)

    _draw_band(person, rows[0])
    _draw_ridges(person, rows[1], codes)
    if faces:
        _draw_faces(faces, rows[2], WIDTH_IN * (RIGHT - LEFT) / tall[2])


def _draw_band(person: PersonReport, axes: Axes) -> None:
    start, end = axes.get_xlim()
    axes.set_ylim(0, 1)
    axes.set_yticks([0.5], ["expression"])
    for _, group in groupby(zip(person.timeline, _stretches(person)), key=lambda item: (item[0].emotion, item[1])):
        entries = [entry for entry, _ in group]
        emotion, left, width = entries[0].emotion, entries[0].start_s, entries[-1].end_s - entries[0].start_s
        share = width / (end - start)
        color, seam = EMOTION_COLORS.get(emotion, SOFT), float(share > 0.006)  # seams would swallow shorter ones
        axes.barh(0.5, width, left=left, height=0.72, color=color, edgecolor="white", linewidth=seam)
        if share > 0.012 * len(emotion) + 0.01:
            axes.text(left + width / 2, 0.48, emotion, ha="center", va="center", size=10, color=INK)


def _stretches(person: PersonReport) -> list[int]:
    """Number of the unbroken stretch of time to which each window belongs."""
    starts = np.array([entry.start_s for entry in person.timeline[1:]])
    ends = np.array([entry.end_s for entry in person.timeline[:-1]])
    return [0, *np.cumsum(starts > ends + 1e-3).tolist()]


def _draw_ridges(person: PersonReport, axes: Axes, codes: list[str]) -> None:
    start, end = axes.get_xlim()
    axes.set_ylim(-0.12, max(len(codes), 1) + 0.25)
    axes.grid(axis="x", color="#e8ecf0", linewidth=0.8)
    axes.set_axisbelow(True)
    if not codes:
        axes.text((start + end) / 2, 0.5, "no Action Unit reaches 1", ha="center", va="center", color=SOFT, size=10)
    # Each window is a step of its own, closed by a NaN: what was not measured leaves a hole.
    edges = np.array([edge for entry in person.timeline for edge in (entry.start_s, entry.end_s, entry.end_s)])
    for row, code in enumerate(reversed(codes)):
        measured = [entry.aus.get(code, np.nan) for entry in person.timeline]
        values = np.array([step for value in measured for step in (value, value, np.nan)])
        ridge = row + 0.86 * np.clip(values, 0, MAX_INTENSITY) / MAX_INTENSITY
        axes.axhline(row, color="#d7dde3", linewidth=0.8, zorder=1)
        axes.fill_between(edges, row, ridge, color=MEASURED, linewidth=0, zorder=2)
        for span in (span for span in person.action_units if span.code == code and span.claimed):
            color = SUPPORTED if span.supported else UNSUPPORTED
            inside = (edges >= span.start_s) & (edges <= span.end_s)
            axes.fill_between(edges, row, ridge, where=inside, color=color, alpha=0.85, linewidth=0, zorder=3)
            axes.hlines(row, span.start_s, span.end_s, color=color, linewidth=3, zorder=4)
        peak = np.max(np.nan_to_num(values))
        axes.annotate(f"{peak:.1f}", (1, row + 0.3), xycoords=("axes fraction", "data"), xytext=(5, 0),
                      textcoords="offset points", size=9.5, color=SOFT, va="center")  # fmt: skip
    axes.set_yticks([row + 0.3 for row in range(len(codes))])
    _name_units(axes, person.action_units, codes[::-1])


def _name_units(axes: Axes, spans: Sequence[ActionUnitSpan], codes: list[str]) -> None:
    marks = {SUPPORTED: "✓ ", UNSUPPORTED: "✗ ", None: ""}
    colors = [_claim_color(spans, code) for code in codes]
    names = [f"{marks[color]}{AU_NAMES[code]}  {code}" for code, color in zip(codes, colors)]
    for tick, color in zip(axes.set_yticklabels(names), colors):
        tick.set_color(color or INK)


def _claim_color(spans: Sequence[ActionUnitSpan], code: str) -> str | None:
    verdicts = [span.supported for span in spans if span.code == code and span.claimed]
    return None if not verdicts else SUPPORTED if all(verdicts) else UNSUPPORTED


def _draw_faces(faces: Sequence[tuple[float, np.ndarray]], axes: Axes, slots: float) -> None:
    """Square faces side by side (``slots`` of them fill the axis), each the one nearest to the middle of its place."""
    start, end = axes.get_xlim()
    times = np.array([time for time, _ in faces])
    places, half = np.linspace(start, end, int(slots) + 1), 0.47 * (end - start) / slots
    for left, right in pairwise(places):
        middle = (left + right) / 2
        nearest = int(np.argmin(np.abs(times - middle)))
        if abs(times[nearest] - middle) <= (right - left) / 2:
            extent = (middle - half, middle + half, 0.03, 0.97)
            axes.imshow(faces[nearest][1], extent=extent, aspect="auto", interpolation="lanczos")
    axes.set(xlim=(start, end), ylim=(0, 1))


def _draw_still(
    person: PersonReport, block: SubFigure, height: float, faces: Sequence[tuple[float, np.ndarray]]
) -> None:
    tall = height - 0.7
    top, bottom = 1 - 0.5 / height, 0.2 / height
    if faces:
        side = min(tall, 2.6)
        axes = block.add_axes((0.03, top - side / height, side / WIDTH_IN, side / height))
        axes.imshow(faces[0][1], interpolation="lanczos")
        axes.axis("off")
    left = 0.34 if faces else 0.11
    axes = block.add_axes((left, bottom, 0.20, top - bottom))
    shares = sorted((share, label) for label, share in person.emotion.distribution.items() if share >= 0.005)
    colors = [EMOTION_COLORS.get(label, SOFT) for _, label in shares]
    _draw_bars(axes, [share for share, _ in shares], colors, 1.0, "{:.0%}")
    axes.set_yticklabels([label for _, label in shares], color=INK)
    if person.timeline:
        codes = _shown_units(person)[::-1]
        axes = block.add_axes((left + 0.38, bottom, 0.91 - left - 0.38, top - bottom))
        values = [person.timeline[0].aus.get(code, 0.0) for code in codes]
        colors = [_claim_color(person.action_units, code) or MEASURED for code in codes]
        _draw_bars(axes, values, colors, MAX_INTENSITY, "{:.1f}")
        _name_units(axes, person.action_units, codes)


def _draw_bars(axes: Axes, values: list[float], colors: list[str], most: float, form: str) -> None:
    _bare(axes)
    axes.set_xticks([])
    axes.set_yticks(range(len(values)))
    axes.set(xlim=(0, most), ylim=(-0.5, max(len(values), 5) - 0.5))
    bars = axes.barh(range(len(values)), values, color=colors, height=0.66)
    axes.bar_label(bars, [form.format(value) for value in values], padding=4, size=9.5, color=SOFT)
