import pytest
import torch
from torch.testing import assert_close

from emollm.face.detect import MIRRORED
from emollm.model.configuration_emollm import FaceEncoderConfig
from emollm.model.face_encoder import FaceEncoder


@pytest.fixture(scope="module")
def tower():
    torch.manual_seed(0)
    tower = FaceEncoder(FaceEncoderConfig(image_size=24, widths=[4, 8], hidden_size=16)).eval()
    tower.no_blendshapes.data.fill_(0.5)
    return tower


@pytest.fixture(scope="module")
def frames():
    torch.manual_seed(1)
    return torch.randint(0, 256, (5, 24, 24, 3), dtype=torch.uint8), torch.rand(5, 52)


def test_shapes_and_ranges(tower, frames):
    with torch.no_grad():
        out = tower(*frames)
    assert out.features.shape == (5, tower.config.feature_size)
    assert out.action_units.shape == (5, 17)
    assert ((out.action_units >= 0) & (out.action_units <= 5)).all()
    assert out.expression_logits.shape == (5, 8)
    assert (out.valence_arousal.abs() <= 1).all()
    readings = [out.action_units / 5, out.expression_logits.softmax(-1), out.valence_arousal]
    assert_close(out.features[:, -tower.config.num_readings :], torch.cat(readings, dim=-1))


@pytest.mark.parametrize(
    "pixels",
    [
        torch.zeros(2, 24, 24, 3),
        torch.zeros(2, 24, 24, 3, dtype=torch.int64),
        torch.zeros(2, 48, 48, 3, dtype=torch.uint8),
        torch.zeros(2, 3, 24, 24, dtype=torch.uint8),
        torch.zeros(2, 24, 24, 1, dtype=torch.uint8),
        torch.zeros(24, 24, 3, dtype=torch.uint8),
    ],
    ids=lambda pixels: f"{pixels.dtype} {tuple(pixels.shape)}",
)
def test_pixels_of_another_kind_are_refused(tower, pixels):
    with pytest.raises(ValueError, match="face_pixels must be uint8 of shape"):
        tower(pixels, torch.zeros(len(pixels), 52))


@pytest.mark.parametrize("missing", [slice(None), slice(7, 8)], ids=["whole row", "one value"])
def test_frames_without_blendshapes_use_the_stand_in(tower, frames, missing):
    pixels, shapes = frames
    unknown = shapes.clone()
    unknown[2, missing] = float("nan")
    other = shapes.clone()
    other[2] = 0.9
    other[2, missing] = float("nan")
    with torch.no_grad():
        known, blind, also_blind = (tower(pixels, values).features for values in (shapes, unknown, other))
    assert blind.isfinite().all()
    rest = [0, 1, 3, 4]
    assert_close(known[rest], blind[rest])
    assert (known[2] - blind[2]).abs().max() > 1e-4
    assert_close(blind[2], also_blind[2])  # half a row of blendshapes says nothing either


def test_light_and_contrast_do_not_matter(tower, frames):
    pixels, shapes = frames
    flat = (pixels.float() * 0.5 + 40).to(torch.uint8)
    with torch.no_grad():
        bright, dim = tower(pixels, shapes).features, tower(flat, shapes).features
    assert (bright - dim).abs().max() < 0.05


def test_each_frame_is_read_alone(tower, frames):
    pixels, shapes = frames
    with torch.no_grad():
        together = tower(pixels, shapes).features
        alone = torch.cat([tower(pixels[i : i + 1], shapes[i : i + 1]).features for i in range(5)])
    assert_close(together, alone, rtol=1e-4, atol=1e-5)


def test_a_blank_crop_is_read_without_nan(tower):
    with torch.no_grad():
        assert tower(torch.zeros(1, 24, 24, 3, dtype=torch.uint8), torch.zeros(1, 52)).features.isfinite().all()


def test_save_and_load(tower, frames, tmp_path):
    tower.save_pretrained(tmp_path)
    with torch.no_grad():
        assert torch.equal(FaceEncoder.from_pretrained(tmp_path).eval()(*frames).features, tower(*frames).features)


def test_a_mirrored_reading_is_the_mean_of_both_sides(tower, frames):
    pixels, shapes = frames
    shapes = shapes.clone()
    shapes[1] = float("nan")
    sides = (pixels, shapes), (pixels.flip(2), shapes[:, MIRRORED])
    with torch.no_grad():
        one, other = (tower(*side) for side in sides)
        tower.config.mirrored = True
        try:
            both, turned = (tower(*side) for side in sides)
        finally:
            tower.config.mirrored = False
    assert_close(both.features, turned.features)
    assert_close(both.expression_logits, (one.expression_logits + other.expression_logits) / 2)
    assert_close(both.action_units, (one.action_units + other.action_units) / 2)
    assert (both.features - one.features).abs().max() > 1e-4
