import json
import os
import subprocess
import sys
import wave
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from emollm.data.clips import ClipRecipe, plan_clip
from emollm.data.head import Head, load_head
from emollm.data.recipe import HeadRecipe, Recipe
from emollm.data.schema import read_file
from emollm.data.speech import babble, loudness, mouth
from emollm.data.synthesize import synthesize
from emollm.data.tracks import Event, draw_events, glances, levels, wander
from emollm.errors import BadArgumentError
from emollm.facs import AU_CODES
from emollm.media.clip import read_clip

RECIPE = Recipe(
    head=HeadRecipe(licence="made here"),
    identities=2,
    valid_share=0.5,
    size=48,
    neutral_share=0.0,
    clips=ClipRecipe(per_identity=1, seconds=(1.2, 1.2), fps=10, speech_share=1.0),
)
TIMES = np.arange(40) / 10


@pytest.fixture(scope="module")
def head(head_file: Path) -> Head:
    return load_head(head_file, {})


@pytest.fixture(scope="module")
def made(head_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return synthesize(RECIPE, tmp_path_factory.mktemp("clips") / "drawn.jsonl", head_file, workers=2)


def test_an_event_rises_holds_and_falls() -> None:
    track = Event("AU12", 0.5, 1.0, 2.0, 3.0, left=4.0, right=2.0).at(TIMES)
    assert (track[TIMES <= 0.5] == 0).all()
    assert (track[TIMES >= 3.0] == 0).all()
    assert np.allclose(track[(TIMES >= 1.0) & (TIMES <= 2.0)], (4.0, 2.0))
    assert (np.diff(track[(TIMES >= 0.5) & (TIMES <= 1.0), 0]) > 0).all()
    assert (np.diff(track[(TIMES >= 2.0) & (TIMES <= 3.0), 1]) < 0).all()


def test_a_blink_takes_the_place_of_wide_eyes() -> None:
    wide = Event("AU5", -1, -0.5, 9, 10, 3.0, 3.0)
    blink = Event("AU45", 1.0, 1.1, 1.2, 1.4, 5.0, 5.0)
    found = levels([wide, blink], np.array([0.5, 1.15]))
    assert found["AU5"][:, 0] == pytest.approx([3.0, 0.0])
    assert found["AU45"][:, 0] == pytest.approx([0.0, 5.0])


def test_events_are_in_order_and_on_the_scale() -> None:
    events = draw_events(np.random.default_rng(0), 60.0, 0.1, 0.5)
    assert {event.code for event in events} <= set(AU_CODES)
    assert sum(event.code == "AU45" for event in events) > 5
    for event in events:
        assert event.onset_s < event.apex_s < event.offset_s < event.end_s
        assert 0 <= min(event.left, event.right) <= max(event.left, event.right) <= 5


def test_heads_wander_smoothly_and_eyes_jump() -> None:
    times = np.arange(600) / 30
    course = wander(np.random.default_rng(0), times, 3.0)
    assert 0.5 < course.std() < 9
    assert np.abs(np.diff(course)).max() < 1.0
    gaze = glances(np.random.default_rng(0), times, 0.2)
    moved = np.abs(np.diff(gaze, axis=0)).max(axis=1) > 0
    assert gaze.shape == (600, 2)
    assert 2 < moved.sum() < 40


def test_the_mouth_follows_the_sound() -> None:
    waveform = np.zeros(4 * 16000, np.float32)
    waveform[16000:32000] = 0.5 * np.sin(np.arange(16000) * 0.2)
    loud = loudness(waveform, TIMES)
    assert loud[(TIMES > 1.1) & (TIMES < 1.9)].min() > 0.8
    assert loud[(TIMES < 0.9) | (TIMES > 2.1)].max() == 0
    actions = mouth(loud, TIMES, np.random.default_rng(0))
    assert actions["jawOpen"][15] > 0.15
    assert all(course[5] == 0 for course in actions.values())
    assert (loudness(np.zeros(16000, np.float32), TIMES) == 0).all()


def test_babble_has_syllables_and_pauses() -> None:
    sound = babble(np.random.default_rng(0), 4.0)
    assert sound.dtype == np.float32
    assert len(sound) == 64000
    assert 0.3 < np.abs(sound).max() <= 0.5 + 1e-6
    loud = loudness(sound, np.arange(0, 4, 0.02))
    assert (loud == 0).mean() > 0.05
    assert (np.diff((loud > 0.4).astype(int)) == 1).sum() >= 6


def test_clips_come_with_records_and_tracks(made: Path) -> None:
    records = read_file(made)
    tracks = pd.read_parquet(made.with_name("drawn.tracks.parquet"))
    assert [record.split for record in records] == ["train", "valid"]
    for record in records:
        assert record.label_origin == dict.fromkeys(record.labels.given(), "exact")
        assert record.speaker == f"ict-{int(record.id[:5])}"
        assert record.licence == "made here"
        clip = read_clip(made.parent / record.videos[0])
        assert clip.kind == "video"
        assert clip.has_audio
        assert clip.duration_s == pytest.approx(1.2, abs=0.15)
        rows = tracks[tracks["clip"] == record.id]
        assert len(rows) == len(list(clip.frames(fps=10))) == 12
        for code in AU_CODES:
            held = [span for span in record.labels.au_spans if span.code == code]
            assert record.labels.aus[code] == max((span.intensity for span in held), default=0.0)
            for span in held:
                inside = rows[(rows["time_s"] >= span.start_s - 0.01) & (rows["time_s"] < span.end_s - 0.01)]
                assert inside[f"au_{code}"].mean() == pytest.approx(span.intensity, abs=0.02)
    assert {path.name for path in made.parent.iterdir()} == {"drawn.jsonl", "drawn.clips", "drawn.tracks.parquet"}


def test_what_lies_in_memory_decides_nothing(tmp_path: Path) -> None:
    code = (
        "import sys, cv2, numpy as np; from pathlib import Path; from emollm.data.clips import write_mp4\n"
        "rng = np.random.default_rng(0)\n"
        "still = cv2.resize(rng.integers(0, 250, (8, 8, 3), dtype=np.uint8), (64, 64))\n"
        "frames = [np.roll(still, i, 1) + rng.integers(0, 6, still.shape, dtype=np.uint8) for i in range(12)]\n"
        "write_mp4(Path(sys.argv[1]), iter(frames), 10, 64, None, 72)"
    )
    written = []
    for fill in ("0", "77", "165", "254"):  # the byte that glibc fills new memory with; 0 leaves it as it is
        file = tmp_path / f"{fill}.mp4"
        environment = {**os.environ, "MALLOC_PERTURB_": fill}
        subprocess.run([sys.executable, "-c", code, str(file)], env=environment, check=True)
        written.append(file.read_bytes())
    assert len(set(written)) == 1


def test_the_seed_alone_decides_a_clip(made: Path, head_file: Path, tmp_path: Path) -> None:
    again = synthesize(RECIPE, tmp_path / "drawn.jsonl", head_file, workers=1)
    assert again.read_bytes() == made.read_bytes()
    for clip in sorted(made.with_name("drawn.clips").iterdir()):
        frames, repeated = (
            np.stack([frame.image for frame in read_clip(file).frames(10)])
            for file in (clip, tmp_path / "drawn.clips" / clip.name)
        )
        assert (frames == repeated).all()


def test_a_given_sound_is_spoken(head: Head, tmp_path: Path) -> None:
    with wave.open(str(tmp_path / "a.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16000)
        file.writeframes((8000 * np.sin(np.arange(32000) * 0.1)).astype(np.int16).tobytes())
    recipe = ClipRecipe(seconds=(5, 5), fps=10, speech_share=1.0, sounds=tmp_path)
    course = plan_clip(head, recipe, (1.0, 0.5), np.random.default_rng(0), recipe.sound_files())
    assert course.sound == tmp_path / "a.wav"
    assert course.waveform is not None
    assert len(course.waveform) == 32000  # as long as the sound
    assert len(course.times) == 20
    assert np.mean([weights["jawOpen"] for weights in course.weights]) > 0.15
    (tmp_path / "a.wav").unlink()
    with pytest.raises(BadArgumentError, match="no sound"):
        recipe.sound_files()


def test_silence_has_no_sound_track(head: Head) -> None:
    course = plan_clip(head, ClipRecipe(speech_share=0.0), (0.0, 0.5), np.random.default_rng(0), [])
    assert course.waveform is None
    assert json.dumps(course.weights[0])  # plain numbers
