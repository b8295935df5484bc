"""Wrong media are refused in one sentence before they reach the engine, which goes on as if nothing had been."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from reference import Case
from tiny import make_clip

from emollm.model.processing_emollm import Placeholders
from emollm.reasoning.prompts import clip_message
from emollm.serve.engine import NO_CLIP
from emollm.serve.transformers_engine import TransformersEngine

ASK = Case([clip_message()], [])
GOOD = make_clip()


@pytest.fixture(scope="module")
def good(tiny):
    return TransformersEngine(tiny).encode(GOOD)


def states(clip, name, change):
    return replace(clip, states={**clip.states, name: change(clip.states[name])})


def _nan_row(value):
    value = value.clone()
    value[0, 0] = float("nan")
    return value


WRONG = {
    "another width": (lambda c: states(c, "face_states", lambda s: s[..., :-1]), "face_states must have the shape"),
    "another width of sound": (lambda c: states(c, "audio_states", lambda s: s[..., 1:]), "must have the shape"),
    "one axis too few": (lambda c: states(c, "face_states", lambda s: s[0]), "face_states must be"),
    "whole numbers": (lambda c: states(c, "audio_states", lambda s: s.long()), "audio_states must be torch.float32"),
    "infinite": (lambda c: states(c, "audio_states", lambda s: s * float("inf")), "not finite"),
    "one window fewer": (lambda c: states(c, "face_states", lambda s: s[:, 1:]), "differ in number"),
    "a window without a state": (lambda c: states(c, "audio_states", _nan_row), "differ in number"),
    "no prosody": (
        lambda c: replace(c, states={**c.states, "audio_prosody": torch.zeros(1, 7)}),
        "must have the shape",
    ),
    "no window length": (
        lambda c: replace(c, states={k: v for k, v in c.states.items() if k != "face_window_s"}),
        "need face_window_s",
    ),
    "a picture's window length": (lambda c: states(c, "face_window_s", torch.zeros_like), "a picture those of 0 s"),
    "states left out": (lambda c: replace(c, states={}), "needs audio_prosody"),
    "too many windows": (lambda c: replace(c, placeholders=Placeholders(list(range(900)), 900)), "differ in number"),
    "nothing": (lambda c: NO_CLIP, "nothing to read"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_states(name, engine, reference, good):
    change, message = WRONG[name]
    with pytest.raises(ValueError, match=message):
        engine.replies([(reference.text(ASK), [("video", change(good))])])


def test_wrong_crops(engine, reference):
    track = replace(GOOD.face, blendshapes=GOOD.face.blendshapes[:, :7])
    with pytest.raises(ValueError, match="broadcast"):
        engine.replies([(reference.text(ASK), [("video", replace(GOOD, face=track))])])


def test_sound_that_is_not_finite(engine, reference):
    sound = GOOD.waveform.copy()
    sound[5] = np.inf
    with pytest.raises(ValueError, match="not finite"):
        engine.replies([(reference.text(ASK), [("video", replace(GOOD, waveform=sound))])])


@pytest.mark.parametrize(
    "item",
    [
        np.zeros((4, 8, 8, 3), np.uint8),
        (np.zeros((4, 8, 8, 3), np.uint8), {"fps": 1.0}),
        torch.zeros(1, 4, 64),
        "clip.mp4",
        {},
    ],
    ids=["frames", "frames with metadata", "embeddings", "a path", "a dict"],
)
def test_what_is_no_whole_file(item, engine, reference):
    with pytest.raises(ValueError, match="sent as a whole file"):
        engine.replies([(reference.text(ASK), [("video", item)])])


def test_silence(engine, reference):
    text = reference.text(Case([clip_message(media="audio")], []))
    with pytest.raises(ValueError, match="holds no voice"):
        engine.replies([(text, [("audio", (np.zeros(48000, np.float32), 48000))])])


def test_a_picture_without_a_face(engine, reference, monkeypatch):
    monkeypatch.setattr("emollm.serve.vllm_processing.read_upload", lambda data: make_clip(0.0, face=False))
    text = reference.text(Case([clip_message(media="image")], []))
    with pytest.raises(ValueError, match="The image shows no face"):
        engine.replies([(text, [("image", Image.new("RGB", (64, 64)))])])


def test_more_clips_than_places_and_fewer(engine, reference, good):
    for media in ([("video", good)] * 2, [("video", good), ("audio", good)], [("image", good)]):
        with pytest.raises(ValueError, match="places for a clip of kind"):
            engine.replies([(reference.text(ASK), media)])


def test_the_engine_has_outlived_all_this(engine, reference, good):
    (reply,) = engine.replies([(reference.text(ASK), [("video", good)])])
    assert reply.tokens == reference.reply(Case(ASK.messages, [("video", GOOD)])).tokens
