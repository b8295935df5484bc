"""Still pictures (JPEG, PNG, WebP, BMP) through Pillow, which knows a picture's size before it decodes any of it."""

import warnings
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from emollm.errors import ClipError
from emollm.media.decode import MAX_SIDE
from emollm.media.guard import Limits, open_file


@dataclass
class Still:
    """A picture, (H, W, 3) uint8 RGB, upright, long side at most 1280 px."""

    image: np.ndarray
    warnings: list[str] = field(default_factory=list)


def read_still(path: Path, limits: Limits) -> Still | None:
    """Read a picture, or return None if the file is of another kind.

    Raises ClipError if the file cannot be opened, the picture is damaged, or it has more pixels than the limit.
    """
    with open_file(path, limits) as file, warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our own, lower limit is checked below
        try:
            picture = Image.open(file, formats=("JPEG", "PNG", "WEBP", "BMP"))
        except UnidentifiedImageError:
            return None
        except Image.DecompressionBombError as error:
            raise ClipError(
                f"{path} has more pixels than the limit of {limits.image_pixels / 1e6:.0f} million."
            ) from error
        except (OSError, ValueError, SyntaxError) as error:
            raise ClipError(f"{path} is a damaged picture.") from error
        with picture:
            # Pillow's WebP decoder holds 15 bytes a pixel, the way from any other format to RGB at most 8.
            limits.check_image(path, *picture.size, share=0.5 if picture.format == "WEBP" else 1.0)
            still = Still(_upright_rgb(path, picture))
            if getattr(picture, "n_frames", 1) > 1 and picture.format in ("PNG", "WEBP"):
                still.warnings.append("Only the first frame of the animated picture is used.")
            return still


def _upright_rgb(path: Path, picture: Image.Image) -> np.ndarray:
    try:
        picture.draft("RGB", (MAX_SIDE, MAX_SIDE))  # a large JPEG is shrunk while it is decoded
        if picture.mode.startswith("I"):  # 16-bit grey: keep the high byte, a plain conversion would clip to white
            picture = ImageOps.exif_transpose(picture)
            picture = Image.fromarray((np.asarray(picture) >> 8).clip(0, 255).astype(np.uint8))
        if picture.mode != "RGB":  # every step that is left out here is a copy of up to 0.3 GB
            picture = picture.convert("RGB")
        picture.thumbnail((MAX_SIDE, MAX_SIDE))
        return np.asarray(ImageOps.exif_transpose(picture))
    except (OSError, ValueError, SyntaxError) as error:
        raise ClipError(f"{path} is a damaged picture.") from error
