"""The command line around a stand-in for the model: what a user types, sees, and gets as exit code."""

import json
import os
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image

from emollm.cli import main
from emollm.errors import BadArgumentError, NothingToReadError
from emollm.media.clip import read_clip
from emollm.report import (
    ActionUnitSpan,
    ClipSummary,
    EmotionEstimate,
    EmotionReport,
    PersonReport,
    Reasoning,
    Verification,
    VoiceSummary,
)

pytestmark = pytest.mark.filterwarnings("ignore:a library warns")


def report_of(clip: Path, question: str) -> EmotionReport:
    return EmotionReport(
        clip=ClipSummary(path=str(clip), duration_s=2.0, frames_used=10, has_audio=True),
        people=[
            PersonReport(
                id=1,
                box_share=0.2,
                emotion=EmotionEstimate(label="happiness", distribution={"happiness": 0.8}, confidence=0.8),
                valence=0.7,
                action_units=[
                    ActionUnitSpan(code="AU12", name="lip corner puller", intensity=3.2, start_s=0.4, end_s=1.6,
                                   claimed=True, supported=True),
                    ActionUnitSpan(code="AU4", name="brow lowerer", intensity=0.2, start_s=0.0, end_s=2.0,
                                   claimed=True, supported=False),
                ],
                voice=VoiceSummary(pitch_hz=210.0, summary="high pitch"),
                reasoning=Reasoning(observations="Her lip corners rise.", conclusion="She is happy."),
                verification=Verification(claimed=["AU12", "AU4"], supported=["AU12"], unsupported=["AU4"],
                                          omitted=["AU6"], support_rate=0.5, unfitting={"happiness": ["AU4"]}),
            )
        ],
        question=question,
        answer="She looks [happy] and smiles.",
        model="fake-model",
        engine="transformers",
        warnings=["2 of 12 frames were too blurred."],
    )  # fmt: skip


class Model:
    """Answers without a model; some names of clips make it fail."""

    calls: list[dict]

    @classmethod
    def from_pretrained(cls, model: str | None = None, *, engine: str = "auto", progress: bool = True) -> "Model":
        return cls()

    def answer(self, readings: list[SimpleNamespace], question: str | None, *, think: bool) -> list[EmotionReport]:
        for reading in readings:
            self.calls.append({"clip": reading.clip.name, "question": question, "think": think, **reading.how})
            match reading.clip.stem:
                case "bug":
                    raise ZeroDivisionError("division by zero\nsecond line")
                case "stop":
                    raise KeyboardInterrupt
        return [report_of(reading.clip, question or "How does this person feel?") for reading in readings]

    def chat(self, clip: Path, **how: object) -> "Talk":
        read_clip(clip)
        self.calls.append({"clip": clip.name, **how})
        return Talk()


def read(clip: Path, *, on_stage: Callable | None, **how: object) -> SimpleNamespace:
    """Opens each clip for real; finds nobody in those that are named so."""
    read_clip(clip)
    print("a library prints to stdout")
    os.write(2, b"W0000 00:00 native noise\n")
    warnings.warn("a library warns", stacklevel=1)
    if on_stage is not None:
        on_stage("faces", 1, 10)
    if clip.stem == "nobody":
        raise NothingToReadError("There is neither a face nor a voice.")
    while clip.stem == "stop" and not Path("out/a.png/report.json").exists():  # lest both are answered together
        time.sleep(0.01)
    return SimpleNamespace(clip=clip, how=how)


class Talk:
    def __init__(self) -> None:
        self.thought, self.warnings = "", ["No sound."]

    def ask(self, question: str) -> Iterator[str]:
        if question == "bad":
            raise BadArgumentError("The question is too long.")
        self.thought = f"thinking of {question}"
        yield from ("It is ", "[so]", f": {question}")


