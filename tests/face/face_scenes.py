"""Scenes made of portraits."""

from collections.abc import Iterator

import cv2
import numpy as np

from emollm.media.clip import Frame

HEIGHT, WIDTH = 360, 640


def scene(*placings: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """A grey picture with portraits warped into it by ``(2, 3)`` matrices, later ones in front."""
    picture = np.full((HEIGHT, WIDTH, 3), 190, np.uint8)
    for portrait, matrix in placings:
        inside = cv2.warpAffine(np.ones(portrait.shape[:2], np.uint8), matrix, (WIDTH, HEIGHT))
        warped = cv2.warpAffine(portrait, matrix, (WIDTH, HEIGHT), borderMode=cv2.BORDER_REPLICATE)
        picture[inside > 0] = warped[inside > 0]
    return picture


def placing(x: float, y: float, scale: float = 1.0, degrees: float = 0.0, side: int = 260) -> np.ndarray:
    """Matrix that puts the middle of a portrait at (x, y), scaled, and turned counter-clockwise."""
    matrix = cv2.getRotationMatrix2D((side / 2, side / 2), degrees, scale)
    matrix[:, 2] += (x - side / 2, y - side / 2)
    return matrix


def frames_of(pictures: list[np.ndarray], fps: float = 5.0) -> Iterator[Frame]:
    """The pictures as sampled frames, one by one."""
    for number, picture in enumerate(pictures):
        yield Frame(number / fps, picture)
