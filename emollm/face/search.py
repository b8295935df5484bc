"""Finding faces of every size: the landmarker on the whole picture, in tiles, or near a place.

MediaPipe's short-range detector shrinks what it is given to 128 px, so on a whole frame it misses faces narrower than
about an eighth of the frame (measured: eight faces in a 4 x 2 grid, none found). In tiles of 0.6 of the long side it
finds them down to about a fourteenth.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from PIL import Image

from emollm.face.detect import Detection

Landmarker = Callable[[np.ndarray], list[Detection]]

_TILE = 0.6  # of the long side
_NEAR = 1.2  # margin around a known face on each side, in face sizes
_SMALL_PX = 160  # pictures with a shorter long side are enlarged to ENLARGED_PX first
ENLARGED_PX = 192


def look(landmarker: Landmarker, image: np.ndarray) -> list[Detection]:
    """Faces of a whole picture (``(H, W, 3)`` uint8 RGB), each once; a small picture is enlarged first."""
    height, width = image.shape[:2]
    if max(height, width) >= _SMALL_PX:
        return merge([], landmarker(image))
    factor = ENLARGED_PX / max(height, width)
    return merge([], [placed(face, 1 / factor) for face in landmarker(enlarge(image, factor))])


def look_in_tiles(landmarker: Landmarker, image: np.ndarray, known: list[Detection]) -> list[Detection]:
    """``known`` faces and further ones found in overlapping tiles, in pixels of the whole picture; each face once."""
    height, width = image.shape[:2]
    # Paint over the known faces, so that no time goes into their landmarks again.
    image = image.copy()
    for face in known:
        x0, y0, x1, y1 = np.maximum(face.box, 0).astype(int)
        image[y0:y1, x0:x1] = 127
    side = round(_TILE * max(height, width))
    found = []
    for top in _starts(height, side):
        for left in _starts(width, side):
            for face in _look_inside(landmarker, image, left, top, left + side, top + side):
                # Distance from the face's centre to the nearest border of its tile: the further, the less it is cut.
                x, y = centre(face.box) - (left, top)
                found.append((min(x, y, side - x, side - y), face))
    found.sort(key=lambda item: -item[0])
    return merge(known, [face for _, face in found])


def look_near(
    landmarker: Landmarker, image: np.ndarray, boxes: list[np.ndarray], known: list[Detection]
) -> list[Detection]:
    """``known`` faces and further ones around each box (x0, y0, x1, y1), in pixels of the whole picture."""
    faces = known
    for box in boxes:
        x, y = centre(box)
        reach = (0.5 + _NEAR) * _size(box)
        faces = merge(
            faces, _look_inside(landmarker, image, int(x - reach), int(y - reach), int(x + reach), int(y + reach))
        )
    return faces


def merge(known: list[Detection], new: list[Detection]) -> list[Detection]:
    """``known`` and those of ``new`` that are not one of them (or of each other) seen again."""
    faces = list(known)
    for face in new:
        size = _size(face.box)
        if all(
            np.hypot(*(centre(face.box) - centre(other.box))) > 0.35 * min(size, _size(other.box))
            and overlap(face.box, other.box) < 0.5
            for other in faces
        ):
            faces.append(face)
    return faces


def placed(face: Detection, scale: float, left: float = 0.0, top: float = 0.0) -> Detection:
    """The same face in pixels of the picture that its picture was cut from (scaled first, then shifted)."""
    shift = np.array([left, top, 0.0], np.float32)
    return Detection(
        box=face.box * np.float32(scale) + np.tile(shift[:2], 2),
        landmarks=face.landmarks * np.float32(scale) + shift,
        blendshapes=face.blendshapes,
        pose=face.pose,
    )


def enlarge(image: np.ndarray, factor: float) -> np.ndarray:
    """The picture ``factor`` times as large, bicubic (Pillow's kernel, which overshoots less than OpenCV's)."""
    height, width = image.shape[:2]
    size = (max(1, round(factor * width)), max(1, round(factor * height)))
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))


def centre(box: np.ndarray) -> np.ndarray:
    """Middle of a box, ``(2,)`` x, y."""
    return (box[:2] + box[2:]) / 2


def area(box: np.ndarray) -> float:
    """Area of a box in square pixels, 0 if it is empty."""
    return float(np.prod(np.maximum(box[2:] - box[:2], 0)))


def intersection(a: np.ndarray, b: np.ndarray) -> float:
    """Area in square pixels that two boxes share."""
    return area(np.concatenate([np.maximum(a[:2], b[:2]), np.minimum(a[2:], b[2:])]))


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    """Intersection over union of two boxes, in [0, 1]."""
    shared = intersection(a, b)
    return shared / max(area(a) + area(b) - shared, 1e-6)


def _size(box: np.ndarray) -> float:
    return float(max(box[2] - box[0], box[3] - box[1]))


def _look_inside(landmarker: Landmarker, image: np.ndarray, x0: int, y0: int, x1: int, y1: int) -> list[Detection]:
    height, width = image.shape[:2]
    x0, y0, x1, y1 = max(x0, 0), max(y0, 0), min(x1, width), min(y1, height)
    if x1 - x0 < 8 or y1 - y0 < 8:
        return []
    return [placed(face, 1.0, x0, y0) for face in look(landmarker, image[y0:y1, x0:x1])]


def _starts(length: int, side: int) -> Iterator[int]:
    """Where tiles of ``side`` start so that they cover ``length`` and overlap by at least a third."""
    if length <= side:
        return iter([0])
    count = 1 + int(np.ceil((length - side) / (side * 2 / 3)))
    return iter(np.linspace(0, length - side, count).round().astype(int).tolist())
