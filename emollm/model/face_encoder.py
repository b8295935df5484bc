"""The face tower: crops and blendshapes of a face, frame by frame, to features, AUs, expression, valence, arousal."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.utils import ModelOutput

from emollm.emotions import EXPRESSIONS
from emollm.face.detect import MIRRORED
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


class Separable(nn.Module):
    """Depthwise and pointwise convolution, the block of MobileNet (Howard et al. 2017, https://arxiv.org/abs/1704.04861)."""

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.depthwise = nn.Conv2d(inputs, inputs, 3, stride, 1, groups=inputs, bias=False)
        self.norm1 = nn.BatchNorm2d(inputs)
        self.pointwise = nn.Conv2d(inputs, outputs, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.relu6(self.norm1(self.depthwise(x)))
        return nn.functional.relu6(self.norm2(self.pointwise(x)))


class FaceEncoder(PreTrainedModel):
    """Per-frame face tower.

    Pixels are turned grey and standardised per crop, so light, skin tone and colour cast carry no information; the
    blendshapes say where the mesh moved. In use a face may be read as it is and mirrored, which are averaged; what is
    measured does not depend on the side then. Frames without blendshapes (NaN rows) use a learned stand-in instead.
    """

    config_class = FaceEncoderConfig
    main_input_name = "face_pixels"
    base_model_prefix = "face_tower"

    def __init__(self, config: FaceEncoderConfig):
        super().__init__(config)
        inputs = config.widths[0] // 2
        self.stem = nn.Conv2d(1, inputs, 3, 2, 1, bias=False)
        self.stem_norm = nn.BatchNorm2d(inputs)
        blocks: list[Separable] = []
        for outputs in config.widths:
            blocks.append(Separable(inputs, outputs, stride=2 if blocks and outputs > inputs else 1))
            inputs = outputs
        self.blocks = nn.Sequential(*blocks)
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
        hidden, units, logits, coordinates = self._read(face_pixels, blendshapes)
        if self.config.mirrored and not self.training:
            twin = self._read(face_pixels.flip(2), blendshapes[:, MIRRORED])
            hidden, units, logits, coordinates = (
                (one + other) / 2 for one, other in zip((hidden, units, logits, coordinates), twin)
            )
        return FaceEncoderOutput(
            features=torch.cat([hidden, units, logits.softmax(-1), coordinates], dim=-1),
            action_units=MAX_INTENSITY * units,
            expression_logits=logits,
            valence_arousal=coordinates,
        )

    def _read(self, face_pixels: Tensor, blendshapes: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Fused hidden state, AUs / 5, expression logits, valence and arousal."""
        pixels = self._encode_pixels(face_pixels)
        known = ~blendshapes.isnan().any(-1, keepdim=True)
        shapes = self.blendshapes(torch.nan_to_num(blendshapes).to(pixels.dtype))
        shapes = torch.where(known, shapes, self.no_blendshapes.to(shapes.dtype))
        hidden = self.fuse(torch.cat([pixels, shapes], dim=-1))
        units = torch.sigmoid(self.au_head(hidden))
        return hidden, units, self.expression_head(hidden), torch.tanh(self.va_head(hidden))

    def _encode_pixels(self, face_pixels: Tensor) -> Tensor:
        """``(N, S, S, 3)`` uint8 -> ``(N, widths[-1])``."""
        size = self.config.image_size
        if face_pixels.dtype != torch.uint8 or face_pixels.shape[1:] != (size, size, 3):
            raise ValueError(
                f"face_pixels must be uint8 of shape (N, {size}, {size}, 3), "
                f"not {face_pixels.dtype} of shape {tuple(face_pixels.shape)}"
            )
        grey = grey_pixels(face_pixels)
        grey = grey.to(self.stem.weight.dtype, memory_format=torch.channels_last)  # twice as fast on CPU
        return self.blocks(nn.functional.relu6(self.stem_norm(self.stem(grey)))).mean((2, 3))


def grey_pixels(face_pixels: Tensor) -> Tensor:
    """``(N, S, S, 3)`` uint8 -> ``(N, 1, S, S)``, each crop with mean 0 and deviation 1 (less if nearly flat)."""
    weights = torch.tensor([0.299, 0.587, 0.114], device=face_pixels.device)
    grey = (face_pixels.float() @ weights).unsqueeze(1)
    return (grey - grey.mean((2, 3), keepdim=True)) / (grey.std((2, 3), keepdim=True) + 8.0)
