"""The page of one run: tables beside the published figures, plots, and the worst mistakes with their clips.

It shows the data's own clips, so it belongs to the one who ran it and is never committed.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from emollm.errors import EmoLLMError
from emollm.eval.answers import Answers, answers
from emollm.eval.pages.markup import data_uri, templates
from emollm.eval.pages.plots import confidence_plot

if TYPE_CHECKING:
    from emollm.eval.record import Result, Run
    from emollm.eval.score import Confusion

MISTAKES = 12
UNREAD = 20
THUMBNAIL = 160  # px


def run_page(run: Run) -> str:
    """HTML that needs nothing beside itself and the clips that it links to."""
    result = run.result
    temperature = result.scores.calibration.temperature if result.scores.calibration else 1.0
    given = answers(result.card, run.samples, run.lines, temperature)
    return (
        templates()
        .get_template("run.html.jinja")
        .render(
            result=result,
            own={score.name: score for score in result.scores.scores},
            published_metrics=list(dict.fromkeys(name for one in result.card.published for name in one.metrics)),
            confusion=_shares(result.scores.confusion) if result.scores.confusion else None,
            plot=data_uri(confidence_plot(result.scores.calibration)) if result.scores.calibration else None,
            examples=result.scores.examples,
            mistakes=[_mistake(given, row) for row in _worst(given)],
            unread=[line for line in run.lines if line.status == "unparsed"][:UNREAD],
            facts=_facts(result),
        )
    )


def _shares(confusion: Confusion) -> list[tuple[str, list[tuple[int, float]]]]:
    return [
        (name, [(count, count / max(sum(row), 1)) for count in row])
        for name, row in zip(confusion.truths, confusion.counts)
    ]


def _worst(given: Answers) -> list[int]:
    """Readable answers that are wrong, the surest first."""
    wrong = given.counted & given.status("ok") & (given.truth >= 0) & ~given.right
    rows = np.flatnonzero(wrong)
    order = np.argsort(-np.nan_to_num(given.confidence[rows]), kind="stable")
    return [int(row) for row in rows[order][:MISTAKES]]


def _mistake(given: Answers, row: int) -> dict[str, Any]:
    sample, line = given.samples[row], given.lines[row]
    said = given.answer[row]
    picture, sound = _look(sample.clip, sample.start_s)
    return {
        "id": sample.id,
        "uri": sample.clip.resolve().as_uri(),
        "truth": given.labels[given.truth[row]],
        "answer": given.labels[said] if said >= 0 else "none of the labels",
        "confidence": None if np.isnan(given.confidence[row]) else float(given.confidence[row]),
        "raw": line.raw or "",
        "picture": picture,
        "sound": sound,
    }


def _look(path: Path, start_s: float | None) -> tuple[str | None, bool]:
    """A thumbnail, and whether the clip is to be listened to. Nothing to see where it cannot be read."""
    from PIL import Image

    from emollm.media.clip import read_clip

    try:
        clip = read_clip(path, transcript="none")
        wanted = start_s if start_s is not None else clip.duration_s / 2
        frame = None
        for frame in clip.frames(2.0):
            if frame.time_s >= wanted:
                break
    except EmoLLMError:
        return None, False
    if frame is None:
        return None, clip.has_audio
    image = Image.fromarray(frame.image)
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=80)
    return data_uri(buffer.getvalue(), "image/jpeg"), False


def _facts(result: Result) -> list[tuple[str, str]]:
    rate = f", {result.samples_per_second:g} samples a second" if result.samples_per_second else ""
    changed = " with changed files" if result.dirty else ""
    parts = {
        "command": result.command,
        "commit": f"{result.commit}{changed}" if result.commit else "not a checkout",
        "replies made at": ", ".join(result.reply_commits),
        "engine": result.engine,
        "date": result.date,
        "time": f"{result.seconds:g} s{rate}",
        "seed of the intervals": str(result.seed),
    }
    for group in (result.versions, result.hardware, result.describe, result.settings):
        parts |= {name: str(value) for name, value in group.items() if value not in (None, "", [], False)}
    return [(name, value) for name, value in parts.items() if value]
