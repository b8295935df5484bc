from contextlib import nullcontext

import numpy as np
import pytest
from PIL import Image

from emollm.errors import ClipError
from emollm.media.clip import Limits, read_clip


def checker(width=64, height=48):
    image = np.zeros((height, width, 3), np.uint8)
    image[: height // 2, : width // 2] = (250, 40, 40)
    image[height // 2 :, width // 2 :] = (40, 40, 250)
    return image


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp", "a.bmp", "a.mp4"])
def test_picture_formats_are_told_by_content(tmp_path, name):
    path = tmp_path / name
    Image.fromarray(checker()).save(path, format="PNG" if name == "a.mp4" else None)
    clip = read_clip(path)
    assert (clip.kind, clip.duration_s, clip.width, clip.height) == ("image", 0.0, 64, 48)
    assert clip.has_video
    assert clip.waveform is None
    (frame,) = clip.frames()
    assert frame.time_s == 0.0
    assert frame.image.dtype == np.uint8
    assert np.abs(frame.image.astype(int) - checker()).mean() < 12


def test_exif_orientation(tmp_path):
    picture = Image.fromarray(checker())
    exif = picture.getexif()
    exif[0x0112] = 6  # stored lying on its side: turn it clockwise to show it
    picture.save(tmp_path / "a.png", exif=exif)
    (frame,) = read_clip(tmp_path / "a.png").frames()
    np.testing.assert_array_equal(frame.image, np.rot90(checker(), -1))


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGBA", "CMYK", "1", "I;16"])
def test_every_mode_becomes_rgb(tmp_path, mode):
    if mode == "I;16":
        picture = Image.fromarray((checker()[..., 0].astype(np.uint16)) << 8)
    else:
        picture = Image.fromarray(checker()).convert(mode)
    path = tmp_path / ("a.jpg" if mode == "CMYK" else "a.png")
    picture.save(path)
    (frame,) = read_clip(path).frames()
    assert frame.image.shape == (48, 64, 3)
    assert int(frame.image[5, 5, 0]) > int(frame.image[5, 60, 0]) + 20


@pytest.mark.parametrize("name", ["a.jpg", "a.png"])
def test_large_pictures_are_shrunk(tmp_path, name):
    Image.fromarray(checker(4000, 2000)).save(tmp_path / name)
    clip = read_clip(tmp_path / name)
    (frame,) = clip.frames()
    assert frame.image.shape == (640, 1280, 3)
    assert (clip.width, clip.height) == (1280, 640)


def test_too_many_pixels(tmp_path):
    Image.fromarray(checker()).save(tmp_path / "a.png")
    with pytest.raises(ClipError, match="64 x 48 pixels"):
        read_clip(tmp_path / "a.png", limits=Limits(image_pixels=3000))


def test_webp_may_have_half_as_many_pixels(tmp_path):
    for name, refused in (("a.png", False), ("a.webp", True)):
        Image.new("RGB", (50, 40)).save(tmp_path / name)
        with pytest.raises(ClipError, match="50 x 40 pixels") if refused else nullcontext():
            read_clip(tmp_path / name, limits=Limits(image_pixels=3000))


def test_truncated_picture(tmp_path):
    path = tmp_path / "a.png"
    noise = np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(ClipError, match="damaged"):
        read_clip(path)


def test_animated_picture_says_that_it_is_cut_to_one_frame(tmp_path):
    frames = [Image.fromarray(np.full((32, 32, 3), level, np.uint8)) for level in (0, 200)]
    frames[0].save(tmp_path / "a.webp", save_all=True, append_images=frames[1:])
    clip = read_clip(tmp_path / "a.webp")
    assert len(list(clip.frames())) == 1
    assert any("first frame" in warning for warning in clip.warnings)
