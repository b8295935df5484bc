"""How the command line shows a report, the progress towards it, and the list of pretrained parts."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from emollm.facs import intensity_letter

if TYPE_CHECKING:
    from emollm.report import EmotionReport, PersonReport

OnStage = Callable[[str, int, int | None], None]

_STAGES = {
    "decode": "Reading the clip",
    "faces": "Finding faces",
    "voice": "Hearing the voice",
    "answer": "Writing the answer",
}


@contextmanager
def stages(console: Console, clip: str = "") -> Iterator[OnStage]:
    """Show a line per stage while the work lasts; nothing unless ``console`` is a terminal."""
    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), BarColumn(), TimeElapsedColumn())
    lines: dict[str, TaskID] = {}
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:

        def on_stage(stage: str, done: int, total: int | None) -> None:
            if stage not in lines:
                for line in lines.values():  # what came before is done, whether it counted or not
                    progress.update(line, total=1, completed=1)
                lines[stage] = progress.add_task(f"{clip}{_STAGES.get(stage, stage)}", total=None)
            progress.update(lines[stage], completed=done, total=total)

        yield on_stage


def sentence(console: Console, text: str, style: str = "") -> None:
    """Print one sentence as it is: no markup, and no line breaks where nobody reads it on a screen."""
    console.print(Text(text, style=style), soft_wrap=not console.is_terminal)


def print_report(console: Console, report: "EmotionReport", folder: Path | None = None) -> None:
    """Print the answer, each person's evidence, the warnings, and where the files are."""
    took = f"{report.timings_s['total']:.1f} s" if "total" in report.timings_s else ""
    foot = "  ·  ".join(part for part in (report.model, report.engine, took) if part)
    title = Text(f" {Path(report.clip.path).name} ", style="bold")
    answer = Text(report.answer or "(no answer)", style="bold")
    console.print(Panel(answer, title=title, subtitle=Text(f" {foot} ", style="dim"), padding=(1, 2)))
    for person in report.people:
        console.print(_person(person))
    for warning in report.warnings:
        sentence(console, f"Note: {warning}", "yellow")
    if folder is not None:
        console.print(_files(folder), soft_wrap=True)


def _person(person: "PersonReport") -> RenderableType:
    rows: list[RenderableType] = [Text(_headline(person), style="bold cyan")]
    for name, text in person.reasoning:
        if text:
            rows.append(Text.assemble((f"{name.capitalize()}: ", "bold"), text))
    if person.action_units:
        rows.append(_action_units(person))
    if person.voice is not None:
        rows.append(Text.assemble(("Voice: ", "bold"), _voice(person)))
    checked = person.verification
    if checked.claimed:
        text = (
            f"{len(checked.supported)} of {len(checked.claimed)} claimed Action Units are borne out by the measurement"
        )
        missed = f"; measured but not named: {', '.join(checked.omitted)}" if checked.omitted else ""
        rows.append(Text.assemble(("Checked: ", "bold"), text, missed, "."))
    for emotion, codes in checked.unfitting.items():
        text = f"the interpretation gives {', '.join(codes)} for {emotion}; no usual sign of it, or not observed."
        rows.append(Text.assemble(("Doubtful: ", "bold"), text))
    if person.missing_modalities:
        rows.append(Text(f"Missing: {', '.join(person.missing_modalities)}.", style="yellow"))
    return Group(*rows, "")


def _headline(person: "PersonReport") -> str:
    parts = [f"Person {person.id}" if person.id else "Voice only"]
    if person.emotion.label:
        sure = person.emotion.confidence
        parts.append(person.emotion.label if sure is None else f"{person.emotion.label} {sure:.0%}")
    if person.valence is not None:
        parts.append(f"valence {person.valence:+.1f}")
    if person.arousal is not None:
        parts.append(f"arousal {person.arousal:+.1f}")
    return "  ·  ".join(parts)


def _voice(person: "PersonReport") -> str:
    voice = person.voice
    assert voice is not None
    numbers = [
        form.format(value)
        for form, value in (("{:.0f} Hz", voice.pitch_hz), ("{:.0f} dB", voice.energy_db), ("{:.1f}/s", voice.rate))
        if value is not None
    ]
    return (voice.summary or "measured") + (f" ({', '.join(numbers)})" if numbers else "")


def _action_units(person: "PersonReport") -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for column in ("AU", "name"):
        table.add_column(column)
    table.add_column("intensity", justify="right")
    table.add_column("seconds", justify="right")
    for column in ("claimed", "supported"):
        table.add_column(column, justify="center")
    verdicts = {True: Text("yes", "green"), False: Text("no", "red"), None: Text("")}
    for span in person.action_units:
        table.add_row(
            span.code,
            span.name,
            f"{span.intensity:.1f} {intensity_letter(span.intensity):1}",
            f"{span.start_s:.1f}-{span.end_s:.1f}",
            "yes" if span.claimed else "",
            verdicts[span.supported],
        )
    return table


def _files(folder: Path) -> Text:
    return Text.assemble(
        ("Files: ", "bold"),
        str(folder / "timeline.png"),
        " (picture), ",
        "report.json and action_units.csv beside it.",
    )


def parts_table() -> Table:
    """The pretrained parts: name, what it is, licence, size of the download, and whether it is here already."""
    from emollm.weights import PARTS, is_cached

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for column in ("part", "what it is", "licence"):
        table.add_column(column)
    table.add_column("download", justify="right")
    table.add_column("cached", justify="center")
    for part in PARTS.values():
        size = f"{part.size / 1e6:.1f} MB" if part.size else f"from {part.made_from}"
        table.add_row(part.name, part.what, part.licence, size, "yes" if is_cached(part.name) else "no")
    return table
