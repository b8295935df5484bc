from pathlib import Path

import numpy as np
import pytest
import skimage.data
from media.conftest import write_clip
from PIL import Image
from tiny import PROSODY, SCRIPT, make_scripted, make_speech, make_tiny, make_track

from emollm import EmoLLM, EmotionReport
from emollm.api import clip_inputs
from emollm.errors import BadArgumentError, ClipError, EmoLLMError, NothingToReadError, WeightsError
from emollm.media.clip import Clip
from emollm.model import checkpoint
from emollm.model.checkpoint import default_model
from emollm.perceive import Perception
from emollm.reading import choose_people, read
from emollm.weights import fetch

REPLY = "".join(SCRIPT)
ANSWER = "happiness: the lips are pulled up and the voice sounds happy."


@pytest.fixture(scope="module")
def landmarker() -> None:
    try:
        fetch("face_landmarker", progress=False)
    except WeightsError as error:
        pytest.skip(f"the face landmarker is not in reach: {error}")


@pytest.fixture(scope="module")
def scripted_folder(tmp_path_factory) -> Path:
    return make_scripted(tmp_path_factory.mktemp("scripted"))


@pytest.fixture
def model(landmarker, scripted_folder) -> EmoLLM:
    """Says ``tiny.SCRIPT`` about everything."""
    return EmoLLM.from_pretrained(scripted_folder)


@pytest.fixture(scope="module")
def gibberish(landmarker, tmp_path_factory) -> EmoLLM:
    """Says something else about every clip."""
    return EmoLLM.from_pretrained(make_tiny(tmp_path_factory.mktemp("tiny")))


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("clips")
    face = np.ascontiguousarray(skimage.data.astronaut()[:256, 96:352])
    pair = np.concatenate([face, face[:, ::-1]], axis=1)
    times = np.arange(0, 2.0, 0.1).tolist()
    frames = {"pictures": [face] * len(times), "size": (256, 256)}
    speech = {"sound": make_speech(2.0), "rate": 16000}
    Image.fromarray(face).save(folder / "portrait.png")
    silence = np.zeros(32000, np.float32)
    return {
        "picture": folder / "portrait.png",
        "film": write_clip(folder / "film.mp4", times=times, **frames, **speech),
        "silent": write_clip(folder / "silent.mp4", times=times, **frames, sound=silence, rate=16000),
        "two": write_clip(folder / "two.mp4", times=times, pictures=[pair] * len(times), size=(512, 256), **speech),
        "sound": write_clip(folder / "sound.wav", **speech, audio="pcm_s16le"),
        "nothing": write_clip(folder / "nothing.mp4", times=times),
    }


# One report


def test_report_of_a_film(model, clips):
    report = model.analyze(clips["film"])
    (person,) = report.people
    assert report.answer == ANSWER
    assert person.emotion.label == "happiness"
    assert sum(person.emotion.distribution.values()) == pytest.approx(1, abs=1e-3)
    assert person.emotion.confidence == max(person.emotion.distribution.values())
    assert person.reasoning.interpretation == "AU12 fits happiness."
    assert person.verification.claimed == ["AU4", "AU12"]
    assert len(person.timeline) == 4  # windows of half a second
    assert person.timeline[-1].end_s == pytest.approx(report.clip.duration_s, abs=0.1)
    assert report.clip.frames_used == 10  # five a second
    assert report.clip.has_audio
    assert person.voice is not None
    assert person.missing_modalities == []
    assert report.engine == "transformers"
    assert set(report.timings_s) == {"perception", "encoding", "answer", "total"}
    assert [len(crops) for crops in report.faces.values()] == [10]
    assert report.warnings == []


def test_every_claim_shows_among_the_action_units(model, clips):
    report = model.analyze(clips["film"])
    units = report.action_units
    claimed = units[units.claimed]
    assert set(claimed.AU) == {"AU4", "AU12"}
    assert set(claimed.supported) <= {True, False}
    person = report.people[0]
    assert sorted(person.verification.supported + person.verification.unsupported) == ["AU12", "AU4"]


@pytest.mark.parametrize("kind", ["picture", "film", "silent", "two", "sound"])
def test_reports_survive_json(model, clips, kind):
    report = model.analyze(clips[kind], person="all")
    assert EmotionReport.model_validate_json(report.model_dump_json()).model_dump() == report.model_dump()


def test_clips_answered_together_have_the_reports_that_they_have_alone(model, clips):
    kinds = ["film", "two", "sound"]
    together = model.answer([read(clips[kind], person="all") for kind in kinds], think=False)
    for kind, report in zip(kinds, together):
        alone = model.analyze(clips[kind], person="all", think=False)
        assert report.faces.keys() == alone.faces.keys()
        for one, other in zip(report.people, alone.people, strict=True):
            assert one.emotion.distribution == pytest.approx(other.emotion.distribution, abs=1e-4)
            one.emotion, other.emotion = other.emotion, other.emotion
        report.timings_s = alone.timings_s
        assert report.model_dump() == alone.model_dump()


