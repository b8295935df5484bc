import subprocess
import sys

import pytest

from emollm.errors import BadArgumentError
from emollm.media.clip import find_clips, read_clip

from .conftest import tone, write_clip


def test_paths_with_spaces_and_other_alphabets(tmp_path):
    folder = tmp_path / "Grüße aus 東京 %d"
    folder.mkdir()
    clip = read_clip(str(write_clip(folder / "une ça va — 笑.mp4", times=[0, 0.5], sound=tone(0.5))))
    assert [f.time_s for f in clip.frames()] == pytest.approx([0.0, 0.5], abs=1e-3)
    assert clip.has_audio


def test_frames_can_be_read_again_and_left_early(tmp_path):
    clip = read_clip(write_clip(tmp_path / "a.mp4", times=[i / 25 for i in range(25)]))
    assert next(clip.frames()).time_s == 0.0
    assert len(list(clip.frames(5))) == 5
    assert len(list(clip.frames(25))) == 25


def test_find_clips_sorts_and_skips_other_files(tmp_path):
    for name in ("b.MP4", "a.wav", "c.png", "a.srt", "notes.txt"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "d.mp4").mkdir()
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "e.mp4").write_bytes(b"x")
    assert [p.name for p in find_clips(tmp_path)] == ["a.wav", "b.MP4", "c.png"]


def test_find_clips_says_when_there_are_none(tmp_path):
    with pytest.raises(BadArgumentError, match="holds no clips"):
        find_clips(tmp_path)
    with pytest.raises(BadArgumentError, match="not a folder"):
        find_clips(tmp_path / "nothing")


def test_import_is_light():
    """Opening clips must not cost the start-up of the speech recogniser or of torch."""
    code = "import sys, emollm.media.clip; print([m for m in ('torch', 'faster_whisper') if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
