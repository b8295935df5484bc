"""Clips are perceived and encoded once, as the engine encodes them, and kept."""

from pathlib import Path

import numpy as np
import pytest
import torch
from media.conftest import write_clip
from safetensors.torch import load_file, save_file
from tiny import AUDIO_SIZE, make_clip, make_parts, make_speech, make_tiny

from emollm.api import clip_inputs
from emollm.data import clip_states
from emollm.data.clip_states import ClipEncoder, ClipStates, towers_digest
from emollm.data.schema import Record
from emollm.errors import ClipError, WeightsError
from emollm.media.clip import read_clip
from emollm.model.checkpoint import assemble
from emollm.perceive import perceive
from emollm.serve.transformers_engine import TransformersEngine


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return make_tiny(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def clip(tmp_path) -> Path:
    return write_clip(tmp_path / "a.wav", sound=make_speech(2.0), rate=16000, audio="pcm_s16le")


def record(**changes) -> Record:
    return Record(id="a", messages=[], audios=["a.wav"], **changes)


def test_states_are_those_of_the_engine(model, clip, tmp_path):
    engine = TransformersEngine(model)
    perception = perceive(read_clip(clip))
    expected = engine.encode(clip_inputs(perception, None))
    found = ClipEncoder(model, tmp_path / "cache").states(record(), tmp_path)
    assert np.allclose(found.sound, expected.states["audio_states"][0].numpy(), atol=1e-5)
    assert np.allclose(found.prosody, expected.states["audio_prosody"][0].numpy(), atol=1e-6)
    assert np.allclose(found.voice_readings, expected.voice_readings.numpy(), atol=1e-5)
    assert len(found.sound) == expected.placeholders.audio == 4
    assert found.voice == perception.prosody.summary()
    assert (len(found.face), found.duration_s) == (0, pytest.approx(2.0, abs=0.01))


def test_a_clip_is_encoded_once_and_again_when_it_changes(model, clip, tmp_path, monkeypatch):
    encoded = []
    real = ClipEncoder._encode
    monkeypatch.setattr(ClipEncoder, "_encode", lambda self, *how: encoded.append(how[1].name) or real(self, *how))
    first = ClipEncoder(model, tmp_path / "cache").states(record(), tmp_path)
    encoder = ClipEncoder(model, tmp_path / "cache")
    monkeypatch.setattr(clip_states, "load_towers", lambda folder: pytest.fail("the model is not needed"))
    again = encoder.states(record(), tmp_path)
    assert np.array_equal(first.sound, again.sound)
    assert encoded == ["a.wav"]
    monkeypatch.undo()
    monkeypatch.setattr(ClipEncoder, "_encode", lambda self, *how: encoded.append(how[1].name) or real(self, *how))
    assert len(encoder.states(record(end_s=1.0), tmp_path).sound) == 2
    write_clip(clip, sound=make_speech(1.0), rate=16000, audio="pcm_s16le")
    assert len(encoder.states(record(), tmp_path).sound) == 2
    assert encoded == ["a.wav"] * 3


def test_a_torn_file_is_made_again(model, clip, tmp_path):
    encoder = ClipEncoder(model, tmp_path / "cache")
    whole = encoder.states(record(), tmp_path)
    file = encoder.file_of(record(), tmp_path)
    file.write_bytes(file.read_bytes()[:100])
    assert np.array_equal(encoder.states(record(), tmp_path).sound, whole.sound)
    assert np.array_equal(ClipStates.load(file).sound, whole.sound)


def test_what_cannot_be_read_comes_back_as_its_error(model, clip, tmp_path):
    (tmp_path / "broken.wav").write_text("no sound")
    records = [record(), *(Record(id=name, messages=[], audios=[name]) for name in ("broken.wav", "gone.wav"))]
    seen = []
    found = list(ClipEncoder(model, tmp_path / "cache").all(records, tmp_path, lambda *at: seen.append(at)))
    assert isinstance(found[0][1], ClipStates)
    assert all(isinstance(states, ClipError) for _, states in found[1:])
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_models_with_the_same_towers_share_states(model, tmp_path):
    weights = load_file(model / "model.safetensors")

    def digest(**changes: torch.Tensor) -> str:
        (tmp_path / "other").mkdir(exist_ok=True)
        changed = {key.replace("__", "."): value for key, value in changes.items()}
        save_file(weights | changed, tmp_path / "other" / "model.safetensors")
        return towers_digest(tmp_path / "other")

    tower = next(key for key in weights if key.startswith("model.face_tower."))
    assert digest() == towers_digest(model)
    assert digest(model__prosody_adapter__bias=weights["model.prosody_adapter.bias"] + 1) == towers_digest(model)
    assert digest(**{tower: weights[tower] + 1}) != towers_digest(model)
    with pytest.raises(WeightsError):
        towers_digest(tmp_path)


def test_states_of_a_clip_without_a_voice_are_as_wide(tmp_path):
    """Also where the voice head hears more than the last layer: batches join both."""
    parts = make_parts(tmp_path / "parts")
    model, processor = assemble(parts.llm, parts.audio_encoder, parts.face_tower, voice_layers=[0])
    model.save_pretrained(tmp_path / "layered")
    processor.save_pretrained(tmp_path / "layered")
    encoder = ClipEncoder(tmp_path / "layered", tmp_path / "cache")
    heard, silent = (encoder._states(make_clip(2.0, voice=voice)).sound for voice in (True, False))
    assert (heard.shape, silent.shape) == ((4, 4 * AUDIO_SIZE), (0, 4 * AUDIO_SIZE))
