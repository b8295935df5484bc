import json

import numpy as np
import pytest
import torch
from fakes import make_voices
from safetensors.torch import load_file
from tiny import AUDIO_SIZE

from emollm.data.voices import Voices
from emollm.emotions import EMOTIONS
from emollm.eval import provenance
from emollm.model.audio_encoder import LayersVoiceHead, VoiceHead
from emollm.model.checkpoint import voice_settings
from emollm.train.voice import VoiceRecipe, train_voice


@pytest.fixture
def recipe(tmp_path, data):
    return VoiceRecipe(output=tmp_path / "run", emodb=data / "nowhere", cache=data / "voices", epochs=2, batch_size=8)


def test_a_run_saves_a_head_and_its_scores(recipe, monkeypatch):
    monkeypatch.setattr(provenance, "hardware", lambda: {"cpu": "Abacus", "gpu": "Engine"})
    scores = train_voice(recipe)
    assert set(scores) == {"valid_war", "valid_uar", "test_war", "test_uar"}
    assert json.loads((recipe.output / "scores.json").read_text()) == scores
    assert json.loads((recipe.output / "machine.json").read_text()) == {"cpu": "Abacus"}  # it leaves a GPU alone
    assert json.loads((recipe.output / "log.json").read_text())[0]["train_runtime"] > 0
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


def marks(code: int) -> slice:
    """Those of a layer's numbers that stand for one of the emotions."""
    width = 2 * AUDIO_SIZE // len(EMOTIONS)
    return slice(code * width, (code + 1) * width)


def layered(heard: bool) -> Voices:
    """Voices with an earlier layer beside the last; ``heard``: in it, emotions can be told apart."""
    voices = make_voices()
    earlier = voices.states.copy()
    if heard:
        for row, emotion in enumerate(voices.emotion):
            earlier[row, :, marks(EMOTIONS.index(emotion))] += 12
    voices.states = np.concatenate([voices.states, earlier], axis=-1)
    return voices


def test_the_layer_asked_for_is_heard(recipe, tmp_path):
    layered(heard=True).save(tmp_path / "emodb.npz")
    asked = recipe.model_copy(update={"cache": tmp_path, "epochs": 60, "learning_rate": 3e-3, "voice_layers": [1]})
    assert train_voice(asked)["test_uar"] > 0.8
    head = LayersVoiceHead(AUDIO_SIZE, recipe.hidden_size, 1)
    head.load_state_dict(load_file(recipe.output / "voice_head.safetensors"))
    assert head.scale.min() > 0
    needs = {"voice_size": recipe.hidden_size, "voice_layers": [1], "audio_context_s": None}
    assert voice_settings(recipe.output / "voice_head.safetensors") == needs


def test_folds_measure_every_speaker_unheard(recipe, tmp_path):
    layered(heard=True).save(tmp_path / "emodb.npz")
    asked = recipe.model_copy(
        update={"cache": tmp_path, "epochs": 60, "learning_rate": 3e-3, "voice_layers": [1], "folds": True}
    )
    scores = train_voice(asked)
    assert scores["uar_low"] <= scores["uar"] <= scores["uar_high"]
    assert scores["uar"] > 0.8
    assert json.loads((recipe.output / "folds.json").read_text()) == scores
    assert not (recipe.output / "voice_head.safetensors").exists()


def test_folds_learn_nothing_from_the_speaker_that_they_measure(recipe, tmp_path):
    voices = layered(heard=False)
    earlier = voices.states[..., 2 * AUDIO_SIZE :]
    speakers = sorted(set(voices.speaker))
    for row, emotion in enumerate(voices.emotion):  # each speaker has a code for the emotions that no other shares
        code = (EMOTIONS.index(emotion) + 2 * speakers.index(voices.speaker[row])) % len(EMOTIONS)
        earlier[row, :, marks(code)] += 12
    voices.save(tmp_path / "emodb.npz")
    asked = recipe.model_copy(
        update={"cache": tmp_path, "epochs": 60, "learning_rate": 3e-3, "voice_layers": [1], "folds": True}
    )
    assert train_voice(asked)["uar"] < 0.4


def test_conditions_are_measured_and_never_trained_on(recipe, tmp_path):
    voices = layered(heard=True)
    voices.save(tmp_path / "emodb.npz")
    asked = recipe.model_copy(
        update={"cache": tmp_path, "epochs": 60, "learning_rate": 3e-3, "voice_layers": [1], "folds": True}
    )
    without = train_voice(asked)
    scrambled = layered(heard=False)  # under the first condition nothing can be heard
    rows = scrambled.take == 0
    both = {key: np.concatenate([value, getattr(scrambled, key)[rows]]) for key, value in vars(voices).items()}
    both["take"][len(voices) :] = -1
    both["split"] = np.where(both["take"] < 0, "condition", both["split"])
    Voices(**both).save(tmp_path / "emodb.npz")
    scores = train_voice(asked)
    assert {key: scores[key] for key in without} == without
    assert scores["noise_10db_uar"] < 0.5


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
