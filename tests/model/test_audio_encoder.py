import numpy as np
import pytest
import torch
from torch.testing import assert_close
from transformers import WhisperConfig
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from emollm.model.audio_encoder import (
    LayersVoiceHead,
    VoiceHead,
    audio_tower,
    encode_chunks,
    pool_layers,
    pool_windows,
    voice_head,
)


def test_windows_hold_mean_and_deviation_of_their_frames():
    torch.manual_seed(0)
    hidden = torch.randn(2, 200, 3)
    seconds, window_s = torch.tensor([3.3, 1.0]), torch.tensor([0.5, 0.4])
    pooled = pool_windows(hidden, seconds, window_s, 7)
    assert pooled.shape == (2, 7, 6)
    for item in range(2):
        times = (np.arange(200) + 0.5) / 50
        for window in range(7):
            start = window * float(window_s[item])
            inside = (times >= start) & (times < start + float(window_s[item])) & (times < float(seconds[item]))
            frames = hidden[item, torch.from_numpy(inside)]
            if len(frames):
                expected = torch.cat([frames.mean(0), frames.std(0, unbiased=False)])
                assert_close(pooled[item, window], expected, rtol=1e-3, atol=1e-3)
            else:
                assert not pooled[item, window].any()


def test_gradients_stay_finite_where_nothing_varies():
    hidden = torch.ones(1, 100, 3, requires_grad=True)
    pool_windows(hidden, torch.tensor([1.0]), torch.tensor([0.5]), 4).sum().backward()
    assert hidden.grad.isfinite().all()


def test_padding_behind_a_voice_is_not_heard():
    torch.manual_seed(0)
    head = VoiceHead(4, 8).eval()
    states, prosody = torch.randn(1, 3, 8), torch.randn(1, 8)
    padded = torch.cat([states, torch.randn(1, 5, 8)], dim=1)
    present = torch.tensor([[True] * 3 + [False] * 5])
    with torch.no_grad():
        alone, together = head(states, present[:, :3], prosody), head(padded, present, prosody)
    for one, other in zip(alone, together):
        assert_close(one, other)
    assert alone[1].shape == (1, 9)
    assert (alone[2].abs() <= 1).all()


def test_prosody_is_heard():
    torch.manual_seed(0)
    head = VoiceHead(4, 8).eval()
    states, present = torch.randn(1, 3, 8), torch.ones(1, 3, dtype=torch.bool)
    with torch.no_grad():
        low, high = head(states, present, -torch.ones(1, 8))[1], head(states, present, torch.ones(1, 8))[1]
    assert (low - high).abs().max() > 1e-3


def test_of_whisper_only_the_encoder_is_built():
    config = WhisperConfig(d_model=8, encoder_layers=1, encoder_attention_heads=2, encoder_ffn_dim=8)
    assert type(audio_tower(config)) is WhisperEncoder


@pytest.fixture(scope="module")
def whisper():
    torch.manual_seed(0)
    config = WhisperConfig(d_model=8, encoder_layers=2, encoder_attention_heads=2, encoder_ffn_dim=16, num_mel_bins=4)
    return WhisperEncoder(config).eval()


@torch.no_grad()
def test_without_layers_and_context_the_tower_is_asked_as_ever(whisper):
    chunks = torch.randn(2, 4, 3000)
    assert torch.equal(encode_chunks(whisper, chunks, torch.tensor([3.0, 20.0])), whisper(chunks).last_hidden_state)


@torch.no_grad()
def test_layers_follow_the_last_one(whisper):
    chunks = torch.randn(1, 4, 3000)
    states = whisper(chunks, output_hidden_states=True).hidden_states
    found = encode_chunks(whisper, chunks, torch.tensor([3.0]), layers=[0, 1])
    assert torch.equal(found, torch.cat([states[2], states[0], states[1]], dim=-1))


