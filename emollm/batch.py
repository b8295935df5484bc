"""Many clips in one go: one result after the other, failures reported and passed over, finished work not repeated."""

import json
import os
import tempfile
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from emollm import __version__
from emollm.ahead import ahead
from emollm.errors import BadArgumentError, EmoLLMError, EngineError, WeightsError

if TYPE_CHECKING:
    from emollm.reading import Reading
    from emollm.report import EmotionReport

    Answer = Callable[[list[Reading]], list[EmotionReport]]

#: Written last into a clip's folder: with what the results beside it were made. Only then do they count as finished.
RECORD = "made_with.json"
AT_ONCE = 8  # clips that are read ahead, and that are answered in one batch


@dataclass(frozen=True)
class Settings:
    """What decides the answer about a clip, besides the clip. The fields mean what they mean in `EmoLLM.analyze`."""

    question: str | None = None
    engine: str = "auto"
    model: str | None = None
    person: str = "main"
    transcript: str = "auto"
    think: bool = True
    face_crop: bool = False


@dataclass(frozen=True)
class Job:
    """A clip and the name of its folder in the output folder (empty: that folder itself)."""

    clip: Path
    name: str


@dataclass(frozen=True)
class Outcome:
    """How one clip went: a report, or the error in its place. ``kept``: the report is that of an earlier run."""

    job: Job
    report: "EmotionReport | None" = None
    error: Exception | None = None
    kept: bool = False

    @property
    def exit_code(self) -> int:
        if self.error is None:
            return 0
        return self.error.exit_code if isinstance(self.error, EmoLLMError) else 1


@dataclass(frozen=True)
class _Ready:
    """A clip that was read, or its outcome where there is nothing to ask; ``made_with`` as it was before."""

    made_with: dict
    reading: "Reading | None" = None
    outcome: Outcome | None = None


def plan(paths: Sequence[Path]) -> list[Job]:
    """List the clips that ``paths`` name, folders opened, each clip once, in order.

    A clip's folder is named after its file. Clips of different folders that share a name get a few letters more, which
    depend on the clip's path alone, so that they are the same in every run.

    Raises BadArgumentError if there is nothing to do: no path, or a folder without clips.
    """
    from emollm.media.clip import find_clips

    clips: dict[str, Path] = {}
    for path in paths:
        for clip in find_clips(path) if os.path.isdir(path) else [path]:
            clips.setdefault(os.path.abspath(clip), clip)
    if not clips:
        raise BadArgumentError("There is no clip to analyse.")
    shared = Counter(clip.name.casefold() for clip in clips.values())  # some file systems take Clip.mp4 for clip.mp4
    return [
        Job(
            clip,
            f"{clip.name}-{sha256(os.fsencode(place)).hexdigest()[:8]}"
            if shared[clip.name.casefold()] > 1
            else clip.name,
        )
        for place, clip in clips.items()
    ]


def check_writable(folder: Path) -> None:
    """Make ``folder`` if needed and raise BadArgumentError unless files can be written into it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise BadArgumentError(f"The output folder {folder} cannot be written ({error.strerror or error}).") from error


def check_clip(clip: Path) -> None:
    """Raise ClipError for what can be said against a clip without loading a model for it."""
    from emollm.media.guard import Limits, open_file

    with open_file(clip, Limits()):
        pass


def run(
    jobs: Sequence[Job],
    settings: Settings,
    read: "Callable[[Job], Reading]",
    load: "Callable[[], Answer]",
    out: Path | None = None,
    resume: bool = True,
) -> Generator[Outcome, None, None]:
    """Go through the clips and yield an outcome for each, in order, as soon as it is there.

    ``read`` is called in background threads, some clips ahead; ``load`` once, when the first clip that needs the model
    was read. The model is asked about all clips together that were read by then, ``AT_ONCE`` at most. With ``out``,
    results are written to ``out / job.name``; with ``resume`` too, a clip whose results lie there complete, made with
    the same settings, model and version from the same file, is not analysed again.

    Raises what ``load`` raises, and WeightsError and EngineError, which would hit every clip alike; any other error of
    a clip is its outcome.
    """
    answer: Answer | None = None

    def prepare(job: Job) -> _Ready:
        made_with = _made_with(job, settings)
        if out is not None and resume and (report := _finished(out / job.name, made_with)) is not None:
            return _Ready(made_with, outcome=Outcome(job, report, kept=True))
        try:
            check_clip(job.clip)
            return _Ready(made_with, read(job))
        except (WeightsError, EngineError):
            raise
        except Exception as error:
            return _Ready(made_with, outcome=Outcome(job, error=error))

    def finish(waiting: list[tuple[Job, _Ready]]) -> Iterator[Outcome]:
        nonlocal answer
        readings = [(job, ready.reading) for job, ready in waiting if ready.reading is not None]
        if readings:
            answer = answer or load()
            answered = iter(_answered(readings, answer))
        for job, ready in waiting:
            outcome = ready.outcome or next(answered)
            if out is not None and outcome.report is not None and not outcome.kept:
                try:
                    _write(outcome.report, out / job.name, ready.made_with)
                except Exception as error:
                    outcome = Outcome(job, error=error)
            yield outcome

    waiting: list[tuple[Job, _Ready]] = []
    with closing(ahead(jobs, prepare, AT_ONCE)) as coming:
        for job, under_way in coming:
            if waiting and (len(waiting) == AT_ONCE or not under_way.done()):
                yield from finish(waiting)
                waiting = []
            ready = under_way.result()
            if ready.outcome is not None and not waiting:
                yield ready.outcome
            else:
                waiting.append((job, ready))
        yield from finish(waiting)


def _answered(readings: "list[tuple[Job, Reading]]", answer: "Answer") -> list[Outcome]:
    """What the model says about each; where it fails at all of them together, about each alone."""
    try:
        reports = answer([reading for _, reading in readings])
        return [Outcome(job, report) for (job, _), report in zip(readings, reports, strict=True)]
    except (WeightsError, EngineError):
        raise
    except Exception as failure:
        if len(readings) == 1:
            return [Outcome(readings[0][0], error=failure)]
        return [outcome for one in readings for outcome in _answered([one], answer)]


def _write(report: "EmotionReport", folder: Path, made_with: dict) -> None:
    from emollm.export import write_outputs

    check_writable(folder)
    record = folder / RECORD
    record.unlink(missing_ok=True)  # an interruption from here on leaves results that do not count as finished
    write_outputs(report, folder, report.faces)
    part = record.with_suffix(".part")
    part.write_text(json.dumps(made_with, indent=2), encoding="utf-8")
    part.replace(record)


def _finished(folder: Path, made_with: dict) -> "EmotionReport | None":
    from emollm.report import EmotionReport

    try:
        if json.loads((folder / RECORD).read_text(encoding="utf-8")) != made_with:
            return None
        return EmotionReport.model_validate_json((folder / "report.json").read_bytes())
    except (OSError, ValueError):  # not there, or damaged
        return None


def _made_with(job: Job, settings: Settings) -> dict:
    model = Path(settings.model) if settings.model else Path(__file__).parent / "checkpoints"
    subtitles = [job.clip.with_suffix(suffix) for suffix in (".srt", ".vtt")] + [Path(settings.transcript)]
    files = [job.clip, *subtitles, *(sorted(model.rglob("*")) if model.is_dir() else [])]
    inputs = [[path.name, os.stat(path).st_size, os.stat(path).st_mtime_ns] for path in files if os.path.isfile(path)]
    return {"emollm": __version__, "settings": asdict(settings), "inputs": inputs}
