"""Landmarkers are used again, but never by two at once."""

from pathlib import Path

import pytest

from emollm.face import lend
from emollm.face.lend import lend_landmarker


class Fake:
    made = 0

    def __init__(self, task):
        Fake.made += 1
        self.closed = False

    def close(self):
        self.closed = True


@pytest.fixture(autouse=True)
def _fake(monkeypatch):
    monkeypatch.setattr(lend, "FaceLandmarker", Fake)
    monkeypatch.setattr(lend, "_idle", {})
    monkeypatch.setattr(Fake, "made", 0)


def test_the_next_one_gets_the_same(monkeypatch):
    with lend_landmarker(Path("a")) as first:
        pass
    with lend_landmarker(Path("a")) as second:
        assert second is first
    with lend_landmarker(Path("b")) as other:
        assert other is not first
    assert Fake.made == 2


def test_two_at_once_get_one_each():
    with lend_landmarker(Path("a")) as first, lend_landmarker(Path("a")) as second:
        assert first is not second


def test_given_back_also_after_an_error():
    with pytest.raises(ValueError, match="broken"), lend_landmarker(Path("a")) as first:
        raise ValueError("broken frame")
    with lend_landmarker(Path("a")) as second:
        assert second is first


def test_closed_when_python_ends():
    with lend_landmarker(Path("a")) as first:
        pass
    lend._close_all()
    assert first.closed
    assert lend._idle[Path("a")] == []
