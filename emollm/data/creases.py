"""Folds, furrows and bulges that facial actions press into the skin, as a height map over the face at rest.

Plain blendshapes move the skin but do not wrinkle it, so raised or lowered brows and raised cheeks would hardly show.
Which fold belongs to which Action Unit follows the appearance changes listed in the FACS manual (Ekman, Friesen &
Hager 2002). The maps are drawn once a head; a frame is a weighted sum of them.
"""

from collections.abc import Mapping
from itertools import pairwise

import cv2
import numpy as np
from scipy.ndimage import gaussian_filter

from emollm.data.head import Array

# Strength (0-1) of the actions on the subject's right and left side.
Sides = Mapping[str, tuple[float, float]]

_X, _Y = (-0.85, 0.85), (-1.45, 0.85)  # what the maps cover, in distances of the outer eye corners from the nasion
_STEP = 0.005
_DEPTH = 0.016  # of a fold of height 1, in the same unit
_EARLY = 0.65  # skin folds early: a trace of an action presses more than its share
# Folds that age leaves, and how deep.
_STAY = {"AU1": 0.7, "AU2": 0.6, "AU4": 0.8, "AU6": 0.5, "nasolabial": 1.0, "AU15": 0.6}


class Creases:
    """Height maps of one head, from the places of its 68 landmarks (68, 3) in eye distances from the nasion."""

    def __init__(self, points: Array) -> None:
        self.rows = round((_Y[1] - _Y[0]) / _STEP)
        self.columns = round((_X[1] - _X[0]) / _STEP)
        x = np.linspace(*_X, self.columns, dtype=np.float32)[None]
        y = np.linspace(*_Y, self.rows, dtype=np.float32)[:, None]
        self._left = 1 / (1 + np.exp(-x / 0.03))  # 0 on the subject's right side, 1 on the left
        maps = _draw(np.abs(x), y, points)
        self.names = tuple(maps)
        self.maps = np.stack([np.broadcast_to(each, (self.rows, self.columns)) for each in maps.values()])

    def relief(self, sides: Sides, creases: float, wrinkles: float) -> Array:
        """(rows, columns, 3) float32: darkness 0-1 of the folds, and slope along x and y, under these actions."""
        height = np.zeros((self.rows, self.columns), np.float32)
        for name, each in zip(self.names, self.maps):
            right, left = sides.get(name, (0.0, 0.0))
            if name == "nasolabial":  # shared by several actions
                pairs = [np.multiply(sides.get(au, (0, 0)), share) for au, share in _NASOLABIAL.items()]
                right, left = np.max(pairs, axis=0)
            rest = wrinkles * _STAY.get(name, 0.0)
            right, left = (rest + (1 - rest) * creases * side**_EARLY for side in (right, left))
            if right or left:
                height += each * (right + (left - right) * self._left)
        slope_y, slope_x = np.gradient(height * _DEPTH, _STEP)
        return np.stack([np.clip(height, 0, 1), slope_x, slope_y], axis=-1).astype(np.float32)

    def sample(self, relief: Array, place: Array, seed: int) -> Array:
        """Values (N, 3) of ``relief`` at places (N, 3); ``seed`` bends the folds a little, differently a person."""
        bend = np.random.default_rng(seed).uniform(0, 6.3, 4)
        x = place[:, 0] + 0.012 * np.sin(9 * place[:, 1] + bend[0]) + 0.006 * np.sin(23 * place[:, 1] + bend[1])
        y = place[:, 1] + 0.014 * np.sin(7 * place[:, 0] + bend[2]) + 0.006 * np.sin(19 * place[:, 0] + bend[3])
        at = np.stack([(x - _X[0]) / _STEP, (y - _Y[0]) / _STEP]).astype(np.float32)
        folded = np.pad(at, ((0, 0), (0, -len(x) % 1024))).reshape(2, -1, 1024)  # OpenCV takes no row over 32767
        values = cv2.remap(
            relief, folded[0], folded[1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=(0, 0, 0)
        )
        values = np.asarray(values, np.float32).reshape(-1, 3)[: len(x)]
        return values * np.clip((place[:, 2:] + 0.55) / 0.1, 0, 1)  # none on the ears and the back of the head


_NASOLABIAL = {"AU9": 0.45, "AU10": 0.9, "AU12": 1.0, "AU6": 0.2}


def _draw(x: Array, y: Array, points: Array) -> dict[str, Array]:
    """Height maps over ``x`` (1, columns) >= 0 and ``y`` (rows, 1): positive in a fold, negative on a bulge."""

    def at(landmark: int) -> tuple[float, float]:
        return abs(float(points[landmark, 0])), float(points[landmark, 1])

    brow = float(points[17:27, 1].mean())
    (corner, eye), (inner, _) = at(36), at(39)
    (wing, nostril), (mouth, lips), (_, lower_lip), (_, chin) = at(31), at(48), at(57), at(8)
    middle = (corner + inner) / 2

    forehead = _rise(y, brow + 0.10, 0.03) * _rise(-y, -brow - 0.50, 0.04)
    lines = np.clip(np.cos((y - brow - 0.03 * np.cos(4 * x)) * 2 * np.pi / 0.125), 0, 1) ** 2
    # Frown: two furrows between the brows, a cross one at the root of the nose, and the bulges of the muscle beside.
    frown = _hill(x - 0.055 - 0.10 * (y - brow), 0.022) * _hill(y - brow - 0.01, 0.14, 4)
    frown = frown + 0.7 * _hill(y - brow + 0.15, 0.022) * _hill(x, 0.09, 4)
    frown = frown - 1.6 * _hill(x - 0.15, 0.07) * _hill(y - brow - 0.07, 0.06)
    frown = frown + 0.35 * _hill(x, 0.11, 4) * _hill(y - brow + 0.04, 0.11, 4)
    # Raised cheek: rays at the outer corner, the furrow under the lower lid, the cheek pushed up and out below it.
    away, angle = np.hypot(x - corner, y - eye), np.arctan2(y - eye, x - corner + 0.04)
    rays = np.clip(np.cos(angle * 9), 0, 1) ** 2 * (x > corner - 0.01) * _hill(away - 0.10, 0.07, 4)
    furrow = _hill(y - eye + 0.16 - 0.55 * (x - middle) ** 2, 0.025) * _hill(x - middle - 0.03, 0.19, 4)
    pouch = -2.5 * _hill(np.hypot(x - middle - 0.05, 1.3 * (y - eye + 0.33)), 0.14)
    cheek = 1.1 * rays + 1.2 * furrow + 1.4 * pouch
    # Tightened lids: a pouch close under the lower lid.
    lid = 1.2 * _hill(y - eye + 0.085 - 0.8 * (x - middle) ** 2, 0.017) * _hill(x - middle, 0.13, 4)
    lid = lid - 1.2 * _hill(y - eye + 0.05 - 0.8 * (x - middle) ** 2, 0.02) * _hill(x - middle, 0.12, 4)
    # Wrinkled nose: oblique lines on both flanks, one across the root.
    flank = np.clip(np.cos((y + 0.7 * x) * 2 * np.pi / 0.085), 0, 1) ** 2 * _hill(x - 0.06, 0.085, 4)
    sneer = flank * _hill(y + 0.09, 0.15, 4) + 0.8 * _hill(y - 0.02, 0.022) * _hill(x, 0.10, 4)
    nose_cheek = _along(x, y, [(wing + 0.05, nostril + 0.20), (wing + 0.10, nostril + 0.04)], 0.022)
    # From beside the nose to beside the mouth.
    fold = [(wing + 0.05, nostril + 0.08), (wing + 0.15, nostril - 0.08), (mouth + 0.12, lips + 0.05)]
    nasolabial = 1.0 * _along(x, y, fold, 0.028) - 1.2 * _along(x, y, [(a + 0.08, b + 0.04) for a, b in fold], 0.06)
    dimple = _along(x, y, [(mouth + 0.055, lips + 0.06), (mouth + 0.07, lips - 0.05)], 0.03)
    dimple = dimple - 1.2 * _hill(np.hypot(x - mouth - 0.13, y - lips), 0.055)
    droop = _along(x, y, [(mouth + 0.01, lips - 0.02), (mouth + 0.06, lips - 0.17)], 0.024)
    droop = droop - 0.9 * _hill(np.hypot(x - mouth - 0.12, y - lips + 0.1), 0.06)
    # Chin: a boss with pits, and the groove over it bent upwards.
    boss_y = 0.45 * lower_lip + 0.55 * chin
    pits = gaussian_filter(np.random.default_rng(0).normal(size=np.broadcast_shapes(x.shape, y.shape)), 0.014 / _STEP)
    pits = pits / pits.std()
    boss = _hill(np.hypot(x, y - boss_y), 0.14, 4)
    chin_up = 0.45 * pits * boss - 1.6 * _hill(np.hypot(x, y - boss_y), 0.11)
    chin_up = chin_up + 0.9 * _hill(y - lower_lip + 0.075 + 0.9 * x**2, 0.025) * _hill(x, 0.17, 4)
    # Stretched lips: vertical folds beside the mouth; pressed lips: thin ones over and under, and a bulge around.
    stretch = sum(
        _along(x, y, [(mouth + d, lips + 0.07), (mouth + d + 0.02, lips - 0.14)], 0.018) for d in (0.1, 0.19)
    )
    upper_lip = float(points[51, 1])
    press = 0.8 * _hill(y - upper_lip - 0.035, 0.02) * _hill(x, mouth * 0.9, 4)
    press = press + 0.8 * _hill(y - lower_lip + 0.035, 0.02) * _hill(x, mouth * 0.8, 4)
    press = press - 1.0 * _hill(np.hypot(x - mouth - 0.03, y - lips), 0.05)
    return {
        "AU1": 0.9 * lines * forehead * _hill(x, 0.30, 4),
        "AU2": 0.85 * lines * forehead * _hill(x - 0.42, 0.17, 4),
        "AU4": frown,
        "AU6": cheek,
        "AU7": lid,
        "AU9": sneer + 0.8 * nose_cheek,
        "nasolabial": nasolabial,
        "AU14": dimple,
        "AU15": droop,
        "AU17": chin_up,
        "AU20": 0.7 * stretch,
        "AU24": press,
    }


def _hill(distance: Array, width: float, power: int = 2) -> Array:
    return np.exp(-(np.abs(distance / width) ** power))


def _rise(value: Array, start: float, soft: float) -> Array:
    return 1 / (1 + np.exp(-np.clip((value - start) / soft * 4, -30, 30)))


def _along(x: Array, y: Array, line: list[tuple[float, float]], width: float) -> Array:
    """A hill of this width along a polyline."""
    away = np.full(np.broadcast_shapes(x.shape, y.shape), np.inf, np.float32)
    for (x0, y0), (x1, y1) in pairwise(line):
        length = (x1 - x0) ** 2 + (y1 - y0) ** 2
        share = np.clip(((x - x0) * (x1 - x0) + (y - y0) * (y1 - y0)) / length, 0, 1)
        away = np.minimum(away, np.hypot(x - x0 - share * (x1 - x0), y - y0 - share * (y1 - y0)))
    return _hill(away, width)
