"""The audio tower: a hub speech encoder over 30 s chunks, pooled to the windows of the clip, and the voice head."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModel, PreTrainedModel
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from emollm.emotions import EMOTIONS

PROSODY_SIZE = 8
CHUNK_SECONDS = 30.0


def audio_tower(config: Any) -> PreTrainedModel:
    """The encoder of ``config``; of Whisper only the encoder half is built."""
    if getattr(config, "model_type", "") == "whisper":
        return WhisperEncoder(config)
    return AutoModel.from_config(config)


def pool_windows(
    hidden: Tensor, seconds: Tensor, window_s: Tensor, num_windows: int, frame_rate: float = 50.0
) -> Tensor:
    """Mean and standard deviation of encoder frames over each window of the clip.

    Args:
        hidden: ``(I, F, D)`` encoder frames of each item, its 30 s chunks joined in time.
        seconds: ``(I,)`` length of the sound; frames behind it are padding.
        window_s: ``(I,)`` window length in seconds.
        num_windows: windows of the longest item.
        frame_rate: encoder frames per second (Whisper: 50).

    Returns:
        ``(I, num_windows, 2 * D)``; windows behind the end are zero.
    """
    time = (torch.arange(hidden.shape[1], device=hidden.device) + 0.5) / frame_rate
    window = (time[None] / window_s[:, None]).long()
    window = torch.where(time[None] < seconds[:, None], window, num_windows).clamp(max=num_windows)
    member = nn.functional.one_hot(window, num_windows + 1)[..., :num_windows].to(hidden.dtype)
    count = member.sum(1).clamp(min=1)[..., None]
    mean = torch.einsum("ifw,ifd->iwd", member, hidden) / count
    square = torch.einsum("ifw,ifd->iwd", member, hidden.square()) / count
    variance = square - mean.square()
    varied = variance > 0
    deviation = variance.masked_fill(~varied, 1.0).sqrt() * varied  # at 0 the root's gradient is infinite
    return torch.cat([mean, deviation], dim=-1)


class VoiceHead(nn.Module):
    """What the whole voice says: pooled encoder statistics and prosody to emotion, valence and arousal.

    Input per clip: mean over windows of the windows' means, their deviation between windows, the mean of the windows'
    deviations, and the eight prosody numbers of :class:`emollm.voice.prosody.Prosody`.
    """

    def __init__(self, encoder_size: int, hidden_size: int, dropout: float = 0.4):
        super().__init__()
        self.norm = nn.LayerNorm(3 * encoder_size)
        self.trunk = nn.Sequential(
            nn.Dropout(dropout),
            nn.Linear(3 * encoder_size + PROSODY_SIZE, hidden_size),
            nn.GELU(),
            nn.Dropout(dropout),
        )
        self.emotion = nn.Linear(hidden_size, len(EMOTIONS))
        self.valence_arousal = nn.Linear(hidden_size, 2)

    def forward(self, states: Tensor, present: Tensor, prosody: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Read one voice per item.

        Args:
            states: ``(I, W, 2 * D)`` from :func:`pool_windows`.
            present: ``(I, W)`` bool, windows that hold sound.
            prosody: ``(I, 8)``.

        Returns:
            Hidden state ``(I, hidden_size)``, emotion logits ``(I, 9)``, valence and arousal ``(I, 2)`` in [-1, 1].
        """
        mean, deviation = states.float().chunk(2, dim=-1)
        weight = present.float()[..., None]
        count = weight.sum(1).clamp(min=1)
        centre = (mean * weight).sum(1) / count
        between = (((mean - centre[:, None]).square() * weight).sum(1) / count + 1e-6).sqrt()
        within = (deviation * weight).sum(1) / count
        pooled = self.norm(torch.cat([centre, between, within], dim=-1).to(self.norm.weight.dtype))
        hidden = self.trunk(torch.cat([pooled, prosody.to(pooled.dtype)], dim=-1))
        return hidden, self.emotion(hidden), torch.tanh(self.valence_arousal(hidden))
