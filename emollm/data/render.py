"""From a posed head to a picture: a camera, one key light, a background, a worn-out lens."""

import io
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter, zoom

from emollm.data.head import Array, Head
from emollm.data.paint import Looks, Painter
from emollm.data.raster import rasterise, vertex_normals

SUPERSAMPLE = 2


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
    """What changes from picture to picture: pose, camera, light, background, damage."""

    pose: Pose
    distance: float  # camera to face in face widths: near ones distort
    face_share: float  # face width as a share of the picture's
    offset: Array  # (2,) of the face's centre from the middle, in shares of the picture
    light: Array  # (3,) towards the key light
    key: Array  # linear RGB
    ambient: Array  # linear RGB
    gloss: float
    blur: float  # px
    noise: float  # 0-1 scale
    quality: int  # JPEG
    seed: int  # background and noise

    @classmethod
    def random(cls, rng: np.random.Generator) -> "Scene":
        light = np.array([rng.uniform(-1, 1), rng.uniform(-0.3, 1), rng.uniform(0.5, 1.2)])
        warmth = rng.normal(0, 0.08)
        tint = np.array([1 + warmth, 1, 1 - warmth])
        exposure, fill = rng.uniform(0.75, 1.4), rng.uniform(0.25, 0.75)
        yaw, pitch, roll = np.clip(rng.normal(0, (12, 6, 4.5)), (-30, -15, -10), (30, 15, 10))
        return cls(
            pose=Pose(float(yaw), float(pitch), float(roll)),
            distance=rng.uniform(2.2, 7),
            face_share=rng.uniform(0.48, 0.76),
            offset=rng.uniform(-0.05, 0.05, 2).astype(np.float32),
            light=(light / np.linalg.norm(light)).astype(np.float32),
            key=(tint * exposure * (1 - 0.55 * fill)).astype(np.float32),
            ambient=(exposure * fill * rng.uniform(0.9, 1.1, 3) * 0.8).astype(np.float32),
            gloss=rng.uniform(0, 0.12),
            blur=max(0.0, rng.normal(0.1, 0.6)),
            noise=rng.uniform(0, 0.02) if rng.random() < 0.8 else rng.uniform(0.02, 0.05),
            quality=int(rng.integers(45, 98)),
            seed=int(rng.integers(2**31)),
        )


class Renderer:
    """Draws one head."""

    def __init__(self, head: Head) -> None:
        self.head = head
        self.painter = Painter(head)
        points = head.neutral[head.landmarks]
        self.centre = points[[36, 45, 8, 27]].mean(axis=0)
        self.face_width = float(np.ptp(points[:17, 0]))

    def draw(
        self, vertices: Array, aus: Mapping[str, float], looks: Looks, scene: Scene, size: int
    ) -> NDArray[np.uint8]:
        """Picture (size, size, 3) uint8 RGB of posed vertices (V, 3); ``aus`` (0-5) only deepen the creases."""
        side = size * SUPERSAMPLE
        rotation = scene.pose.matrix()
        turned = (vertices - self.centre) @ rotation.T
        depth = scene.distance * self.face_width - turned[:, 2]
        focal = scene.face_share * side * scene.distance
        middle = side * (0.5 + scene.offset)
        screen = np.column_stack(
            [middle[0] + focal * turned[:, 0] / depth, middle[1] - focal * turned[:, 1] / depth, depth]
        )
        normals = vertex_normals(turned, self.head.faces)
        attributes = np.column_stack([self.painter.vertex_paint, normals]).astype(np.float32)
        triangle, values = rasterise(screen.astype(np.float32), self.head.faces, attributes, side, side)
        seen = triangle >= 0
        painted, normal = values[seen][:, :4], values[seen][:, 4:]
        part = self.head.part[self.head.faces[triangle[seen], 0]]
        colour, gloss = self.painter.paint(painted, part, aus, looks)
        image = _background(side, np.random.default_rng(scene.seed))
        image[seen] = colour * _light(normal, scene) + (gloss * _shine(normal, scene))[:, None]
        image = image.reshape(size, SUPERSAMPLE, size, SUPERSAMPLE, 3).mean(axis=(1, 3))
        return _wear(image, scene)


def encode(image: NDArray[np.uint8], quality: int) -> bytes:
    """JPEG bytes of an RGB picture."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def _light(normal: Array, scene: Scene) -> Array:
    """Lambert's law softened around the edge (skin scatters), plus light from all sides, more of it from above."""
    lambert = np.clip((normal @ scene.light + 0.25) / 1.25, 0, None)[:, None]
    above = (0.75 + 0.25 * normal[:, 1])[:, None]
    return lambert * scene.key + above * scene.ambient


def _shine(normal: Array, scene: Scene) -> Array:
    half = scene.light + np.array([0, 0, 1], np.float32)
    return scene.gloss * np.clip(normal @ (half / np.linalg.norm(half)), 0, None) ** 24


def _background(side: int, rng: np.random.Generator) -> Array:
    """One colour, or cloudy noise of some coarseness, or hard blocks (linear RGB)."""
    base = rng.uniform(0.02, 0.7) + rng.normal(0, 0.08, 3)
    kind = rng.integers(3)
    if kind == 0:
        return np.full((side, side, 3), np.clip(base, 0.01, 1), np.float32)
    cells = int(rng.integers(2, 12))
    grid = np.clip(base + rng.normal(0, 0.15, (cells, cells, 1)) + rng.normal(0, 0.06, (cells, cells, 3)), 0.01, 1)
    picture = zoom(grid, (side / cells, side / cells, 1), order=kind - 1, grid_mode=True, mode="nearest")
    return picture.astype(np.float32)


def _wear(image: Array, scene: Scene) -> NDArray[np.uint8]:
    """Lens blur, the display curve, sensor noise."""
    if scene.blur > 0.15:
        image = gaussian_filter(image, (scene.blur, scene.blur, 0))
    image = np.clip(image, 0, 1) ** (1 / 2.2)
    image = image + np.random.default_rng(scene.seed + 1).normal(0, scene.noise, image.shape)
    return (np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8)
