"""Tables of an ablation, from the logs of its runs and the results of their evaluations."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from emollm.eval.pages.markup import number, shown
from emollm.eval.record import Result, read_run
from emollm.eval.seeds import SeedScore, seed_scores
from emollm.train.asked_again import Change, changes
from emollm.train.curves import SMOOTH, Curve, draw, smooth

if TYPE_CHECKING:
    from rich.console import Console

#: Metrics of the tables, with their headings; a benchmark need not have all.
METRICS = {
    "war": "WAR", "uar": "UAR", "au_f1_macro": "AU F1", "support_precision": "support rate",
    "support_recall": "support recall", "interpretation_fit": "fit",
    "interpretation_recall": "fit recall", "parse_failures": "parse failures",
}  # fmt: skip
#: What is drawn of the logs, and the mean of every reward.
DRAWN = ("reward", "replies/unreadable", "completions/mean_length", "schedule/resting")
NOTE = (
    "Scores are means over seeds in per cent, with 95 % intervals over samples and seeds; differences are paired by"
    " sample, and bold where their interval excludes 0. Few seeds make intervals too narrow: of three, the bootstrap"
    " sees two thirds of their variance. Scores come from `emollm eval` (greedy decoding), never from rewards."
)


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid")


@dataclass(frozen=True)
class Group:
    """A variant: its name, what tables call it, its runs' folders, and a variant to hold it against."""

    name: str
    about: str
    folders: list[Path]
    against: str | None = None


class Entry(_Part):
    """A variant's scores on one benchmark, thinking or not; their differences are from ``against``."""

    variant: str
    against: str | None = None
    benchmark: str
    think: bool
    scores: list[SeedScore]


class Source(_Part):
    """What the entries of one benchmark come from: ``commits`` of the code that replied."""

    benchmark: str
    title: str
    split: str | None
    n: int
    label_origin: list[str]
    commits: list[str]


class Trained(_Part):
    """A finished training run, the mean of the last points of its log, and what became of each reward where questions
    were asked again; not under a schedule, which chooses by rewards what it asks again."""

    variant: str
    run: str
    steps: int
    replies: int
    tokens: int | None
    last: dict[str, float]
    again: list[Change] = Field(default_factory=list)


class Grid(NamedTuple):
    """A table as text."""

    title: str
    header: list[str]
    rows: list[list[str]]


class Ablation(_Part):
    """Everything that an ablation found; ``about``: name of a variant -> what tables call it."""

    about: dict[str, str]
    sources: list[Source] = Field(default_factory=list)
    scores: list[Entry] = Field(default_factory=list)
    differences: list[Entry] = Field(default_factory=list)
    trained: list[Trained] = Field(default_factory=list)
    curves: list[Curve] = Field(default_factory=list)

    def grids(self) -> list[Grid]:
        """Scores and differences of each benchmark, then what training took and what became of its rewards."""
        again = [self._of_asked_again()] if any(run.again for run in self.trained) else []
        return [grid for source in self.sources for grid in self._of(source)] + [self._of_training(), *again]

    def _of(self, source: Source) -> list[Grid]:
        origin, code = ", ".join(source.label_origin), ", ".join(source.commits) or "unknown"
        title = f"{source.title}: {source.split}, {source.n} samples, labels: {origin}, code {code}"
        scores, differences = (
            [entry for entry in entries if entry.benchmark == source.benchmark]
            for entries in (self.scores, self.differences)
        )
        names = [name for name in METRICS if any(score.name == name for entry in scores for score in entry.scores)]
        heads = [METRICS[name] for name in names]
        rows = [
            [self.about[entry.variant], _mode(entry), str(entry.scores[0].seeds), *_cells(entry, names, _shown)]
            for entry in scores
        ]
        grids = [Grid(title, ["variant", "thinks", "seeds", *heads], rows)]
        if differences:
            rows = [
                [self.about[entry.variant], self.about[str(entry.against)], _mode(entry), *_cells(entry, names, _held)]
                for entry in differences
            ]
            grids.append(Grid(f"{source.title}: differences", ["variant", "against", "thinks", *heads], rows))
        return grids

    def _of_training(self) -> Grid:
        names = [name for name in ("reward", "replies/unreadable") if any(name in run.last for run in self.trained)]
        header = ["variant", "run", "steps", "replies", "tokens", *(f"{name}, last {SMOOTH}" for name in names)]
        rows = [
            [self.about[run.variant], run.run, str(run.steps), str(run.replies), str(run.tokens or "–")]
            + [f"{run.last[name]:.3f}" if name in run.last else "–" for name in names]
            for run in self.trained
        ]
        return Grid("Training", header, rows)

    def _of_asked_again(self) -> Grid:
        names = list(dict.fromkeys(change.reward for run in self.trained for change in run.again))
        rows = []
        for run in self.trained:
            if run.again:
                cells = {change.reward: _changed(change) for change in run.again}
                rows.append([self.about[run.variant], run.run, *(cells.get(name, "–") for name in names)])
        return Grid("Rewards of the same questions, asked first and asked last", ["variant", "run", *names], rows)

    def show(self, console: Console) -> None:
        """Print the tables."""
        from rich.table import Table

        for title, header, rows in self.grids():
            table = Table(*header, title=title)
            for row in rows:
                table.add_row(*(cell.replace("**", "") for cell in row))
            console.print(table)

    def markdown(self) -> str:
        """The tables, what to know before reading them, and the picture."""
        lines = ["# Ablation", "", NOTE, ""]
        for title, header, rows in self.grids():
            body = [header, ["---"] * len(header), *rows]
            lines += [f"## {title}", "", *(f"| {' | '.join(row)} |" for row in body), ""]
        return "\n".join([*lines, "![Rewards in training](rewards.png)", ""])

    def write(self, folder: Path) -> dict[str, str]:
        """Write ``ablation.md``, ``ablation.json`` and ``rewards.png``; returns where they lie."""
        folder.mkdir(parents=True, exist_ok=True)
        table, data, picture = (folder / name for name in ("ablation.md", "ablation.json", "rewards.png"))
        table.write_text(self.markdown(), encoding="utf-8")
        data.write_text(self.model_dump_json(indent=1) + "\n", encoding="utf-8")
        picture.write_bytes(draw(self.curves, self.about))
        return {"table": str(table), "data": str(data), "curves": str(picture)}


