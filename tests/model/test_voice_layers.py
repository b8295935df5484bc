"""A model whose voice head hears earlier layers of the audio tower, from log-mel to tokens."""

import pytest
import torch
from torch.testing import assert_close

from emollm.model.audio_encoder import LayersVoiceHead, VoiceHead
from emollm.model.configuration_emollm import SUMMARY_TOKENS, EmoLLMConfig
from emollm.model.symbols import VOICE_SYMBOLS
from emollm.model.towers import MediaTowers

AUDIO = {"d_model": 8, "encoder_layers": 2, "encoder_attention_heads": 2, "encoder_ffn_dim": 16, "num_mel_bins": 4}
TEXT = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 9}


def config(**settings) -> EmoLLMConfig:
    return EmoLLMConfig(text_config=dict(TEXT), audio_config=dict(AUDIO), adapter_size=8, voice_size=8, **settings)


@pytest.fixture(scope="module")
def towers() -> MediaTowers:
    torch.manual_seed(0)
    return MediaTowers(config(voice_layers=[0, 1], audio_context_s=5.0)).eval()


@pytest.fixture(scope="module")
def sound() -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    return {
        "input_features": torch.randn(2, 2, 4, 3000),
        "audio_seconds": torch.tensor([1.8, 33.0]),
        "audio_window_s": torch.tensor([0.5, 1.0]),
        "audio_prosody": torch.randn(2, 8),
    }


@torch.no_grad()
def test_from_sound_to_tokens_and_back_from_states(towers, sound):
    output = towers.get_audio_features(**sound)
    states = output.last_hidden_state
    assert states.shape == (2, 33, towers.config.audio_state_size) == (2, 33, 2 * 8 * 3)
    assert output.present.sum(1).tolist() == [4, 33]
    assert output.pooler_output.shape == (4 + 33 + 2 * (SUMMARY_TOKENS + VOICE_SYMBOLS), 16)
    assert output.pooler_output.isfinite().all()
    again = towers.get_audio_features(audio_states=states, audio_prosody=sound["audio_prosody"])
    assert torch.equal(output.pooler_output, again.pooler_output)
    assert torch.equal(output.readings, again.readings)


@torch.no_grad()
def test_a_voice_is_read_alike_alone(towers, sound):
    both = towers.get_audio_features(**sound)
    alone = towers.get_audio_features(**{key: value[:1] for key, value in sound.items()})
    assert_close(both.readings[:1], alone.readings)
    assert_close(both.last_hidden_state[:1, :4], alone.last_hidden_state)


@torch.no_grad()
def test_readings_come_from_the_earlier_layers_alone(towers, sound):
    states = towers.get_audio_features(**sound).last_hidden_state
    read = towers.get_audio_features(audio_states=states, audio_prosody=sound["audio_prosody"]).readings
    for part, same in ((slice(0, 16), True), (slice(16, None), False)):
        other = states.clone()
        other[..., part] += torch.randn_like(other[..., part])
        changed = towers.get_audio_features(audio_states=other, audio_prosody=sound["audio_prosody"]).readings
        assert torch.equal(read, changed) == same


def test_a_checkpoint_of_before_keeps_its_head(tmp_path):
    config().save_pretrained(tmp_path)
    old = EmoLLMConfig.from_pretrained(tmp_path)
    assert (old.voice_layers, old.audio_context_s, old.audio_state_size) == ([], None, 16)
    assert type(MediaTowers(old).voice_head) is VoiceHead
    config(voice_layers=[1], audio_context_s=5.0).save_pretrained(tmp_path)
    new = EmoLLMConfig.from_pretrained(tmp_path)
    assert (new.voice_layers, new.audio_context_s) == ([1], 5.0)
    assert type(MediaTowers(new).voice_head) is LayersVoiceHead
