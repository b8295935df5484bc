import json

import numpy as np
import pytest
import torch
from fakes import make_voices
from safetensors.torch import load_file
from tiny import AUDIO_SIZE

from emollm.data.voices import Voices, alter
from emollm.emotions import EMOTIONS
from emollm.model.audio_encoder import VoiceHead
from emollm.train.voice import VoiceRecipe, train_voice


@pytest.fixture
def recipe(tmp_path, data):
    return VoiceRecipe(output=tmp_path / "run", emodb=data / "nowhere", cache=data / "voices", epochs=2, batch_size=8)


def test_a_run_saves_a_head_and_its_scores(recipe):
    scores = train_voice(recipe)
    assert set(scores) == {"valid_war", "valid_uar", "test_war", "test_uar"}
    assert json.loads((recipe.output / "scores.json").read_text()) == scores
    VoiceHead(AUDIO_SIZE, recipe.hidden_size).load_state_dict(load_file(recipe.output / "voice_head.safetensors"))


def test_runs_repeat(recipe, tmp_path):
    train_voice(recipe)
    train_voice(recipe.model_copy(update={"output": tmp_path / "again"}))
    first, again = (load_file(folder / "voice_head.safetensors") for folder in (recipe.output, tmp_path / "again"))
    assert all(torch.equal(value, again[key]) for key, value in first.items())


def test_what_can_be_heard_is_learned(recipe, tmp_path):
    voices = make_voices()
    for row, emotion in enumerate(voices.emotion):
        voices.states[row, :, EMOTIONS.index(emotion)] += 12
    voices.save(tmp_path / "emodb.npz")
    scores = train_voice(recipe.model_copy(update={"cache": tmp_path, "epochs": 60}))
    assert scores["test_uar"] > 0.8  # seven emotions, a speaker never trained on


def test_voices_survive_their_file(tmp_path):
    voices = make_voices()
    voices.save(tmp_path / "a.npz")
    loaded = Voices.load(tmp_path / "a.npz")
    for key, value in vars(voices).items():
        np.testing.assert_array_equal(value, getattr(loaded, key))


def test_unmeasured_prosody_comes_back_as_none():
    voices = make_voices()
    assert voices.prosody_of(0).pitch_hz is None
    assert voices.prosody_of(0).energy_db == -22.0
    assert voices.prosody_of(1).pitch_hz == voices.prosody[1, 0]


def test_altered_takes_stay_finite_and_within_range():
    sound = np.sin(np.arange(16000) / 20).astype(np.float32)
    for seed in range(5):
        take = alter(sound, np.random.default_rng(seed))
        assert take.dtype == np.float32
        assert 0.1 < np.abs(take).max() <= 1.0
        assert abs(len(take) / len(sound) - 1) < 0.15
        assert np.array_equal(take, alter(sound, np.random.default_rng(seed)))
