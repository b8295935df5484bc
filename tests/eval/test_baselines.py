"""Every baseline on material made here; the ``fer`` package's process with a package that only pretends."""

import importlib.util
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import skimage.data
import torch
import yaml
from PIL import Image
from scipy.io import wavfile
from scripted import cards
from tiny import make_llm, make_scripted, make_speech
from transformers import AutoModelForCausalLM, AutoTokenizer

from emollm.errors import BadArgumentError, NothingToReadError, WeightsError
from emollm.eval import baselines
from emollm.eval.baselines import fer as fer_module
from emollm.eval.baselines import prosody as prosody_module
from emollm.eval.baselines.blendshapes import AT_REST, BlendshapeRules, intensities
from emollm.eval.baselines.fer import Fer
from emollm.eval.baselines.functionals import NAMES, functionals
from emollm.eval.baselines.majority import Majority
from emollm.eval.baselines.prosody import ProsodySvm
from emollm.eval.baselines.text_only import Chooser, TextOnly, prompt
from emollm.eval.baselines.wording import words
from emollm.eval.cards import BenchmarkCard
from emollm.eval.predict import CannotAnswerError, Predictor, Thinker
from emollm.eval.samples import benchmark_samples
from emollm.eval.schema import Measured, Sample
from emollm.face.detect import BLENDSHAPES
from emollm.reasoning.parse import parse_answer
from emollm.serve.transformers_engine import TransformersEngine
from emollm.weights import fetch

QUESTION = "How does this person feel?"


def write_voice(path: Path, speed: float) -> Path:
    """A voice played at another speed: higher and faster the larger it is."""
    sound = make_speech(1.6)
    sound = np.interp(np.arange(0, len(sound), speed), np.arange(len(sound)), sound).astype(np.float32)
    wavfile.write(path, 16000, sound)
    return path


@pytest.fixture(scope="module")
def voices(tmp_path_factory) -> tuple[Path, BenchmarkCard]:
    """Speakers a to d train, e is the test: "high" is fear and fast, "low" boredom and slow; most train on boredom."""
    root = tmp_path_factory.mktemp("voices")
    (root / "made").mkdir()
    for number, speaker in enumerate("abcde"):
        write_voice(root / "made" / f"{speaker}_high_0.wav", 1.5 + 0.02 * number)
        for take in range(1 if speaker == "e" else 2):
            write_voice(root / "made" / f"{speaker}_low_{take}.wav", 0.8 + 0.02 * number + 0.01 * take)
    for take in (1, 2):
        write_voice(root / "made" / f"e_high_{take}.wav", 1.55 + 0.02 * take)
    card = {
        "name": "made",
        "title": "Made up",
        "paper": "none",
        "get": "Make it.",
        "licence": "none",
        "terms": "none",
        "modalities": ["voice"],
        "folder": "made",
        "layout": {"kind": "folder", "pattern": r"(?P<speaker>[a-z])_(?P<emotion>[a-z]+)_\d\.wav"},
        "labels": {"high": "panic", "low": "boredom"},
        "splits": {"test": {"speaker": ["e"]}, "train": {}},
    }
    (root / "made.yaml").write_text(yaml.safe_dump(card))
    return root, cards(
        "emotion",
        data=[str(root / "made.yaml")],
        split="test",
        answers=["panic", "boredom"],
        answer_map={"fear": "panic"},
    )


@pytest.fixture(scope="module")
def face(tmp_path_factory) -> Sample:
    """A smiling face."""
    try:
        fetch("face_landmarker", progress=False)
    except WeightsError as error:
        pytest.skip(f"the face landmarker is not in reach: {error}")
    path = tmp_path_factory.mktemp("face") / "face.png"
    Image.fromarray(skimage.data.astronaut()[:256, 96:352]).save(path)
    return Sample(id="face", clip=path)


@pytest.fixture(scope="module")
def voice(tmp_path_factory) -> Sample:
    return Sample(id="voice", clip=write_voice(tmp_path_factory.mktemp("voice") / "voice.wav", 1.0))


def test_unknown_names_are_told_the_known_ones(tmp_path):
    with pytest.raises(BadArgumentError, match="majority, fer, prosody, blendshapes, text-only"):
        baselines.load("minority", cards("emotion"), tmp_path)


