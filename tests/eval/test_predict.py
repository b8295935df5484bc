"""EmoLLM as a predictor: the whole way from a file to a reply, as ``emollm analyze`` goes it."""

from pathlib import Path

import numpy as np
import pytest
import skimage.data
from media.conftest import colour, index_of, write_clip
from PIL import Image
from scripted import cards
from tiny import SCRIPT, make_scripted, make_speech, make_tiny

from emollm import EmoLLM
from emollm.errors import BadArgumentError, ClipError, WeightsError
from emollm.eval.choose import load_predictor
from emollm.eval.predict import EmoLLMPredictor, Thinker, cut
from emollm.eval.run import run
from emollm.eval.schema import Sample
from emollm.media.clip import Segment, read_clip
from emollm.model.checkpoint import default_model
from emollm.reasoning.prompts import DEFAULT_QUESTION
from emollm.weights import fetch

REPLY = "".join(SCRIPT)


@pytest.fixture(scope="module")
def landmarker() -> None:
    try:
        fetch("face_landmarker", progress=False)
    except WeightsError as error:
        pytest.skip(f"the face landmarker is not in reach: {error}")


@pytest.fixture(scope="module")
def scripted(landmarker, tmp_path_factory) -> EmoLLMPredictor:
    """Says ``tiny.SCRIPT`` about everything."""
    return EmoLLMPredictor(EmoLLM.from_pretrained(make_scripted(tmp_path_factory.mktemp("scripted"))))


@pytest.fixture(scope="module")
def gibberish(landmarker, tmp_path_factory) -> EmoLLMPredictor:
    """Says something else about every clip."""
    return EmoLLMPredictor(EmoLLM.from_pretrained(make_tiny(tmp_path_factory.mktemp("tiny"))))


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("clips")
    face = np.ascontiguousarray(skimage.data.astronaut()[:256, 96:352])
    times = np.arange(0, 1.0, 0.2).tolist()
    speech = {"sound": make_speech(1.0), "rate": 16000}
    Image.fromarray(face).save(folder / "portrait.png")
    (folder / "broken.mp4").write_bytes(b"no film" * 100)
    return {
        "film": write_clip(folder / "film.mp4", times=times, pictures=[face] * len(times), size=(256, 256), **speech),
        "sound": write_clip(folder / "sound.wav", **speech, audio="pcm_s16le"),
        "picture": folder / "portrait.png",
        "broken": folder / "broken.mp4",
    }


@pytest.mark.parametrize("kind", ["film", "sound", "picture"])
def test_evaluation_and_analysis_say_the_same(scripted, clips, kind):
    prepared = scripted.prepare(Sample(id=kind, clip=clips[kind]), DEFAULT_QUESTION)
    (reply,) = scripted.answer([prepared], True)
    report = scripted.model.analyze(clips[kind], transcript="none").people[0]
    assert reply.text == REPLY
    assert reply.verification == report.verification
    assert (reply.measured.valence, reply.measured.arousal) == (report.valence, report.arousal)
    assert reply.distribution == pytest.approx(report.emotion.distribution, abs=1e-4)
    peaks = {code: max(window.aus[code] for window in report.timeline) for code in reply.measured.aus}
    assert reply.measured.aus == pytest.approx(peaks, abs=0.006)
    assert bool(peaks) == (kind != "sound")


def test_the_question_reaches_the_model(gibberish, clips):
    sample = Sample(id="portrait", clip=clips["picture"])
    replies = gibberish.answer([gibberish.prepare(sample, q) for q in (DEFAULT_QUESTION, "Is it a smile?")], True)
    assert replies[0].prompt_sha256 != replies[1].prompt_sha256
    assert replies[0].text != replies[1].text


def test_a_thought_is_gone_on_from_without_the_clip(scripted):
    assert isinstance(scripted, Thinker)
    thought = "".join(SCRIPT[:5])
    (reply,) = scripted.answer([scripted.prepare_thought(DEFAULT_QUESTION, thought)], True)
    assert reply.text == REPLY
    assert reply.measured is None
    assert reply.verification is None


def test_a_run_from_files_to_lines(scripted, clips, tmp_path):
    samples = [Sample(id=kind, clip=clip) for kind, clip in clips.items()]
    samples.append(Sample(id="film/thought", clip=clips["film"], thought_of="film"))
    lines = {line.id: line for line in run(samples, scripted, cards("emotion"), tmp_path, batch_size=2)}
    assert {id: line.status for id, line in lines.items()} == {
        "film": "ok", "sound": "ok", "picture": "ok", "broken": "failed", "film/thought": "ok",
    }  # fmt: skip
    assert "broken.mp4" in lines["broken"].error
    assert str(clips["broken"].parent) not in lines["broken"].error
    assert lines["film"].claimed == {"AU12": 3.0, "AU4": 5.0}
    assert lines["film"].measured.expression
    assert lines["sound"].measured.expression == {}


