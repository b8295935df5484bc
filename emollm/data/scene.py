"""What changes from picture to picture and is not the person: pose, camera, light, background, damage."""

from dataclasses import dataclass

import cv2
import numpy as np

from emollm.data.head import Array


@dataclass(frozen=True)
class Pose:
    """Head rotation in degrees, signs as in :mod:`emollm.face.detect`.

    yaw > 0 turns to the subject's left, pitch > 0 looks down, roll > 0 tilts counter-clockwise in the picture.
    """

    yaw: float
    pitch: float
    roll: float

    def matrix(self) -> Array:
        yaw, pitch, roll = np.radians([self.yaw, self.pitch, self.roll])
        c, s = np.cos(yaw), np.sin(yaw)
        turn = np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])
        c, s = np.cos(pitch), np.sin(pitch)
        nod = np.array([[1, 0, 0], [0, c, -s], [0, s, c]])
        c, s = np.cos(roll), np.sin(roll)
        tilt = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
        return (tilt @ nod @ turn).astype(np.float32)


@dataclass(frozen=True)
class Scene:
    """One picture's circumstances; colours of light are linear RGB."""

    pose: Pose
    distance: float  # camera to face in face widths: near ones distort
    face_share: float  # face width as a share of the picture's
    offset: Array  # (2,) of the face's centre from the middle, in shares of the picture
    light: Array  # (3,) towards the key light
    key: Array
    rim: Array  # colour of a second light, from the other side and behind
    ambient: Array
    gloss: float
    blur: float  # px
    noise: float  # 0-1 scale
    coarse: float  # how many times fewer pixels the camera had, each way
    quality: int  # JPEG
    seed: int  # background
    grain: int  # seed of the sensor's noise

    @classmethod
    def random(cls, rng: np.random.Generator) -> "Scene":
        light = np.array([rng.uniform(-1, 1), rng.uniform(-0.3, 1), rng.uniform(0.5, 1.2)])
        warmth = rng.normal(0, 0.08)
        tint = np.array([1 + warmth, 1, 1 - warmth])
        exposure, fill = rng.uniform(0.75, 1.4), rng.uniform(0.25, 0.75)
        yaw, pitch, roll = np.clip(rng.normal(0, (12, 6, 4.5)), (-30, -15, -10), (30, 15, 10))
        rim = rng.uniform(0.1, 0.7) * rng.uniform(0.7, 1.3, 3) if rng.random() < 0.4 else np.zeros(3)
        return cls(
            pose=Pose(float(yaw), float(pitch), float(roll)),
            distance=rng.uniform(2.2, 7),
            face_share=rng.uniform(0.48, 0.76),
            offset=rng.uniform(-0.05, 0.05, 2).astype(np.float32),
            light=(light / np.linalg.norm(light)).astype(np.float32),
            key=(tint * exposure * (1 - 0.55 * fill)).astype(np.float32),
            rim=rim.astype(np.float32),
            ambient=(exposure * fill * rng.uniform(0.9, 1.1, 3) * 0.8).astype(np.float32),
            gloss=rng.uniform(0, 0.12),
            blur=max(0.0, rng.normal(0.1, 0.6)),
            noise=rng.uniform(0, 0.02) if rng.random() < 0.8 else rng.uniform(0.02, 0.05),
            coarse=rng.uniform(1.3, 2.5) if rng.random() < 0.2 else 1.0,
            quality=int(rng.integers(45, 98)),
            seed=int(rng.integers(2**31)),
            grain=int(rng.integers(2**31)),
        )


def background(side: int, seed: int) -> Array:
    """One colour, cloudy or blocky noise of some coarseness, or a wall with a window (side, side, 3), linear RGB."""
    rng = np.random.default_rng(seed)
    base = rng.uniform(0.02, 0.7) + rng.normal(0, 0.08, 3)
    kind = rng.integers(4)
    plain = np.full((side, side, 3), np.clip(base, 0.01, 1), np.float32)
    if kind == 0:
        return plain
    if kind == 3:
        (top_light, floor_light), (left_light, right_light) = rng.uniform(0.5, 1.3, 2), rng.uniform(0.6, 1.2, 2)
        fall = np.linspace(top_light, floor_light, side)[:, None, None]
        fall = fall * np.linspace(left_light, right_light, side)[:, None]
        left, top = rng.integers(0, max(1, side * 3 // 4), 2)
        wide, high = rng.integers(side // 8, side // 2 + 2, 2)
        plain[top : top + high, left : left + wide] = rng.uniform(0.02, 1, 3)
        return np.clip(plain * fall, 0.005, 1).astype(np.float32)
    cells = int(rng.integers(2, 12))
    grid = np.clip(base + rng.normal(0, 0.15, (cells, cells, 1)) + rng.normal(0, 0.06, (cells, cells, 3)), 0.01, 1)
    way = cv2.INTER_NEAREST if kind == 1 else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(grid.astype(np.float32), (side, side), interpolation=way), np.float32)