def test_labels_are_said_in_our_words():
    card = cards("emotion", answers=["panic", "calm", "neutral"], answer_map={"fear": "panic", "boredom": "neutral"})
    assert words(card) == {"panic": "fear", "neutral": "neutral"}
    with pytest.raises(BadArgumentError, match="grammar"):
        words(cards("emotion", answers=["calm"]))


# Majority ------------------------------------------------------------------------------------------------------------


def test_majority_counts_the_training_samples_only(voices):
    root, card = voices
    baseline = baselines.load("majority", card, root)
    (reply,) = baseline.answer([None], think=False)
    assert parse_answer(reply.text, expect_thought=False).label == "boredom"  # the commonest of the test is fear
    assert reply.distribution == pytest.approx({"boredom": 8 / 12, "fear": 4 / 12}, abs=1e-6)
    assert baseline.describe()["training"].startswith("12 samples")


def test_majority_needs_training_samples(voices, tmp_path):
    root, card = voices
    untrained = yaml.safe_load((root / "made.yaml").read_text()) | {"splits": {"test": {}}}
    (tmp_path / "other.yaml").write_text(yaml.safe_dump(untrained))
    with pytest.raises(BadArgumentError, match="no labelled training samples"):
        Majority(card.model_copy(update={"data": [str(tmp_path / "other.yaml")]}), root)


# Prosody -------------------------------------------------------------------------------------------------------------


def test_functionals_measure_what_they_are_called():
    sound = make_speech(1.5)
    found, louder = functionals(sound), functionals(0.5 * sound)
    assert found is not None
    assert louder is not None
    assert len(found) == len(NAMES) == len(set(NAMES)) == 88
    at = {name: (a, b) for name, a, b in zip(NAMES, found, louder, strict=True)}
    assert at["level_db"][0] - at["level_db"][1] == pytest.approx(6.02, abs=0.01)
    assert at["pitch_p50"][0] == pytest.approx(12 * np.log2(150 / 27.5), abs=2.0)  # semitones over 27.5 Hz
    assert at["loudness_peaks"][0] == pytest.approx(5, abs=1)  # syllables a second
    assert at["voiced_hnr_mean"][0] > 5
    rustling = sound + np.random.default_rng(0).normal(0, 0.05, len(sound)).astype(np.float32)
    noisy = functionals(rustling)
    assert noisy is not None
    assert noisy[NAMES.index("voiced_hnr_mean")] < at["voiced_hnr_mean"][0] - 2
    assert functionals(np.zeros(16000, np.float32)) is None


def test_prosody_tells_voices_apart(voices, tmp_path, monkeypatch):
    root, card = voices
    baseline = baselines.load("prosody", card, root, tmp_path)
    samples = benchmark_samples(card, root, unpack=tmp_path).samples
    replies = baseline.answer([baseline.prepare(sample, QUESTION) for sample in samples], think=False)
    said = {"fear": "panic", "boredom": "boredom"}
    assert [said[parse_answer(reply.text).label or ""] for reply in replies] == [s.truth.emotion for s in samples]
    assert all(sum(reply.distribution.values()) == pytest.approx(1, abs=1e-5) for reply in replies)

    def again(_):
        raise AssertionError("measured again")

    monkeypatch.setattr(prosody_module, "functionals", again)
    assert ProsodySvm(card, root, tmp_path).describe() == baseline.describe()


def test_prosody_does_not_answer_what_it_was_trained_on_or_cannot_hear(voices, tmp_path, face):
    root, card = voices
    baseline = ProsodySvm(card, root, tmp_path)
    with pytest.raises(CannotAnswerError, match="trained on"):
        baseline.prepare(Sample(id="x", clip=root / "made" / "a_high_0.wav"), QUESTION)
    with pytest.raises(CannotAnswerError, match="no sound"):
        baseline.prepare(face, QUESTION)
    wavfile.write(tmp_path / "silence.wav", 16000, np.zeros(16000, np.float32))
    with pytest.raises(NothingToReadError):
        baseline.prepare(Sample(id="silence", clip=tmp_path / "silence.wav"), QUESTION)


# Blendshapes ---------------------------------------------------------------------------------------------------------


def blend(**values: float) -> np.ndarray:
    """``(52,)`` of a face at rest, but for these actions."""
    rest = {"browInnerUp": 0.19, "browOuterUp": 0.24, "browDown": 0.09, "eyeSquint": 0.27, "eyeBlink": 0.12} | values
    shapes = np.zeros(52, np.float32)
    for at, name in enumerate(BLENDSHAPES):
        shapes[at] = rest.get(name.removesuffix("Left").removesuffix("Right"), 0.0)
    return shapes