@pytest.fixture(autouse=True)
def calls(monkeypatch: pytest.MonkeyPatch) -> list[dict]:
    Model.calls = []
    monkeypatch.setitem(sys.modules, "emollm.api", SimpleNamespace(EmoLLM=Model))
    monkeypatch.setitem(sys.modules, "emollm.reading", SimpleNamespace(read=read))
    return Model.calls


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Working folder with one good picture in it."""
    monkeypatch.chdir(tmp_path)
    picture("good.png")
    return tmp_path


def picture(path: str) -> None:
    Path(path).parent.mkdir(exist_ok=True)
    Image.new("RGB", (64, 48), "gray").save(path)


@pytest.fixture
def emollm(capfd: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run the command line: its arguments to (exit code, stdout, stderr)."""

    def call(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as stop:
            main(list(arguments))
        out, err = capfd.readouterr()
        assert isinstance(stop.value.code, int)
        return stop.value.code, out, err

    return call


def one_sentence(text: str) -> bool:
    return text.count("\n") == 1 and "Traceback" not in text and len(text) > 10


def test_the_answer_and_its_evidence_are_shown(folder, emollm):
    code, out, err = emollm("analyze", "good.png")
    assert (code, err) == (0, "")
    for shown in ("She looks [happy] and smiles.", "happiness 80%", "valence +0.7", "Her lip corners rise.", "AU12",
                  "3.2 C", "0.4-1.6", "high pitch (210 Hz)", "1 of 2 claimed",
                  "AU6", "AU4 for happiness", "too blurred"):  # fmt: skip
        assert shown in out


def test_options_reach_the_model(folder, emollm, calls):
    (folder / "talk.srt").write_text("1\n00:00:00,000 --> 00:00:01,000\nHello\n")
    code, _, _ = emollm("analyze", "good.png", "--question", "Why?", "--person", "2", "--transcript", "talk.srt",
                        "--no-think", "--face-crop", "--engine", "transformers")  # fmt: skip
    assert code == 0
    assert calls == [
        {"clip": "good.png", "question": "Why?", "person": "2", "transcript": "talk.srt", "think": False,
         "face_crop": True}
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["analyze"], 2),
        (["analyze", "good.png", "--nonsense"], 2),
        (["analyze", "good.png", "--engine", "steam"], 2),
        (["analyze", "good.png", "--engine", "http://"], 2),
        (["chat", "good.png", "--engine", "http://localhost:port/v1"], 2),
        (["eval", "ferplus", "--engine", "ftp://localhost/v1"], 2),
        (["analyze", "good.png", "--person", "0"], 2),
        (["analyze", "good.png", "--person", "first"], 2),
        (["analyze", "good.png", "good.png", "more", "--transcript", "talk.srt"], 2),
        (["analyze", "no_clips"], 2),
        (["analyze", "good.png", "--out", "good.png/out"], 2),
        (["analyze", "missing.mp4"], 3),
        (["analyze", "text.mp4"], 3),
        (["analyze", "zero.mp4"], 3),
        (["analyze", "nobody.png"], 4),
        (["analyze", "bug.png"], 1),
        (["chat", "missing.mp4"], 3),
        (["chat", "text.mp4"], 3),
        (["models", "pull", "no-such-part"], 2),
        (["train", "face", "missing.yaml"], 2),
        (["train", "face", "text.mp4", "epochs"], 2),
        (["train", "nose", "missing.yaml"], 2),
    ],
)
def test_every_error_is_one_sentence_and_a_code(arguments, code, folder, emollm):
    (folder / "no_clips").mkdir()
    (folder / "text.mp4").write_text("this is no video\n" * 100)
    (folder / "zero.mp4").touch()
    picture("nobody.png")
    picture("bug.png")
    found, out, err = emollm(*arguments)
    assert (found, out) == (code, "")
    assert one_sentence(err)


def test_a_bug_is_told_in_one_line_and_in_full_with_debug(folder, emollm):
    picture("bug.png")
    _, _, err = emollm("analyze", "bug.png")
    assert "ZeroDivisionError (division by zero)" in err
    assert "--debug" in err
    code, _, err = emollm("analyze", "bug.png", "--debug")
    assert code == 1
    assert "Traceback" in err
    assert "second line" in err