def test_what_decides_the_answers_is_described(scripted, gibberish):
    one, other = scripted.describe(), gibberish.describe()
    assert one == scripted.describe()
    assert one["checkpoint_sha256"] != other["checkpoint_sha256"]
    assert {"engine", "device", "dtype", "torch", "transformers", "emollm"} <= set(one)


def test_weights_are_digested_once():
    digests = []

    class Engine:
        def describe(self):
            digests.append("a" * 64)
            return {"checkpoint_sha256": digests[-1]}

    predictor = EmoLLMPredictor(EmoLLM(Engine(), "model"))
    assert predictor.describe() == predictor.describe()
    assert predictor.describe()["checkpoint_sha256"] == "a" * 64
    assert len(digests) == 1


def test_a_model_that_is_not_there(tmp_path):
    with pytest.raises(WeightsError):
        load_predictor(str(tmp_path), cards("emotion"), tmp_path)
    with pytest.raises(BadArgumentError, match="no engine"):
        load_predictor(None, cards("emotion"), tmp_path, engine="steam")


# A part of a clip


@pytest.fixture(scope="module")
def numbered(tmp_path_factory) -> Path:
    """Four seconds, five pictures a second that tell their number, a ramp as sound."""
    times = np.arange(0, 4.0, 0.2).tolist()
    pictures = [colour(index, 64, 64) for index in range(len(times))]
    ramp = np.linspace(0, 0.5, 64000, dtype=np.float32)
    path = tmp_path_factory.mktemp("numbered") / "numbered.mkv"
    return write_clip(path, times=times, pictures=pictures, size=(64, 64), sound=ramp, rate=16000, audio="pcm_s16le")


def test_a_part_is_a_clip_of_its_own(numbered):
    whole = read_clip(numbered)
    whole.transcript = [Segment(0.0, 0.5, "before"), Segment(0.8, 1.5, "in part"), Segment(1.6, 3.0, "within")]
    part = cut(whole, 1.0, 2.0)
    assert part.duration_s == pytest.approx(1.0)
    frames = list(part.frames(5.0))
    assert [index_of(frame.image) for frame in frames] == [5, 6, 7, 8, 9]
    assert [frame.time_s for frame in frames] == pytest.approx([0.0, 0.2, 0.4, 0.6, 0.8], abs=0.01)
    assert len(part.waveform) == 16000
    assert part.waveform == pytest.approx(whole.waveform[16000:32000])
    assert [(s.start_s, s.end_s, s.text) for s in part.transcript] == [
        (0.0, pytest.approx(0.5), "in part"),
        (pytest.approx(0.6), pytest.approx(1.0), "within"),
    ]


def test_a_part_ends_with_the_clip(numbered):
    whole = read_clip(numbered)
    assert cut(whole, 3.0, None).duration_s == pytest.approx(whole.duration_s - 3.0)
    assert cut(whole, 3.0, 99.0).duration_s == pytest.approx(whole.duration_s - 3.0)


@pytest.mark.parametrize(("start", "end"), [(9.0, None), (2.0, 2.0), (3.0, 1.0)])
def test_a_part_that_is_not_there_is_refused(numbered, start, end):
    with pytest.raises(ClipError, match="has no part"):
        cut(read_clip(numbered), start, end)


def test_parts_are_what_is_answered(gibberish, clips):
    whole = gibberish.prepare(Sample(id="whole", clip=clips["film"]), DEFAULT_QUESTION)
    part = gibberish.prepare(Sample(id="part", clip=clips["film"], start_s=0.4), DEFAULT_QUESTION)
    assert part.duration_s == pytest.approx(whole.duration_s - 0.4)
    assert len(part.request.clip.placeholders.face) < len(whole.request.clip.placeholders.face)


@pytest.mark.default_model
def test_the_default_model_says_in_a_batch_what_it_says_alone():
    try:
        folder, clip = default_model(progress=False), fetch("example_clip", progress=False)
    except WeightsError as error:
        pytest.skip(f"the default model is not in reach: {error}")
    predictor = EmoLLMPredictor(EmoLLM.from_pretrained(folder))
    length = read_clip(clip).duration_s / 8
    prepared = [
        predictor.prepare(Sample(id=str(n), clip=clip, start_s=n * length, end_s=(n + 1) * length), DEFAULT_QUESTION)
        for n in range(8)
    ]
    together = predictor.answer(prepared, True)
    alone = [predictor.answer([one], True)[0] for one in prepared]
    # One in eight may differ: at a near-tie the last bits of a sum decide, and these differ with the batch's shape.
    assert sum(a.text == b.text for a, b in zip(together, alone)) >= 7
    assert all(reply.text.endswith("</answer>") for reply in together)
