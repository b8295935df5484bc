"""Hostile and odd clips through the real command line: a process for each, its exit code, its words and its memory.

What the clips decode to is tested in media/test_guard.py; here they meet the whole program.
"""

import json
import os
import signal
import struct
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import skimage.data
from media.conftest import tone, write_clip
from media.test_guard import patched, png
from PIL import Image
from tiny import make_speech, make_tiny

from emollm.batch import RECORD
from emollm.errors import WeightsError
from emollm.report import EmotionReport
from emollm.weights import fetch

MEMORY = 2e9  # bytes
FACE = np.ascontiguousarray(skimage.data.astronaut()[:256, 96:352])
SPEECH = {"sound": make_speech(2.0), "rate": 16_000}
DURATION_MARK = b"\x44\x89\x88"  # in a Matroska header; the duration in milliseconds follows

# Starts the command line, and writes behind its last line on stderr the most memory it held, in bytes. Measured from
# the tests' own process it would be too much, because the peak of a child begins with its parent's size.
LAUNCHER = """
import resource, signal, subprocess, sys
signal.signal(signal.SIGINT, lambda *_: None)  # and back to the default in what is started, even if it was ignored
code = subprocess.call(sys.argv[1:])
peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
print(peak if sys.platform == "darwin" else peak * 1024, file=sys.stderr)
sys.exit(code)
"""


@dataclass(frozen=True)
class Run:
    code: int
    out: str
    err: str

    @property
    def report(self) -> EmotionReport:
        return EmotionReport.model_validate_json(self.out)


def start(folder: Path, model: Path, *arguments: str) -> subprocess.Popen[str]:
    """Start ``emollm analyze`` in ``folder``, in a process group of its own as a shell does."""
    command = [sys.executable, "-m", "emollm", "analyze", *arguments, "--model", str(model), "--json"]
    return subprocess.Popen(
        [sys.executable, "-ISc", LAUNCHER, *command],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        process_group=0,
    )


def finish(process: subprocess.Popen[str]) -> Run:
    try:
        out, err = process.communicate(timeout=300)
    except subprocess.TimeoutExpired:  # a clip that keeps the program busy for ever is a finding, not a hung test run
        os.killpg(process.pid, signal.SIGKILL)
        raise
    *lines, peak = err.splitlines(keepends=True)
    assert int(peak) < MEMORY
    return Run(process.returncode, out, "".join(lines))


def analyze(folder: Path, model: Path, *arguments: str) -> Run:
    return finish(start(folder, model, *arguments))


def is_sentence(text: str, *typed: str) -> bool:
    """One line, one sentence, and no path in it but what the user typed."""
    for path in typed:
        text = text.replace(path, "it")
    return text.endswith(".\n") and not any(mark in text[:-2] for mark in ("\n", ". ", "/", "Traceback", "Error"))


@pytest.fixture(scope="session")
def tiny(tmp_path_factory) -> Path:
    return make_tiny(tmp_path_factory.mktemp("hostile_tiny"))


@pytest.fixture(scope="session")
def landmarker() -> None:
    try:
        fetch("face_landmarker", progress=False)
    except WeightsError as error:
        pytest.skip(f"the face landmarker is not in reach: {error}")


# Makers of clips


def film(path: Path, seconds: float = 2.0, **changes: object) -> Path:
    """Ten pictures of a face a second."""
    times = np.arange(0, seconds, 0.1).tolist()
    return write_clip(path, times=times, pictures=[FACE] * len(times), size=(256, 256), **changes)


def portrait(path: Path) -> None:
    Image.fromarray(FACE).save(path)


def nothing(path: Path) -> None:
    pass


def folder_without_clips(path: Path) -> None:
    path.mkdir()
    (path / "notes.txt").write_text("No clip.")


def text(path: Path) -> None:
    path.write_text("Dear diary, today nothing happened. " * 200)


def without_its_index(path: Path) -> None:
    film(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])  # the index comes last


def three_hours_declared(path: Path) -> None:
    patched(film(path), (DURATION_MARK, 0, struct.pack(">d", 3 * 3600 * 1000.0)))


