import json
import os
import threading
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path

import pytest

from emollm.batch import RECORD, Job, Settings, check_writable, plan, run
from emollm.errors import BadArgumentError, EngineError, NothingToReadError, WeightsError
from emollm.report import ClipSummary, EmotionEstimate, EmotionReport, PersonReport


def report_of(clip: Path, answer: str = "Calm.") -> EmotionReport:
    return EmotionReport(
        clip=ClipSummary(path=str(clip), duration_s=0.0, frames_used=1, has_audio=False),
        people=[PersonReport(id=1, box_share=0.5, emotion=EmotionEstimate(label="neutral"))],
        question="How does she feel?",
        answer=answer,
        model="fake",
        engine="fake",
    )


class Model:
    """Counts how often it is loaded, and remembers the clips it was asked about, batch by batch."""

    def __init__(self, errors: dict[str, BaseException] | None = None):
        self.errors, self.asked, self.loaded = errors or {}, [], 0

    @property
    def seen(self) -> list[str]:
        return [name for names in self.asked for name in names]

    def load(self):
        self.loaded += 1
        return self.answer

    def answer(self, clips: list[Path]) -> list[EmotionReport]:
        self.asked.append([clip.name for clip in clips])
        for clip in clips:
            if clip.name in self.errors:
                raise self.errors[clip.name]
        return [report_of(clip) for clip in clips]


def read(job: Job) -> Path:
    """Stands for a clip that was read; some names make it fail."""
    if job.clip.stem == "nobody":
        raise NothingToReadError("Nothing.")
    return job.clip


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    folder = tmp_path / "clips"
    folder.mkdir()
    for name in ("a.mp4", "b.mp4", "c.mp4"):
        (folder / name).write_bytes(b"not empty")
    return folder


def test_plan_opens_folders_and_takes_each_clip_once(clips: Path):
    (clips / "notes.txt").write_text("no clip")
    jobs = plan([clips / "b.mp4", clips, clips / ".." / "clips" / "a.mp4"])
    assert [job.name for job in jobs] == ["b.mp4", "a.mp4", "c.mp4"]


def test_clips_that_share_a_name_get_folders_of_their_own(tmp_path: Path):
    paths = [tmp_path / "one" / "clip.mp4", tmp_path / "two" / "Clip.mp4", tmp_path / "one" / "other.mp4"]
    names = {job.clip: job.name for job in plan(paths)}
    assert names[paths[2]] == "other.mp4"
    assert len({name.casefold() for name in names.values()}) == 3
    assert {job.clip: job.name for job in plan(paths[::-1])} == names  # the order of arguments changes nothing


def test_plan_refuses_a_folder_without_clips(tmp_path: Path):
    with pytest.raises(BadArgumentError, match="no clips"):
        plan([tmp_path])


def test_a_failed_clip_does_not_stop_the_rest(clips: Path):
    model = Model({"b.mp4": ZeroDivisionError("a bug")})
    (clips / "a.mp4").rename(clips / "nobody.mp4")
    (clips / "d.mp4").touch()
    jobs = plan([clips, clips / "missing.mp4"])
    outcomes = {outcome.job.name: outcome for outcome in run(jobs, Settings(), read, model.load)}
    codes = {name: outcome.exit_code for name, outcome in outcomes.items()}
    assert codes == {"nobody.mp4": 4, "b.mp4": 1, "c.mp4": 0, "d.mp4": 3, "missing.mp4": 3}
    assert outcomes["c.mp4"].report is not None
    assert set(model.seen) == {"b.mp4", "c.mp4"}
    assert model.loaded == 1


@pytest.fixture
def under_way(monkeypatch: pytest.MonkeyPatch) -> list[Future]:
    """Everything that background threads were given to do."""
    futures: list[Future] = []

    class Pool(ThreadPoolExecutor):
        def submit(self, *work, **how):
            futures.append(super().submit(*work, **how))
            return futures[-1]

    monkeypatch.setattr("emollm.ahead.ThreadPoolExecutor", Pool)
    return futures


def test_clips_are_read_while_the_model_answers_and_then_answered_together(clips: Path, under_way: list[Future]):
    may_go_on = threading.Event()

    def read_later(job: Job) -> Path:
        assert job.clip.name == "a.mp4" or may_go_on.wait(60)
        return job.clip

    class Slow(Model):
        def answer(self, clips: list[Path]) -> list[EmotionReport]:
            may_go_on.set()
            assert len(under_way) == 3
            assert not wait(under_way, 60).not_done
            return super().answer(clips)

    model = Slow()
    outcomes = run(plan([clips]), Settings(), read_later, model.load)
    assert next(outcomes).job.name == "a.mp4"
    assert model.asked == [["a.mp4"]]
    assert [outcome.job.name for outcome in outcomes] == ["b.mp4", "c.mp4"]
    assert model.asked == [["a.mp4"], ["b.mp4", "c.mp4"]]


