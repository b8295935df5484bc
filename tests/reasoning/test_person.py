import numpy as np
import pytest
from tiny import PROSODY

from emollm.emotions import EMOTIONS, EXPRESSIONS
from emollm.facs import AU_CODES
from emollm.reasoning.parse import parse_answer
from emollm.reasoning.person import person_report, voice_summary
from emollm.report import EmotionReport, PersonReport

WINDOWS = np.array([[0.0, 0.5], [0.5, 1.0], [1.0, 1.5], [1.5, 2.0]])
REPLY = (
    "<think>\nObservations: face 0-2 s: AU12 lip corner puller 4, AU4 brow lowerer 3. voice: loud.\n"
    "Interpretation: AU12 fits happiness, not a sad face.\nConclusion: The person seems happy.\n</think>\n"
    "<answer>happiness: lip corner puller.</answer>"
)


def face_readings() -> np.ndarray:
    """A smile of intensity 4 in the last three windows; the second window shows no face."""
    face = np.zeros((4, len(AU_CODES) + len(EXPRESSIONS) + 2))
    face[:, len(AU_CODES) + EXPRESSIONS.index("neutral")] = [1, 0, 0, 0]
    face[:, len(AU_CODES) + EXPRESSIONS.index("happiness")] = [0, 1, 1, 1]
    face[1:, AU_CODES.index("AU12")] = 0.8
    face[:, -2], face[:, -1] = 0.6, 0.2
    face[1] = np.nan
    return face


def voice_readings() -> np.ndarray:
    voice = np.full(len(EMOTIONS) + 2, 1 / len(EMOTIONS))
    voice[-2:] = 0.2, 0.6
    return voice


def report(text: str = REPLY, **changes) -> PersonReport:
    known = {
        "id": 1,
        "box_share": 0.123456,
        "parsed": parse_answer(text),
        "distribution": {"neutral": 0.1234567, "happiness": 0.8765433},
        "windows": WINDOWS,
        "face": face_readings(),
        "voice": voice_readings(),
        "prosody": PROSODY,
    }
    return person_report(**(known | changes))


def test_answer_and_measurement_are_brought_together():
    person = report()
    assert person.emotion.label == "happiness"
    assert person.emotion.confidence == 0.8765
    assert person.box_share == 0.1235
    assert person.reasoning.conclusion == "The person seems happy."
    assert person.verification.claimed == ["AU4", "AU12"]
    assert person.verification.supported == ["AU12"]
    assert person.verification.unsupported == ["AU4"]
    smile = next(span for span in person.action_units if span.code == "AU12")
    assert (smile.claimed, smile.supported) == (True, True)
    assert smile.intensity == pytest.approx(4.0)
    assert person.missing_modalities == []


def test_signs_that_are_no_signs_are_told():
    plain = REPLY.replace(", not a sad face", "")
    assert report(plain).verification.unfitting == {}
    loose = plain.replace("AU12 fits", "AU4, AU12 fit")
    assert report(loose).verification.unfitting == {"happiness": ["AU4"]}


def test_the_timeline_has_the_windows_that_show_the_face():
    timeline = report().timeline
    assert [entry.start_s for entry in timeline] == [0.0, 1.0, 1.5]
    assert [entry.emotion for entry in timeline] == ["neutral", "happiness", "happiness"]
    assert [entry.aus["AU12"] for entry in timeline] == [0.0, 4.0, 4.0]
    assert tuple(timeline[0].aus) == AU_CODES


def test_valence_and_arousal_are_the_mean_of_what_is_known():
    both, face, voice = report(), report(voice=None, prosody=None), report(face=None, windows=np.zeros((0, 2)))
    assert (both.valence, both.arousal) == (0.4, 0.4)
    assert (face.valence, face.arousal) == (0.6, 0.2)
    assert (voice.valence, voice.arousal) == (0.2, 0.6)


def test_a_voice_alone():
    person = report(face=None, windows=np.zeros((0, 2)), id=0)
    assert person.missing_modalities == ["face"]
    assert person.timeline == []
    assert person.verification.unsupported == ["AU4", "AU12"]  # no face, no support
    assert person.voice.pitch_hz == 180.0
    assert person.voice.summary == PROSODY.summary()


def test_a_face_alone():
    person = report(voice=None, prosody=None)
    assert person.missing_modalities == ["voice"]
    assert person.voice is None


def test_a_picture():
    person = report(windows=np.array([[0.0, 0.0]]), face=face_readings()[2:3], voice=None, prosody=None)
    assert len(person.timeline) == 1
    assert "AU12" in person.verification.supported


@pytest.mark.parametrize("text", ["no tags at all", "<answer>unclosed", "<answer>It depends.</answer>"])
def test_a_reply_without_label_has_no_label(text):
    person = report(text)
    assert person.emotion.label is None
    assert person.emotion.confidence is None
    assert person.emotion.distribution["happiness"] == 0.8765  # still told


def test_emotions_named_in_the_text_are_listed_in_order():
    assert report().open_labels == ["happiness", "sadness"]
    person = report("<answer>It goes from Angry to surprised, then boredom; unhappily.</answer>")
    assert person.open_labels == ["anger", "surprise", "boredom"]


def test_the_report_of_a_person_is_json():
    assert PersonReport.model_validate_json(report().model_dump_json()) == report()
    assert EmotionReport.model_json_schema()["$defs"]["PersonReport"]


def test_no_prosody_is_no_voice_summary():
    assert voice_summary(None) is None
