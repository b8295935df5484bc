import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb
from matplotlib.image import imread

from emollm import export
from emollm.errors import BadArgumentError
from emollm.export import action_unit_table, write_outputs
from emollm.facs import AU_CODES
from emollm.reasoning.parse import Claim
from emollm.reasoning.verify import verify
from emollm.report import ClipSummary, EmotionEstimate, EmotionReport, PersonReport, TimelineEntry, VoiceSummary
from emollm.timeline import SUPPORTED, UNSUPPORTED, draw_timeline

FACE = np.full((112, 112, 3), (255, 0, 255), dtype=np.uint8)  # a colour that nothing else in the picture has
# The AU columns that py-feat 2.1 asks for by name when it reads an OpenFace file.
NUMBERS = ["01", "02", "04", "05", "06", "07", "09", "10", "12", "14", "15", "17", "20", "23", "25", "26", "45"]
OPENFACE = [f"AU{n}_r" for n in NUMBERS] + [f"AU{n}_c" for n in [*NUMBERS, "28"]]


def person(id=1, seconds=range(10), claims=(), aus=None, **fields) -> PersonReport:
    """AU12 at 0 before 5 s and 4 after, in windows of a second."""
    entries = []
    for second in seconds:
        values = dict.fromkeys(AU_CODES, 0.0) | {"AU12": 4.0 * (second >= 5)} | (aus or {})
        emotion = "happiness" if second >= 5 else "sadness"
        entries.append(TimelineEntry(start_s=second, end_s=second + 1, emotion=emotion, aus=values))
    times = np.array([[entry.start_s, entry.end_s] for entry in entries])
    values = np.array([[entry.aus[code] for code in AU_CODES] for entry in entries])
    verification, spans = verify(claims, times, values)
    estimate = EmotionEstimate(label="happiness", distribution={"happiness": 0.8, "sadness": 0.2}, confidence=0.8)
    return PersonReport(
        id=id,
        box_share=0.2,
        emotion=estimate,
        timeline=entries,
        action_units=spans,
        verification=verification,
        **fields,
    )


def report(*people: PersonReport, answer="happiness: a smile from 5 to 10 s.", duration_s=10.0) -> EmotionReport:
    clip = ClipSummary(path="clips/ä b.mp4", duration_s=duration_s, frames_used=50, has_audio=True)
    return EmotionReport(
        clip=clip, people=list(people), question="How does she feel?", answer=answer, model="m", engine="e"
    )


def share_of(color: str, path) -> float:
    """Share of the picture's pixels that are about this colour."""
    picture = imread(path)[..., :3]
    return float((np.abs(picture - to_rgb(color)).max(axis=-1) < 0.15).mean())


def test_three_whole_files_and_nothing_else(tmp_path):
    folder = tmp_path / "new" / "außen 1"
    made = report(person(claims=[Claim("AU12", 4, 5, 10)]))
    write_outputs(made, folder, {1: [(float(t), FACE) for t in range(10)]})
    assert sorted(file.name for file in folder.iterdir()) == ["action_units.csv", "report.json", "timeline.png"]
    assert EmotionReport.model_validate_json((folder / "report.json").read_text(encoding="utf-8")) == made
    assert (folder / "report.json").stat().st_mode & 0o777 == 0o644
    write_outputs(made, folder, {})  # again, over the old files
    assert len(list(folder.iterdir())) == 3


def test_csv_has_openface_columns_and_values(tmp_path):
    write_outputs(report(person(), person(id=2, seconds=range(5, 8))), tmp_path, {})
    table = pd.read_csv(tmp_path / "action_units.csv")
    assert list(table.columns[:5]) == ["frame", "face_id", "timestamp", "confidence", "success"]
    assert set(OPENFACE) <= set(table.columns)
    assert "AU28_r" not in table.columns
    assert len(table) == 13
    assert table[["frame", "face_id"]].values.tolist()[4:8] == [[5, 1], [6, 1], [6, 2], [7, 1]]
    sixth = table[(table.frame == 6) & (table.face_id == 2)].iloc[0]
    assert (sixth.timestamp, sixth.AU12_r, sixth.AU12_c, sixth.AU04_r, sixth.AU04_c) == (5, 4, 1, 0, 0)
    assert (sixth.happiness, sixth.sadness, sixth.success) == (1, 0, 1)
    assert table[["AU23_r", "AU23_c", "AU28_c"]].isna().all(axis=None)


def test_csv_presence_starts_at_one():
    table = action_unit_table(report(person(aus={"AU1": 1.0, "AU2": 0.99})))
    assert (table.AU01_c == 1).all()
    assert (table.AU02_c == 0).all()