def test_library_noise_is_shown_only_with_debug(folder, emollm):
    _, _, err = emollm("analyze", "good.png")
    assert err == ""
    _, _, err = emollm("analyze", "good.png", "--debug")
    assert "native noise" in err
    assert "a library prints" in err


def test_json_is_all_there_is_on_stdout(folder, emollm):
    code, out, _ = emollm("analyze", "good.png", "--json")
    assert code == 0
    assert EmotionReport.model_validate_json(out) == report_of(Path("good.png"), "How does this person feel?")


def test_json_lines_for_several_clips_with_a_bad_one(folder, emollm):
    for name in ("clips/a.png", "clips/nobody.png", "clips/z.png"):
        picture(name)
    code, out, err = emollm("analyze", "clips", "--json")
    assert code == 4
    assert [json.loads(line)["clip"]["path"] for line in out.splitlines()] == ["clips/a.png", "clips/z.png"]
    assert err.splitlines()[0] == "nobody.png: There is neither a face nor a voice."
    assert err.splitlines()[-1] == "2 of 3 clips are done."


def test_the_highest_code_of_several_failures_is_the_exit_code(folder, emollm):
    picture("nobody.png")
    code, _, _ = emollm("analyze", "missing.mp4", "nobody.png", "good.png")
    assert code == 4


def test_names_with_spaces_and_other_letters(folder, emollm):
    name = "été à la mer/她 在 笑 [bold].png"
    picture(name)
    code, out, _ = emollm("analyze", name, "--out", "résumé 1")
    assert code == 0
    assert "她 在 笑 [bold].png" in out
    assert {path.name for path in Path("résumé 1").iterdir()} >= {"report.json", "action_units.csv", "timeline.png"}
    assert "résumé 1/timeline.png" in out


def test_a_rerun_goes_on_where_the_last_stopped(folder, emollm, calls):
    for name in ("clips/a.png", "clips/stop.png", "clips/z.png"):
        picture(name)
    code, _, err = emollm("analyze", "clips", "--out", "out")
    assert code == 130
    assert one_sentence(err)
    assert "1 of 3" in err

    (folder / "clips" / "stop.png").rename(folder / "clips" / "y.png")
    code, out, _ = emollm("analyze", "clips", "--out", "out", "--json")
    assert code == 0
    assert len(out.splitlines()) == 3  # the kept report is printed too
    assert [call["clip"] for call in calls] == ["a.png", "stop.png", "y.png", "z.png"]
    code, _, err = emollm("analyze", "clips", "--out", "out")
    assert "a.png: done before" in err
    assert len(calls) == 4


def test_the_word_example_means_the_example_clip(folder, emollm, calls, monkeypatch):
    monkeypatch.setattr("emollm.weights.fetch", lambda name: {"example_clip": Path("good.png")}[name])
    assert emollm("analyze", "example")[0] == 0
    assert calls[0]["clip"] == "good.png"
    Image.new("RGB", (8, 8)).save("example", format="png")
    assert emollm("analyze", "example")[0] == 0
    assert calls[1]["clip"] == "example"


def test_chat_answers_each_line_of_standard_input(folder, emollm, calls, monkeypatch):
    questions = iter(["Why?", "", "  And now? ", "/exit", "never asked"])
    monkeypatch.setattr("builtins.input", lambda prompt: next(questions))
    code, out, err = emollm("chat", "good.png", "--no-think", "--person", "all")
    assert code == 0
    assert out == "It is [so]: Why?\nIt is [so]: And now?\n"
    assert err == "Note: No sound.\nthinking of Why?\nthinking of And now?\n"
    assert calls == [
        {"clip": "good.png", "person": "all", "transcript": "auto", "think": False, "face_crop": False}
        | {"on_stage": calls[0]["on_stage"]}
    ]


def test_a_question_that_is_refused_does_not_end_the_talk(folder, emollm, monkeypatch):
    questions = iter(["bad", "good"])
    monkeypatch.setattr("builtins.input", lambda prompt: next(questions, None) or raise_end())
    code, out, err = emollm("chat", "good.png")
    assert code == 2
    assert out == "It is [so]: good\n"
    assert "The question is too long." in err


