"""The towers alone: the weights and the results of the whole model, without its language model."""

import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import make_clip, make_tiny
from transformers import AutoModelForImageTextToText

from emollm.errors import WeightsError
from emollm.model.modeling_emollm import EmoLLMForConditionalGeneration
from emollm.model.processing_emollm import EmoLLMProcessor
from emollm.model.towers import load_towers


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_tiny(tmp_path_factory.mktemp("towers"))


def test_towers_are_those_of_the_whole_model(folder):
    whole = EmoLLMForConditionalGeneration.from_pretrained(folder).eval()
    towers = load_towers(folder)
    state = whole.model.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in towers.state_dict().items())
    assert not towers.training
    media = EmoLLMProcessor.from_pretrained(folder).pack([make_clip()])
    faces = [media[name] for name in ("face_pixels", "face_blendshapes", "face_window", "face_window_s")]
    sound = [media[name] for name in ("input_features", "audio_seconds", "audio_window_s", "audio_prosody")]
    with torch.inference_mode():
        for method, inputs in (("get_face_features", faces), ("get_audio_features", sound)):
            mine, theirs = getattr(towers, method)(*inputs), getattr(whole, method)(*inputs)
            torch.testing.assert_close(mine.pooler_output, theirs.pooler_output)
            torch.testing.assert_close(mine.readings, theirs.readings)


def test_a_checkpoint_in_several_files_is_read(folder, tmp_path):
    sharded = shutil.copytree(folder, tmp_path / "sharded")
    (sharded / "model.safetensors").unlink()
    AutoModelForImageTextToText.from_pretrained(folder).save_pretrained(sharded, max_shard_size="300KB")
    assert not (sharded / "model.safetensors").exists()
    mine, theirs = load_towers(sharded).state_dict(), load_towers(folder).state_dict()
    assert all(torch.equal(mine[key], theirs[key]) for key in theirs)


def test_a_folder_without_the_towers_is_refused(folder, tmp_path):
    with pytest.raises(WeightsError, match="holds no EmoLLM checkpoint"):
        load_towers(tmp_path)
    damaged = shutil.copytree(folder, tmp_path / "damaged")
    weights = load_file(damaged / "model.safetensors")
    weights.pop("model.face_adapter.up.weight")
    save_file(weights, damaged / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(WeightsError, match="holds no EmoLLM checkpoint"):
        load_towers(damaged)