def test_a_clip_that_cannot_be_read_does_not_wait_for_the_model(clips: Path):
    (clips / "a.mp4").rename(clips / "nobody.mp4")
    model = Model()
    outcomes = run([Job(clips / "nobody.mp4", "n"), Job(clips / "b.mp4", "b")], Settings(), read, model.load)
    assert next(outcomes).exit_code == 4
    assert model.loaded == 0
    assert next(outcomes).exit_code == 0


@pytest.mark.parametrize("error", [WeightsError("Not reachable."), EngineError("The server cannot be reached.")])
def test_what_would_hit_every_clip_stops_everything(error: Exception, clips: Path):
    with pytest.raises(type(error)):
        list(run(plan([clips]), Settings(), read, Model({"a.mp4": error}).load))


def test_a_rerun_does_only_what_is_not_done(clips: Path, tmp_path: Path):
    out, jobs = tmp_path / "out", plan([clips])
    broken = Model({"b.mp4": ValueError("this once")})
    assert [o.exit_code for o in run(jobs, Settings(), read, broken.load, out)] == [0, 1, 0]

    model = Model()
    outcomes = list(run(jobs, Settings(), read, model.load, out))
    assert model.seen == ["b.mp4"]
    assert [outcome.kept for outcome in outcomes] == [True, False, True]
    assert outcomes[0].report == report_of(clips / "a.mp4")

    idle = Model()
    assert all(outcome.kept for outcome in run(jobs, Settings(), read, idle.load, out))
    assert idle.loaded == 0


@pytest.mark.parametrize("change", ["question", "clip", "subtitles", "report", "record", "not asked to resume"])
def test_what_invalidates_a_result(change: str, clips: Path, tmp_path: Path):
    out, clip = tmp_path / "out", clips / "a.mp4"
    jobs = [Job(clip, "a")]
    list(run(jobs, Settings(), read, Model().load, out))
    assert next(run(jobs, Settings(), read, Model().load, out)).kept

    settings = Settings(question="Why?") if change == "question" else Settings()
    if change == "clip":
        os.utime(clip, (1, 1))
    elif change == "subtitles":
        clip.with_suffix(".srt").write_text("1\n00:00:00,000 --> 00:00:01,000\nHello\n")
    elif change == "report":
        (out / "a" / "report.json").write_text('{"clip": ')
    elif change == "record":
        (out / "a" / RECORD).unlink()
    assert not next(run(jobs, settings, read, Model().load, out, resume=change != "not asked to resume")).kept


def test_another_model_in_the_same_folder_invalidates_a_result(clips: Path, tmp_path: Path):
    weights = tmp_path / "model" / "model.safetensors"
    weights.parent.mkdir()
    weights.write_bytes(b"first")
    jobs, settings = [Job(clips / "a.mp4", "a")], Settings(model=str(weights.parent))
    list(run(jobs, settings, read, Model().load, tmp_path / "out"))
    weights.write_bytes(b"second")
    assert not next(run(jobs, settings, read, Model().load, tmp_path / "out")).kept


def test_an_interruption_while_writing_leaves_nothing_that_looks_done(clips: Path, tmp_path: Path, monkeypatch):
    out, jobs = tmp_path / "out", [Job(clips / "a.mp4", "a")]
    list(run(jobs, Settings(), read, Model().load, out))

    def interrupted(report: EmotionReport, folder: Path, faces: object) -> None:
        (folder / "report.json").write_text(report.model_dump_json())
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("emollm.export.write_outputs", interrupted)
        with pytest.raises(KeyboardInterrupt):
            list(run(jobs, Settings(question="Why?"), read, Model().load, out))
    for settings in (Settings(), Settings(question="Why?")):
        assert not next(run(jobs, settings, read, Model().load, out)).kept


def test_an_output_folder_that_is_a_file_fails_that_clip_alone(clips: Path, tmp_path: Path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "a.mp4").touch()
    assert [outcome.exit_code for outcome in run(plan([clips]), Settings(), read, Model().load, out)] == [2, 0, 0]


def test_the_record_says_with_what_results_were_made(clips: Path, tmp_path: Path):
    list(run([Job(clips / "a.mp4", "")], Settings(person="all"), read, Model().load, tmp_path))
    record = json.loads((tmp_path / RECORD).read_text())
    assert record["settings"]["person"] == "all"
    assert record["inputs"][0][:2] == ["a.mp4", 9]
    assert (tmp_path / "report.json").exists()


def test_check_writable(tmp_path: Path):
    check_writable(tmp_path / "new" / "deeper")
    assert list((tmp_path / "new" / "deeper").iterdir()) == []
    (tmp_path / "file").touch()
    with pytest.raises(BadArgumentError, match="cannot be written"):
        check_writable(tmp_path / "file" / "out")