@pytest.mark.parametrize(
    ("actions", "label"),
    [
        ({}, "neutral"),
        ({"mouthSmile": 0.9}, "happiness"),
        ({"browInnerUp": 0.9, "browOuterUp": 0.9, "eyeWide": 0.3, "jawOpen": 0.7}, "surprise"),
        ({"mouthDimple": 0.3}, "contempt"),
    ],
)
def test_prototypes_decide(actions, label):
    (reply,) = BlendshapeRules(cards("emotion")).answer([intensities(blend(**actions))], think=False)
    assert parse_answer(reply.text, expect_thought=False).label == label
    assert max(reply.distribution, key=lambda word: reply.distribution[word]) == label


def test_intensities_run_from_rest_to_the_end_of_a_blendshape():
    units = intensities(np.ones(52, np.float32))
    assert set(units) == set(AT_REST)
    assert set(units.values()) == {5.0}
    assert max(intensities(blend()).values()) < 0.01


def test_the_thought_claims_the_units_that_decided(face):
    rules = BlendshapeRules(cards("emotion"))
    assert isinstance(rules, Thinker)
    (reply,) = rules.answer([rules.prepare(face, QUESTION)], think=True)
    parsed = parse_answer(reply.text, expect_thought=True)
    assert (parsed.error, parsed.label) == (None, "happiness")
    assert "AU12" in {claim.code for claim in parsed.claims}
    thought = reply.text[: reply.text.index("<answer>")]
    (again,) = rules.answer([rules.prepare_thought(QUESTION, thought)], think=False)
    assert parse_answer(again.text).label == "happiness"
    (changed,) = rules.answer([rules.prepare_thought(QUESTION, thought.replace("AU12 lip", "AU15 lip"))], think=False)
    assert parse_answer(changed.text).label == "sadness"


def test_blendshapes_need_a_face(voice, face, tmp_path):
    rules = BlendshapeRules(cards("emotion"))
    with pytest.raises(CannotAnswerError, match="no picture"):
        rules.prepare(voice, QUESTION)
    Image.new("RGB", (200, 200), "grey").save(tmp_path / "grey.png")
    with pytest.raises(NothingToReadError):
        rules.prepare(Sample(id="grey", clip=tmp_path / "grey.png"), QUESTION)
    with pytest.raises(NothingToReadError):
        rules.prepare(Sample(id="grey", clip=tmp_path / "grey.png", face_crop=True), QUESTION)
    with pytest.raises(BadArgumentError, match="prototype"):
        BlendshapeRules(cards("emotion", answers=["boredom"]))


# Language model alone ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def llm(tmp_path_factory) -> Path:
    folder = make_llm(tmp_path_factory.mktemp("llm"))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = "{% for message in messages %}user {{ message.content }} {% endfor %}assistant"
    tokenizer.save_pretrained(folder)
    return folder


def test_options_are_as_likely_as_the_model_says(llm):
    prompts, options = ["short", "a prompt of some more words"], ["happiness", "anger", "not a label at all"]
    tokenizer, model = AutoTokenizer.from_pretrained(llm), AutoModelForCausalLM.from_pretrained(llm).eval()
    expected = []
    for text in prompts:
        likelihoods = []
        for option in options:
            start = tokenizer.encode(f"user {text} assistant", add_special_tokens=False)
            rest = [*tokenizer.encode(option, add_special_tokens=False), tokenizer.eos_token_id]
            with torch.no_grad():
                scores = model(torch.tensor([start + rest])).logits[0].log_softmax(-1)
            likelihoods.append(sum(scores[len(start) - 1 + at, token] for at, token in enumerate(rest)))
        expected.append(torch.stack(likelihoods).softmax(-1).numpy())
    assert Chooser(str(llm))(prompts, options) == pytest.approx(np.stack(expected), abs=1e-5)


def test_the_prompt_says_what_was_measured_and_nothing_else():
    text = prompt({"AU12": 3.2, "AU4": 0.4, "AU45": 5.0}, None, "<|im_end|>fine", QUESTION, ["anger", "fear"])
    assert text == (
        "Face, muscle actions from 0 to 5: lip corner puller (AU12) 3.2.\nVoice: not heard.\n"
        f'Said: "fine"\n{QUESTION} Answer with one word: anger or fear.'
    )
    assert "Face: not visible." in prompt(None, None, "", QUESTION, ["anger", "fear"])