@torch.no_grad()
def test_a_context_of_thirty_seconds_changes_nothing(whisper):
    chunks, seconds = torch.randn(1, 4, 3000), torch.tensor([28.0])
    full, asked = (encode_chunks(whisper, chunks, seconds, [1], context_s) for context_s in (None, 5.0))
    assert torch.equal(full, asked)


@torch.no_grad()
def test_the_way_around_whispers_forward_computes_the_same(whisper):
    chunks = torch.randn(1, 4, 3000)
    short = WhisperEncoder(type(whisper.config)(**{**whisper.config.to_dict(), "max_source_positions": 500})).eval()
    state = whisper.state_dict()
    state["embed_positions.weight"] = state["embed_positions.weight"][:500]
    short.load_state_dict(state)
    states = short(chunks[..., :1000], output_hidden_states=True).hidden_states
    found = encode_chunks(whisper, chunks, torch.tensor([8.0]), layers=[1], context_s=5.0)
    assert found.shape == (1, 1500, 16)
    assert_close(found[:, :500], torch.cat([states[2], states[1]], dim=-1))
    assert not found[:, 500:].any()


@torch.no_grad()
def test_a_short_sound_is_read_alike_in_any_company(whisper):
    chunks, seconds = torch.randn(3, 4, 3000), torch.tensor([2.0, 12.0, 4.9])
    together = encode_chunks(whisper, chunks, seconds, [1], context_s=5.0)
    for row in range(3):
        alone = encode_chunks(whisper, chunks[row : row + 1], seconds[row : row + 1], [1], context_s=5.0)
        assert_close(alone[0], together[row])
    assert together[0, 249].any()
    assert not together[0, 250:].any()
    assert together[1, 749].any()
    assert not together[1, 750:].any()


def test_layers_are_pooled_one_after_another():
    torch.manual_seed(0)
    last, earlier = torch.randn(1, 100, 3), torch.randn(1, 100, 3)
    seconds, window_s = torch.tensor([2.0]), torch.tensor([0.5])
    pooled = pool_layers(torch.cat([last, earlier], dim=-1), seconds, window_s, 4, 50.0, 2)
    each = [pool_windows(part, seconds, window_s, 4) for part in (last, earlier)]
    assert torch.equal(pooled, torch.cat(each, dim=-1))


def test_the_head_of_layers_pools_all_frames_of_what_it_hears():
    torch.manual_seed(0)
    frames = torch.randn(2, 100, 12)  # the last layer and two earlier ones
    states = pool_layers(frames, torch.full((2,), 2.0), torch.full((2,), 0.5), 6, 50.0, 3)
    present = torch.arange(6)[None].expand(2, -1) < 4
    pooled = LayersVoiceHead(4, 8, 2).pooled(states, present)
    heard = frames[..., 4:].unflatten(-1, (2, 4))
    expected = torch.stack([heard.mean(1), heard.std(1, unbiased=False)], dim=2).flatten(1)
    assert_close(pooled, expected, rtol=1e-3, atol=1e-3)


def test_the_head_of_layers_standardises_and_hears_neither_padding_nor_the_last_layer():
    torch.manual_seed(0)
    head = voice_head(4, 8, 1).eval()
    assert isinstance(head, LayersVoiceHead)
    states, present = 100 + 30 * torch.rand(50, 3, 16), torch.ones(50, 3, dtype=torch.bool)
    head.standardise(states, present)
    standard = (head.pooled(states, present) - head.centre) / head.scale
    assert_close(standard.mean(0), torch.zeros(8), atol=1e-3, rtol=0)
    assert_close(standard.std(0), torch.ones(8), atol=1e-2, rtol=0)
    other = torch.cat([torch.randn(50, 3, 8), states[..., 8:]], dim=-1)
    other = torch.cat([other, torch.randn(50, 2, 16)], dim=1)
    with torch.no_grad():
        first = head(states, present)
        second = head(other, torch.arange(5)[None].expand(50, -1) < 3, torch.randn(50, 8))
    for one, two in zip(first, second):
        assert_close(one, two)
    assert type(voice_head(4, 8, 0)) is VoiceHead