def vast_frame_in_a_small_header(path: Path) -> None:
    with av.open(str(path), "w") as out:
        stream = out.add_stream("png", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "rgb24"
        packet = av.Packet(png(14_000, 14_000, rows=14_000))  # unfolds to 588 MB
        packet.stream, packet.time_base, packet.is_keyframe = stream, Fraction(1, 25), True
        packet.pts, packet.dts, packet.duration = 0, 0, 1
        out.mux(packet)


def vast_picture(path: Path) -> None:
    path.write_bytes(png(30_000, 30_000, rows=10))


def nobody(path: Path) -> None:
    write_clip(path, times=[0, 0.5, 1, 1.5], sound=tone(2.0))


# Clips that nothing can be said about

REFUSED: list[tuple[Callable[[Path], object], str, int, str]] = [
    (nothing, "missing.mp4", 3, "There is no clip at missing.mp4."),
    (Path.touch, "zero.mp4", 3, "empty"),
    (folder_without_clips, "holiday", 2, "holds no clips"),  # no clip is at fault, but what was asked for
    (text, "text.mp4", 3, "cannot be read"),
    (without_its_index, "cut.mp4", 3, "cut short"),
    (three_hours_declared, "long.mkv", 3, "180.0 minutes"),
    (vast_frame_in_a_small_header, "bomb.mov", 3, "neither a picture nor a sound"),
    (vast_picture, "vast.png", 3, "limit of 65 million"),
    (nobody, "nobody.mp4", 4, "no face and holds no voice"),
]


@pytest.mark.parametrize(("make", "name", "code", "said"), REFUSED, ids=[row[1] for row in REFUSED])
def test_one_sentence_and_a_code(tmp_path, tiny, landmarker, make, name, code, said):
    make(tmp_path / name)
    run = analyze(tmp_path, tiny, name)
    assert (run.code, run.out) == (code, "")
    assert said in run.err
    assert is_sentence(run.err, name)


# Neither can be made by root: below a file, and where the kernel makes the files.
@pytest.mark.parametrize("out", ["face.png/out", "/proc/emollm out"])
def test_an_output_folder_that_cannot_be_written(tmp_path, tiny, out):
    if out.startswith("/proc") and not Path("/proc/self").exists():
        pytest.skip("there is no /proc here")
    portrait(tmp_path / "face.png")
    run = analyze(tmp_path, tiny, "face.png", "--out", out)
    assert (run.code, run.out) == (2, "")  # what is at fault is an argument; the clip is not even opened
    assert "cannot be written" in run.err
    assert is_sentence(run.err, out)


def test_bad_clips_do_not_stop_the_others(tmp_path, tiny, landmarker):
    for name, make in {"a.mp4": text, "b.mp4": Path.touch, "c.mp4": nobody, "d.mp4": vast_picture, "e.png": portrait,
                       "f.mp4": without_its_index}.items():  # fmt: skip
        make(tmp_path / name)
    run = analyze(tmp_path, tiny, ".")
    assert run.code == 4  # the highest
    assert run.report.clip.path == "e.png"
    *failures, summary = run.err.splitlines(keepends=True)
    assert [line.split(":")[0] for line in failures] == ["a.mp4", "b.mp4", "c.mp4", "d.mp4", "f.mp4"]
    assert all(is_sentence(line) for line in failures)
    assert summary == "1 of 6 clips are done.\n"


# Odd clips that can be read: one run over a folder, for the names of which nothing but a slash is forbidden


@pytest.fixture(scope="module")
def seen(tmp_path_factory, tiny, landmarker) -> dict[str, EmotionReport]:
    place = tmp_path_factory.mktemp("odd")
    folder = place / "été à la mer"
    folder.mkdir()
    write_clip(folder / "one frame.mp4", times=[0], pictures=[FACE], size=(256, 256))
    film(folder / "no sound.mp4")
    film(folder / "silent.mp4", sound=np.zeros(32_000, np.float32), rate=16_000)
    write_clip(folder / "sound only.wav", **SPEECH, audio="pcm_s16le")
    write_clip(folder / "no face.mp4", times=np.arange(0, 2, 0.1).tolist(), **SPEECH)
    half = film(folder / "half.mp4", 3.0, options={"g": "1"}, container_options={"movflags": "faststart"})
    half.write_bytes(half.read_bytes()[: half.stat().st_size // 2])
    patched(film(folder / "short header.mkv"), (DURATION_MARK, 0, struct.pack(">d", 100.0)))
    portrait(folder / "她 在 笑 [bold] 😀.png")

    run = analyze(place, tiny, folder.name, "--out", "résumé 1")
    assert run.code == 0
    assert run.err == "8 of 8 clips are done.\n"
    reports = {Path(line["clip"]["path"]).name: line for line in map(json.loads, run.out.splitlines())}
    assert len(reports) == 8
    for name, report in reports.items():
        assert json.loads((place / "résumé 1" / name / "report.json").read_text(encoding="utf-8")) == report
    return {name: EmotionReport.model_validate(report) for name, report in reports.items()}


def test_a_single_frame(seen):
    report = seen["one frame.mp4"]
    assert report.clip.frames_used == 1
    assert [person.id for person in report.people] == [1]


def test_no_sound_track(seen):
    report = seen["no sound.mp4"]
    assert not report.clip.has_audio
    assert report.people[0].missing_modalities == ["voice"]


def test_a_silent_track(seen):
    report = seen["silent.mp4"]
    assert report.clip.has_audio
    assert report.people[0].missing_modalities == ["voice"]
    assert "The sound holds no voice." in report.warnings


def test_sound_only(seen):
    (person,) = seen["sound only.wav"].people
    assert person.missing_modalities == ["face"]
    assert person.voice is not None


def test_a_voice_without_a_face(seen):
    (person,) = seen["no face.mp4"].people
    assert person.missing_modalities == ["face"]
    assert "No face was found." in seen["no face.mp4"].warnings


def test_half_a_file(seen):
    report = seen["half.mp4"]
    assert 0 < report.clip.frames_used < 10
    assert any("The header says" in warning for warning in report.warnings)


def test_a_header_that_declares_too_little(seen):
    report = seen["short header.mkv"]
    assert report.clip.frames_used == 10
    assert any("The header says 0.1 s" in warning for warning in report.warnings)


def test_a_path_with_spaces_and_other_letters(seen):
    report = seen["她 在 笑 [bold] 😀.png"]
    assert report.clip.path == "été à la mer/她 在 笑 [bold] 😀.png"
    assert len(report.people) == 1


def test_eight_faces(tmp_path, tiny, landmarker):
    Image.fromarray(np.tile(FACE, (2, 4, 1))).save(tmp_path / "eight.png")
    run = analyze(tmp_path, tiny, "eight.png", "--person", "all")
    assert (run.code, run.err) == (0, "")
    assert [person.id for person in run.report.people] == list(range(1, 9))


def test_8k_frames(tmp_path, tiny, landmarker):
    """Each may refer to sixteen others, which would take a gigabyte; so only the key frames are read."""
    picture = np.full((4320, 7680, 3), 190, np.uint8)
    picture[:, 1680:6000] = cv2.resize(FACE, (4320, 4320))
    times = [i / 5 for i in range(18)]
    options = {"preset": "ultrafast", "crf": "40", "refs": "16", "g": "6"}
    write_clip(tmp_path / "8k.mp4", times=times, pictures=[picture] * 18, size=(7680, 4320), options=options)
    run = analyze(tmp_path, tiny, "8k.mp4")
    assert (run.code, run.err) == (0, "")
    assert run.report.clip.frames_used == 3
    assert any("key frames" in warning for warning in run.report.warnings)


def test_ctrl_c_keeps_what_is_finished(tmp_path, tiny, landmarker):
    clips = tmp_path / "clips"
    clips.mkdir()
    portrait(clips / "a.png")
    film(clips / "b.mp4", seconds=100)  # takes many seconds to look through
    process = start(tmp_path, tiny, "clips", "--out", "out")
    assert process.stdout
    first = process.stdout.readline()
    os.killpg(process.pid, signal.SIGINT)  # to the whole group, as a terminal does
    run = finish(process)
    assert (run.code, run.out) == (130, "")
    assert run.err.startswith("Stopped after 1 of 2 clips")
    assert is_sentence(run.err)
    assert (tmp_path / "out" / "a.png" / RECORD).exists()
    assert not (tmp_path / "out" / "b.mp4").exists()

    (clips / "b.mp4").unlink()
    run = analyze(tmp_path, tiny, "clips", "--out", "out")
    assert (run.code, run.out) == (0, first)  # timings included, so it is the one of the first run