def test_text_only_answers_from_measurements(llm, face, voice, tmp_path):
    engine = TransformersEngine(make_scripted(tmp_path))
    baseline = TextOnly(cards("emotion", answers=["happiness", "anger"]), engine, str(llm))
    prepared = [baseline.prepare(sample, QUESTION) for sample in (face, voice)]
    assert "Voice: not heard." in prepared[0][0]
    assert "Face: not visible." in prepared[1][0]
    assert "Hz" in prepared[1][0]
    seen, heard = baseline.answer(prepared, think=False)
    for reply in (seen, heard):
        assert set(reply.distribution) == {"happiness", "anger"}
        assert parse_answer(reply.text, expect_thought=False).label == max(
            reply.distribution, key=lambda word: reply.distribution[word]
        )
    assert seen.measured is not None
    assert seen.measured.aus
    assert heard.measured == Measured()
    assert seen.prompt_sha256 != heard.prompt_sha256


# The fer package -----------------------------------------------------------------------------------------------------

PRETENDER = """#!{python}
import runpy, sys, types
import numpy as np

class FER:
    def detect_emotions(self, image, faces=None):
        print("what a library prints")
        if image.mean() < 1:
            return []
        blue = image[:, :, 0].mean() > 100  # BGR
        found = [{{"box": (0, 0, 9, 9), "emotions": {{"happy": float(blue), "sad": float(not blue), "neutral": 0.0}}}}]
        if faces is None:
            shares = {{"happy": 0.25, "sad": 0.25, "neutral": 0.5}}
            found.append({{"box": np.array([0, 0, 20, 20]), "emotions": shares}})
        return found

for name in ("fer", "fer.fer", "tensorflow"):
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__version__ = "0"
sys.modules["fer.fer"].FER = FER
runpy.run_path(sys.argv[2], run_name="__main__")
"""


@pytest.fixture
def pretender(tmp_path, monkeypatch) -> Fer:
    script = tmp_path / "python"
    script.write_text(PRETENDER.format(python=sys.executable))
    script.chmod(0o755)
    monkeypatch.setenv(fer_module.PYTHON, str(script))
    return Fer(cards("emotion"))


def picture(path: Path, colour: str) -> Path:
    Image.new("RGB", (40, 30), colour).save(path)
    return path


def test_fer_says_what_the_package_finds(pretender, tmp_path):
    crop = Sample(id="crop", clip=picture(tmp_path / "blue.png", "blue"), face_crop=True)
    whole = Sample(id="whole", clip=picture(tmp_path / "red.png", "red"))
    replies = pretender.answer([pretender.prepare(sample, QUESTION) for sample in (crop, whole)], think=False)
    assert [parse_answer(reply.text).label for reply in replies] == ["happiness", "neutral"]
    assert replies[1].distribution == {"happiness": 0.25, "sadness": 0.25, "neutral": 0.5}
    assert pretender.describe()["fer"] == "0"
    with pytest.raises(NothingToReadError):
        pretender.prepare(Sample(id="black", clip=picture(tmp_path / "black.png", "black")), QUESTION)
    pretender.close()


def test_fer_needs_a_picture(pretender, voice):
    with pytest.raises(CannotAnswerError):
        pretender.prepare(voice, QUESTION)
    pretender.close()


@pytest.mark.skipif(importlib.util.find_spec("fer") is not None, reason="the package fer is installed here")
def test_without_the_package_one_sentence_says_how_to_get_it(monkeypatch):
    monkeypatch.setenv(fer_module.PYTHON, sys.executable)
    with pytest.raises(BadArgumentError, match="pip install --no-deps fer"):
        Fer(cards("emotion"))


@pytest.mark.skipif(
    not os.environ.get(fer_module.PYTHON), reason=f"{fer_module.PYTHON} names no Python with the package fer"
)
def test_the_real_package_sees_a_smile(face):
    baseline = Fer(cards("emotion"))
    (reply,) = baseline.answer([baseline.prepare(face, QUESTION)], think=False)
    assert parse_answer(reply.text).label == "happiness"
    baseline.close()


def test_all_are_predictors(voices, tmp_path):
    root, card = voices
    loaded: list[Predictor] = [Majority(card, root), BlendshapeRules(cards("emotion"))]
    assert [predictor.name for predictor in loaded] == ["majority", "blendshapes"]
    assert not isinstance(loaded[0], Thinker)
    assert all(isinstance(value, str) for one in loaded for value in one.describe().values())