def test_report_of_a_picture(model, clips):
    report = model.analyze(clips["picture"])
    (person,) = report.people
    assert person.missing_modalities == ["voice"]
    assert len(person.timeline) == 1
    assert (report.clip.duration_s, report.clip.frames_used, report.clip.has_audio) == (0.0, 1, False)


def test_report_of_a_sound(model, clips):
    report = model.analyze(clips["sound"])
    (person,) = report.people
    assert person.id == 0
    assert person.missing_modalities == ["face"]
    assert person.timeline == []
    assert person.verification.unsupported == ["AU4", "AU12"]
    assert report.clip.frames_used == 0
    assert report.faces == {}


def test_a_silent_track_is_reported(model, clips):
    report = model.analyze(clips["silent"])
    assert "The sound holds no voice." in report.warnings
    assert report.people[0].missing_modalities == ["voice"]


def test_neither_face_nor_voice(model, clips):
    for call in (model.analyze, model.chat):
        with pytest.raises(NothingToReadError):
            call(clips["nothing"])


def test_a_missing_clip(model, tmp_path):
    with pytest.raises(ClipError):
        model.analyze(tmp_path / "nowhere.mp4")


def test_a_reply_outside_the_grammar_is_shown_and_said_to_be(gibberish, clips):
    report = gibberish.analyze(clips["film"])
    assert report.people[0].emotion.label is None
    assert report.people[0].emotion.distribution == {}
    assert report.answer
    assert any("not well formed" in warning for warning in report.warnings)


def test_the_same_question_gets_the_same_answer(gibberish, clips):
    first, second, other = (
        gibberish.analyze(clips["film"], question) for question in (None, None, "What does the face do?")
    )
    assert first.answer == second.answer != other.answer
    assert first.people == second.people


def test_thought_and_answer_are_streamed_as_they_are_reported(model, clips):
    heard = {"thought": "", "answer": ""}

    def listen(channel, text):
        heard[channel] += text

    report = model.analyze(clips["film"], on_text=listen)
    assert heard["answer"] == report.answer
    assert heard["thought"] == REPLY.split("<think>")[1].split("</think>")[0].strip()


def test_stages_are_told_in_order(model, clips):
    stages = []
    model.analyze(clips["film"], on_stage=lambda stage, done, total: stages.append(stage))
    assert list(dict.fromkeys(stages)) == ["decode", "faces", "voice", "answer"]


@pytest.fixture
def prompts(model, monkeypatch):
    """The texts that the model is given, placeholders not yet expanded."""
    seen = []
    expand = model.engine.processor.expand
    monkeypatch.setattr(
        model.engine.processor, "expand", lambda texts, clips: seen.append(texts[0]) or expand(texts, clips)
    )
    return seen


def test_question_mode_and_transcript_reach_the_model(model, clips, prompts, tmp_path):
    subtitles = tmp_path / "said.srt"
    subtitles.write_text("1\n00:00:00,000 --> 00:00:01,000\nWhat a day!\n\n2\n00:00:01,000 --> 00:00:02,000\nYes.\n")
    report = model.analyze(clips["film"], "Why <|face|> is she glad?", transcript=str(subtitles), think=False)
    assert prompts[0].endswith('said: "What a day! Yes."\nWhy   is she glad?<|im_end|>\n<|im_start|>assistant\n')
    assert "/no_think" in prompts[0]
    assert prompts[0].count("<|face|>") == 1
    assert report.clip.transcript == "What a day! Yes."


# Several people


def test_all_people_are_reported_one_by_one(model, clips):
    report = model.analyze(clips["two"], person="all")
    assert [person.id for person in report.people] == [1, 2]
    assert report.answer == f"Person 1: {ANSWER}\nPerson 2: {ANSWER}"
    assert [person.missing_modalities for person in report.people] == [[], ["voice"]]
    assert any("voice is taken to be that of person 1" in warning for warning in report.warnings)
    assert report.clip.frames_used == 20


def test_one_of_several_people(model, clips):
    assert [person.id for person in model.analyze(clips["two"]).people] == [1]
    assert [person.id for person in model.analyze(clips["two"], person="2").people] == [2]


def perception(people: int, voice: bool = True) -> Perception:
    clip = Clip.__new__(Clip)
    clip.__dict__.update(duration_s=1.0, waveform=np.zeros(16000, np.float32), warnings=[])
    tracks = [make_track([0.0], id=number + 1) for number in range(people)]
    return Perception(clip, tracks, PROSODY if voice else None)