def test_csv_marks_windows_without_measurement():
    someone = person()
    someone.timeline[3].aus = {}
    row = action_unit_table(report(someone)).iloc[3]
    assert row.success == 0
    assert pd.isna(row.AU12_r)
    assert pd.isna(row.AU12_c)


def test_csv_of_sound_only_is_a_header():
    table = action_unit_table(report(PersonReport(id=0, box_share=0, emotion=EmotionEstimate(label=None))))
    assert len(table) == 0
    assert set(OPENFACE) <= set(table.columns)


def test_picture_shows_faces_and_marks_claims(tmp_path):
    claims = [Claim("AU12", 4, 5, 10), Claim("AU4", 3, 0, 5)]
    path = tmp_path / "timeline.png"
    write_outputs(report(person()), tmp_path, {})
    assert imread(path).shape[1] == 1800
    for color in (SUPPORTED, UNSUPPORTED, "magenta"):
        assert share_of(color, path) < 0.001, color  # the legend's patches only
    write_outputs(report(person(claims=claims)), tmp_path, {1: [(float(t), FACE) for t in range(10)]})
    assert share_of(SUPPORTED, path) > 0.01
    assert share_of(UNSUPPORTED, path) > 0.002
    assert share_of("magenta", path) > 0.05


def texts(figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(lambda artist: hasattr(artist, "get_text"))]


def test_rows_are_units_that_reach_one_or_are_claimed():
    someone = person(claims=[Claim("AU4", 3), Claim("AU12")], aus={"AU25": 0.9, "AU6": 1.0})
    rows = {text for text in texts(draw_timeline(report(someone), {})) if "  AU" in text}
    assert rows == {"✗ brow lowerer  AU4", "cheek raiser  AU6", "✓ lip corner puller  AU12"}


def test_at_most_four_people_are_drawn():
    seen = texts(draw_timeline(report(*(person(id=n) for n in range(1, 7))), {}))
    assert [text.split()[1] for text in seen if text.startswith("Person")] == ["1", "2", "3", "4"]
    assert any("6 people, the first 4 shown" in text for text in seen)


def test_still_image_has_bars_and_face(tmp_path):
    still = person(seconds=[5], claims=[Claim("AU12")])
    write_outputs(report(still, duration_s=0), tmp_path, {1: [(0.0, FACE)]})
    assert share_of("magenta", tmp_path / "timeline.png") > 0.05
    assert share_of(SUPPORTED, tmp_path / "timeline.png") > 0.01
    assert "seconds" not in texts(draw_timeline(report(still, duration_s=0), {}))


@pytest.mark.parametrize(
    "answer", ["", "$\\frac{1$ costs \\$5", "word " * 500, "x" * 2000, "你好\x00\n\t", "happiness: 100 %"]
)
def test_any_answer_can_be_the_title(tmp_path, answer, recwarn):
    voice = PersonReport(
        id=0, box_share=0, emotion=EmotionEstimate(label=None), voice=VoiceSummary(summary="high pitch")
    )
    write_outputs(report(voice, answer=answer), tmp_path, {})
    assert imread(tmp_path / "timeline.png").shape[0] < 1000
    assert not [str(warning.message) for warning in recwarn]


def test_nobody(tmp_path):
    write_outputs(report(), tmp_path, {})
    assert (tmp_path / "timeline.png").stat().st_size > 0


def test_gaps_in_the_timeline_are_left_open(tmp_path):
    """Person 2 is away from 5 to 8 s: fewer green pixels than a person who stays, but the same kind of picture."""
    claims = [Claim("AU12")]
    write_outputs(report(person(claims=claims)), tmp_path / "stays", {})
    write_outputs(report(person(claims=claims, seconds=[0, 1, 2, 3, 4, 8, 9])), tmp_path / "leaves", {})
    stays, leaves = (share_of(SUPPORTED, tmp_path / name / "timeline.png") for name in ("stays", "leaves"))
    assert leaves == pytest.approx(stays * 2 / 5, rel=0.2)


def test_folder_that_cannot_be_written(tmp_path):
    taken = tmp_path / "file"
    taken.write_text("x")
    for folder in (taken, taken / "below"):
        with pytest.raises(BadArgumentError, match=r"^The output folder .* cannot be written \(.+\)\.$"):
            write_outputs(report(person()), folder, {})


def test_a_failure_midway_keeps_the_old_file_and_leaves_no_litter(tmp_path, monkeypatch):
    write_outputs(report(person()), tmp_path, {})
    before = (tmp_path / "timeline.png").read_bytes()

    def interrupted(figure, path):
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(export, "_save", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_outputs(report(person(id=2)), tmp_path, {})
    assert (tmp_path / "timeline.png").read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 3