def raise_end() -> str:
    raise EOFError


def test_ctrl_c_ends_a_chat(folder, emollm, monkeypatch):
    def stopped(prompt: str) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr("builtins.input", stopped)
    assert emollm("chat", "good.png")[0] == 130


def test_models_list_names_every_part(emollm, monkeypatch):
    from emollm.weights import PARTS

    monkeypatch.setenv("COLUMNS", "200")
    code, out, _ = emollm("models", "list")
    assert code == 0
    for part in PARTS.values():
        assert part.name in out
        assert part.licence in out


def test_models_pull_fetches_what_is_named(emollm, monkeypatch):
    asked = []

    def pull(names: list[str] | None) -> dict[str, Path]:
        asked.append(names)
        return dict.fromkeys(names or ["llm", "whisper"], Path())

    monkeypatch.setattr("emollm.weights.pull", pull)
    assert emollm("models", "pull", "whisper")[0] == 0
    code, out, _ = emollm("models", "pull")
    assert (code, asked) == (0, [["whisper"], None])
    assert out.startswith("llm, whisper: ready in")


def test_train_hands_the_recipe_with_its_changes_to_the_trainer(folder, emollm, monkeypatch):
    from pydantic import BaseModel

    class FaceRecipe(BaseModel):
        epochs: int
        seed: int = 0

    room = SimpleNamespace(FaceRecipe=FaceRecipe, train_face=lambda recipe: {"epochs": recipe.epochs, "war": 0.5})
    monkeypatch.setitem(sys.modules, "emollm.train.face", room)
    (folder / "recipe.yaml").write_text("epochs: 3\n")
    code, out, _ = emollm("train", "face", "recipe.yaml", "epochs=7")
    assert (code, json.loads(out)) == (0, {"epochs": 7, "war": 0.5})
    code, _, err = emollm("train", "face", "recipe.yaml", "seed=many")
    assert code == 2
    assert one_sentence(err)


def test_help_imports_nothing_heavy():
    script = """
import sys
from emollm.cli import main
try:
    main(["analyze", "--help"])
except SystemExit as stop:
    assert stop.code == 0
heavy = {"torch", "transformers", "numpy", "pandas", "av", "cv2", "mediapipe", "matplotlib"}
print(sorted(heavy & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "--question" in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"


def test_python_m_emollm_is_the_command_line():
    done = subprocess.run([sys.executable, "-m", "emollm", "analyze", "none.mp4"], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (3, "", "There is no clip at none.mp4.\n")


def test_a_real_interrupt_keeps_what_is_finished(folder):
    """SIGINT to a process that sits in its second clip."""
    for name in ("clips/a.png", "clips/b.png"):
        picture(name)
    script = """
import signal, sys, time
from pathlib import Path
from types import SimpleNamespace
from emollm.report import ClipSummary, EmotionReport

class Slow:
    def answer(self, clips, question, **how):
        if clips[0].stem == "b":
            Path("in-b").touch()
            time.sleep(60)
        summary = ClipSummary(path=str(clips[0]), duration_s=0, frames_used=1, has_audio=False)
        return [EmotionReport(clip=summary, people=[], question="", answer="Yes.", model="m", engine="e")]

def read(clip, **how):
    while clip.stem == "b" and not Path("out/a.png/report.json").exists():
        time.sleep(0.01)
    return clip

sys.modules["emollm.reading"] = SimpleNamespace(read=read)
sys.modules["emollm.api"] = SimpleNamespace(EmoLLM=SimpleNamespace(from_pretrained=lambda model, engine: Slow()))
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where the tests run in the background of a shell
from emollm.cli import main
main(["analyze", "clips", "--out", "out"])
"""
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    while not Path("in-b").exists() and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Yes." in out
    assert one_sentence(err)
    assert json.loads(Path("out/a.png/report.json").read_text())["answer"] == "Yes."
    assert not Path("out/b.png").exists()