def tabulate(groups: Sequence[Group], evaluations: Sequence[tuple[str, bool]]) -> Ablation:
    """Read what is finished of these runs and evaluations; all are held against the first group.

    Args:
        evaluations: name of the folder in that of each run, and whether the model thinks there.

    Raises:
        BadArgumentError: runs of one evaluation are not of the same samples.
    """
    found = Ablation(about={group.name: group.about for group in groups})
    for name, think in evaluations:
        done = {group.name: _finished(group, name) for group in groups}
        for group in groups:
            if not (runs := done[group.name]):
                continue
            results = [read_run(run).result for run in runs]
            for result in results:
                _note_source(found.sources, result)
            benchmark = results[0].benchmark
            found.scores.append(_entry(group, None, benchmark, think, runs, []))
            for other in dict.fromkeys([groups[0].name, group.against]):
                if other not in (None, group.name) and (theirs := done[str(other)]):
                    found.differences.append(_entry(group, other, benchmark, think, runs, theirs))
    for group in groups:
        for folder in group.folders:
            if (folder / "log.json").exists():
                trained, curves = _training(group.name, folder)
                found.trained.append(trained)
                found.curves += curves
    return found


def _entry(
    group: Group, against: str | None, benchmark: str, think: bool, runs: list[Path], theirs: list[Path]
) -> Entry:
    scores = seed_scores(runs, theirs, names=list(METRICS))
    return Entry(variant=group.name, against=against, benchmark=benchmark, think=think, scores=scores)


def _finished(group: Group, evaluation: str) -> list[Path]:
    return [run / evaluation for run in group.folders if (run / evaluation / "result.json").exists()]


def _note_source(sources: list[Source], result: Result) -> None:
    """Runs of one benchmark are of the same samples, but their replies may come from different code."""
    source = next((each for each in sources if each.benchmark == result.benchmark), None)
    if source is None:
        source = Source(
            benchmark=result.benchmark,
            title=result.card.title,
            split=result.split,
            n=result.n,
            label_origin=result.label_origin,
            commits=[],
        )
        sources.append(source)
    source.commits += [commit for commit in result.reply_commits if commit not in source.commits]


def _training(variant: str, folder: Path) -> tuple[Trained, list[Curve]]:
    history = json.loads((folder / "log.json").read_text(encoding="utf-8"))
    history = [line for line in history if "reward" in line]
    names = {name for line in history for name in line}
    curves = []
    for name in sorted(names):
        if name in DRAWN or (name.startswith("rewards/") and name.endswith("/mean")):
            points = [(line["step"], line[name]) for line in history if line.get(name) is not None]
            if points:
                steps, values = map(list, zip(*points))
                curves.append(Curve(name=name, variant=variant, run=folder.name, steps=steps, values=values))
    replies = sum(len(file.read_text(encoding="utf-8").splitlines()) for file in (folder / "replies").glob("*.jsonl"))
    last = {curve.name: float(smooth(np.asarray(curve.values))[-1]) for curve in curves}
    tokens = history[-1].get("num_tokens")
    run = Trained(
        variant=variant,
        run=folder.name,
        steps=history[-1]["step"],
        replies=replies,
        tokens=None if tokens is None else round(tokens),
        last=last,
        again=[] if "schedule/resting" in names else changes(folder),
    )
    return run, curves


def _mode(entry: Entry) -> str:
    return "yes" if entry.think else "no"


def _cells(entry: Entry, names: list[str], text: Callable[[SeedScore], str]) -> list[str]:
    by_name = {score.name: score for score in entry.scores}
    return [text(by_name[name]) if name in by_name else "–" for name in names]


def _changed(change: Change) -> str:
    ends = f"{change.first:.2f} → {change.last:.2f}"
    if change.questions == 1:
        return f"{ends} (1 question)"
    text = _marked(f"{change.last - change.first:+.2f}", change.low, change.high)
    return f"{ends}, {text} ({change.low:.2f} to {change.high:.2f})"


def _shown(score: SeedScore) -> str:
    return shown(score)


def _held(score: SeedScore) -> str:
    if score.difference is None:
        return "–"
    value = number(score.name, score.difference)
    text = value if value.startswith("-") else f"+{value}"
    if score.difference_low is None or score.difference_high is None:
        return text
    low, high = number(score.name, score.difference_low), number(score.name, score.difference_high)
    return f"{_marked(text, score.difference_low, score.difference_high)} ({low} to {high})"


def _marked(text: str, low: float, high: float) -> str:
    """A difference, bold where its interval excludes 0."""
    return f"**{text}**" if low > 0 or high < 0 else text
