import numpy as np
import torch
from torch.testing import assert_close
from transformers import WhisperConfig
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from emollm.model.audio_encoder import VoiceHead, audio_tower, pool_windows


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