@pytest.mark.parametrize("person", ["0", "3", "-1", "x", "", "1.0", "²", "٣", "9" * 5000, "MAIN"])
def test_a_person_who_is_not_there(person):
    with pytest.raises(BadArgumentError):
        choose_people(perception(2), person)


def test_who_is_meant():
    seen = perception(3)
    assert [track.id for track in choose_people(seen, "main")] == [1]
    assert [track.id for track in choose_people(seen, "3")] == [3]
    assert [track.id for track in choose_people(seen, "all")] == [1, 2, 3]
    assert choose_people(perception(0), "main") == [None]


def test_the_voice_goes_with_the_main_person():
    seen = perception(2)
    first, second = (clip_inputs(seen, track) for track in seen.people)
    assert first.waveform is seen.clip.waveform
    assert first.prosody is PROSODY
    assert second.waveform is None
    assert second.prosody is None
    assert clip_inputs(perception(0), None).prosody is PROSODY


# Chat


def test_a_chat_encodes_its_clip_once_and_remembers(model, clips, prompts):
    calls = []
    for name in ("face_tower", "audio_tower"):
        tower = getattr(model.engine.model.model, name)
        tower.register_forward_hook(lambda *_, name=name: calls.append(name))
    chat = model.chat(clips["film"])
    for question in ("How is she?", "Why?", "Since when?"):
        assert "".join(chat.ask(question)) == ANSWER
        assert chat.thought.startswith("Observations: face 0-1 s")
    assert sorted(calls) == ["audio_tower", "face_tower"]
    turns = [
        f"<|im_start|>assistant\n<answer>{ANSWER}</answer><|im_end|>\n<|im_start|>user\n{q}"
        for q in ("Why?", "Since when?")
    ]
    assert "How is she?<|im_end|>" in prompts[2]
    assert all(turn in prompts[2] for turn in turns)
    assert prompts[2].count("<|face|>") == 1
    assert "<think>" not in prompts[2]  # thoughts are not kept


def test_an_answer_left_unread_does_not_join_the_chat(model, clips, prompts):
    chat = model.chat(clips["film"])
    stream = chat.ask("First?")
    next(stream)
    stream.close()
    assert "".join(chat.ask("Second?")) == ANSWER
    assert "First?" not in prompts[-1]


def test_a_chat_is_about_one_person(model, clips):
    with pytest.raises(BadArgumentError, match="one person"):
        model.chat(clips["two"], person="all")
    assert "".join(model.chat(clips["two"], person="2").ask("How is he?")) == ANSWER


def test_a_chat_about_a_sound(model, clips):
    chat = model.chat(clips["sound"])
    assert "".join(chat.ask("How is he?")) == ANSWER


def test_a_chat_tells_warnings(model, clips):
    assert "The sound holds no voice." in model.chat(clips["silent"]).warnings


# Loading


def test_unknown_engines_and_models(tmp_path):
    with pytest.raises(BadArgumentError, match="no engine 'magic'"):
        EmoLLM.from_pretrained(tmp_path, engine="magic")
    with pytest.raises(WeightsError):
        EmoLLM.from_pretrained(tmp_path)


# The embedded default


@pytest.fixture(scope="module")
def default() -> EmoLLM:
    if not list(checkpoint.SHIPPED.rglob("*.safetensors")):
        pytest.skip("this copy of the package ships no trained parts")
    try:
        for part in ("llm", "audio_encoder", "face_landmarker"):
            fetch(part, progress=False)
        default_model(progress=False)
    except EmoLLMError as error:
        pytest.skip(f"the parts of the default model are not in reach: {error}")
    return EmoLLM.from_pretrained(progress=False)


@pytest.mark.default_model
def test_the_portrait_is_happy(default, clips):
    report = default.analyze(clips["picture"])
    assert report.people[0].emotion.label == "happiness"
    assert "AU12" in set(report.action_units.AU)


@pytest.fixture(scope="module")
def example(default):
    try:
        return fetch("example_clip", progress=False)
    except EmoLLMError as error:
        pytest.skip(f"the example clip is not in reach: {error}")


@pytest.mark.default_model
def test_the_example_clip(default, example):
    pieces = []
    report = default.analyze(
        example, on_text=lambda channel, text: pieces.append(text) if channel == "answer" else None
    )
    assert "".join(pieces) == report.answer
    assert default.analyze(example).answer == report.answer
    (person,) = report.people
    assert len(report.faces[1]) >= 0.95 * 5 * report.clip.duration_s
    duration = report.clip.duration_s
    puller = [(entry.start_s / duration, entry.aus["AU12"]) for entry in person.timeline]
    second = np.mean([value for share, value in puller if 0.25 <= share < 0.5])
    last = np.mean([value for share, value in puller if share >= 0.75])
    assert last >= 2 * second
    verification = person.verification
    assert verification.claimed == sorted(
        [*verification.supported, *verification.unsupported], key=lambda code: int(code[2:])
    )
