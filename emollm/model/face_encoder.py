"""The face tower: crops and blendshapes of a face, frame by frame, to features, AUs, expression, valence, arousal."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.utils import ModelOutput

from emollm.emotions import EXPRESSIONS
from emollm.facs import AU_CODES, MAX_INTENSITY
from emollm.model.configuration_emollm import FaceEncoderConfig


@dataclass
class FaceEncoderOutput(ModelOutput):
    """Per-frame output; ``N`` frames.

    Attributes:
        features: ``(N, feature_size)``: fused hidden state, AUs / 5, expression probabilities, valence, arousal.
        action_units: ``(N, 17)`` intensities on 0-5 in the order of :data:`emollm.facs.AU_CODES`.
        expression_logits: ``(N, 8)`` in the order of :data:`emollm.emotions.EXPRESSIONS`.
        valence_arousal: ``(N, 2)`` in [-1, 1].
    """

    features: Tensor | None = None
    action_units: Tensor | None = None
    expression_logits: Tensor | None = None
    valence_arousal: Tensor | None = None


class _Block(nn.Module):
    """Pre-activation residual block (He et al. 2016, https://arxiv.org/abs/1603.05027)."""

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.norm1, self.norm2 = nn.BatchNorm2d(inputs), nn.BatchNorm2d(outputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.shortcut = (
            nn.Conv2d(inputs, outputs, 1, stride, bias=False) if inputs != outputs or stride > 1 else nn.Identity()
        )

    def forward(self, x: Tensor) -> Tensor:
        h = torch.relu(self.norm1(x))
        h = self.conv2(torch.relu(self.norm2(self.conv1(h))))
        return h + self.shortcut(x)


class FaceEncoder(PreTrainedModel):
    """Per-frame face tower.

    Pixels are turned grey and standardised per crop, so light, skin tone and colour cast carry no information; the
    blendshapes say where the mesh moved. Frames without blendshapes (NaN rows) use a learned stand-in instead.
    """

    config_class = FaceEncoderConfig
    main_input_name = "face_pixels"
    base_model_prefix = "face_tower"

    def __init__(self, config: FaceEncoderConfig):
        super().__init__(config)
        widths = config.widths
        self.stem = nn.Sequential(nn.Conv2d(1, widths[0], 3, 1, 1, bias=False), nn.MaxPool2d(2))
        stages, inputs = [], widths[0]
        for i, outputs in enumerate(widths):
            for b in range(config.blocks):
                stages.append(_Block(inputs, outputs, stride=2 if i > 0 and b == 0 else 1))
                inputs = outputs
        self.stages = nn.Sequential(*stages)
        self.norm = nn.BatchNorm2d(inputs)
        self.blendshapes = nn.Sequential(nn.Linear(config.num_blendshapes, 128), nn.GELU(), nn.Linear(128, 128))
        self.no_blendshapes = nn.Parameter(torch.zeros(128))
        self.fuse = nn.Sequential(
            nn.Dropout(config.dropout),
            nn.Linear(inputs + 128, config.hidden_size),
            nn.GELU(),
            nn.Dropout(config.dropout),
        )
        self.au_head = nn.Linear(config.hidden_size, len(AU_CODES))
        self.expression_head = nn.Linear(config.hidden_size, len(EXPRESSIONS))
        self.va_head = nn.Linear(config.hidden_size, 2)
        self.post_init()

    def forward(self, face_pixels: Tensor, blendshapes: Tensor) -> FaceEncoderOutput:
        """Encode frames.

        Args:
            face_pixels: ``(N, S, S, 3)`` uint8 RGB crops, S = ``config.image_size``.
            blendshapes: ``(N, 52)`` float; a row with NaN means "no landmarks in this frame".
        """
        pixels = self._encode_pixels(face_pixels)
        known = ~blendshapes.isnan().any(-1, keepdim=True)
        shapes = self.blendshapes(torch.nan_to_num(blendshapes).to(pixels.dtype))
        shapes = torch.where(known, shapes, self.no_blendshapes.to(shapes.dtype))
        hidden = self.fuse(torch.cat([pixels, shapes], dim=-1))
        aus = torch.sigmoid(self.au_head(hidden))
        logits = self.expression_head(hidden)
        va = torch.tanh(self.va_head(hidden))
        return FaceEncoderOutput(
            features=torch.cat([hidden, aus, logits.softmax(-1), va], dim=-1),
            action_units=MAX_INTENSITY * aus,
            expression_logits=logits,
            valence_arousal=va,
        )

    def _encode_pixels(self, face_pixels: Tensor) -> Tensor:
        """``(N, S, S, 3)`` uint8 -> ``(N, widths[-1])``."""
        size = self.config.image_size
        if face_pixels.dtype != torch.uint8 or face_pixels.shape[1:] != (size, size, 3):
            raise ValueError(
                f"face_pixels must be uint8 of shape (N, {size}, {size}, 3), "
                f"not {face_pixels.dtype} of shape {tuple(face_pixels.shape)}"
            )
        weights = torch.tensor([0.299, 0.587, 0.114], device=face_pixels.device)
        grey = (face_pixels.float() @ weights).unsqueeze(1)
        grey = (grey - grey.mean((2, 3), keepdim=True)) / (grey.std((2, 3), keepdim=True) + 8.0)
        grey = grey.to(next(self.stem.parameters()).dtype, memory_format=torch.channels_last)  # twice as fast on CPU
        x = self.stages(self.stem(grey))
        return torch.relu(self.norm(x)).mean((2, 3))
