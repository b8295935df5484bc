"""A face tower that starts from a MobileNet whose norms were folded into its convolutions."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from emollm.errors import BadArgumentError
from emollm.model.face_encoder import FaceEncoder, grey_pixels

PIXEL_SPREAD = 64.0  # the network was trained on pixels about their mean; the tower's have a deviation of 1


@torch.no_grad()
def start_from_backbone(tower: FaceEncoder, file: Path, face_pixels: Tensor) -> None:
    """Give the tower the convolutions of ``mobilenet.safetensors``, and norms that leave its output as it is.

    Args:
        face_pixels: ``(N, S, S, 3)`` uint8, some training crops; each norm starts with the mean and deviation that its
            channels have on these, so that training in batches does not change the network at once.

    Raises:
        BadArgumentError: the network in the file has other widths than the tower.
    """
    weights = load_file(file)
    weights["stem.weight"] = weights["stem.weight"] * PIXEL_SPREAD
    x = grey_pixels(face_pixels)
    for name, convolution, norm in _layers(tower):
        kernel = weights.get(f"{name}.weight")
        if kernel is None or kernel.shape != convolution.weight.shape:
            raise BadArgumentError(f"The tower has other widths than the network in {file.name}.")
        convolution.weight.copy_(kernel)
        x = convolution(x)
        mean, variance = x.mean((0, 2, 3)), x.var((0, 2, 3), correction=0)
        assert norm.running_mean is not None
        assert norm.running_var is not None
        norm.running_mean.copy_(mean)
        norm.running_var.copy_(variance)
        norm.weight.copy_((variance + norm.eps).sqrt())
        norm.bias.copy_(mean + weights[f"{name}.bias"])
        x = nn.functional.relu6(x + weights[f"{name}.bias"].view(1, -1, 1, 1))


def _layers(tower: FaceEncoder) -> Iterator[tuple[str, nn.Conv2d, nn.BatchNorm2d]]:
    yield "stem", tower.stem, tower.stem_norm
    for i, block in enumerate(tower.blocks):
        yield f"blocks.{i}.depthwise", block.depthwise, block.norm1  # type: ignore[misc]
        yield f"blocks.{i}.pointwise", block.pointwise, block.norm2  # type: ignore[misc]
