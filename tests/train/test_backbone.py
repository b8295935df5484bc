import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from emollm.errors import BadArgumentError
from emollm.model.configuration_emollm import FaceEncoderConfig
from emollm.model.face_encoder import FaceEncoder, grey_pixels
from emollm.train.backbone import PIXEL_SPREAD, start_from_backbone

WIDTHS = [8, 16, 16]


@pytest.fixture
def network(tmp_path):
    """A network without norms, and its file."""
    torch.manual_seed(0)
    state, inputs = {"stem.weight": torch.randn(4, 1, 3, 3) / 100, "stem.bias": torch.randn(4) / 10}, 4
    for i, outputs in enumerate(WIDTHS):
        state |= {
            f"blocks.{i}.depthwise.weight": torch.randn(inputs, 1, 3, 3) / 3,
            f"blocks.{i}.depthwise.bias": torch.randn(inputs) / 10,
            f"blocks.{i}.pointwise.weight": torch.randn(outputs, inputs, 1, 1) / inputs**0.5,
            f"blocks.{i}.pointwise.bias": torch.randn(outputs) / 10,
        }
        inputs = outputs
    save_file(state, tmp_path / "mobilenet.safetensors")
    return state, tmp_path / "mobilenet.safetensors"


def plain(state, pixels):
    """The same network written down again: strides 2 in the stem and where it widens, but for the first block."""
    x = nn.functional.relu6(nn.functional.conv2d(grey_pixels(pixels) * PIXEL_SPREAD, *bias(state, "stem"), 2, 1))
    for i, stride in enumerate((1, 2, 1)):
        x = nn.functional.conv2d(x, *bias(state, f"blocks.{i}.depthwise"), stride, 1, groups=x.shape[1])
        x = nn.functional.conv2d(nn.functional.relu6(x), *bias(state, f"blocks.{i}.pointwise"))
        x = nn.functional.relu6(x)
    return x.mean((2, 3))


def bias(state, name):
    return state[f"{name}.weight"], state[f"{name}.bias"]


@pytest.mark.parametrize("training", [False, True])
def test_the_tower_starts_as_the_network_was(network, training):
    """In training too: the norms were set by the statistics of the very crops."""
    state, file = network
    pixels = torch.randint(0, 256, (64, 24, 24, 3), dtype=torch.uint8)
    tower = FaceEncoder(FaceEncoderConfig(image_size=24, widths=WIDTHS, hidden_size=16)).train(training)
    start_from_backbone(tower, file, pixels)
    with torch.no_grad():
        torch.testing.assert_close(tower._encode_pixels(pixels), plain(state, pixels), rtol=1e-3, atol=1e-3)


def test_a_network_of_other_widths_is_refused(network):
    tower = FaceEncoder(FaceEncoderConfig(image_size=24, widths=[8, 16, 32], hidden_size=16))
    with pytest.raises(BadArgumentError, match="other widths"):
        start_from_backbone(tower, network[1], torch.zeros(2, 24, 24, 3, dtype=torch.uint8))
