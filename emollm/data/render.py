"""From a posed head to a picture: a camera, one key light, a background, a worn-out lens."""

import io

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from emollm.data.creases import Sides
from emollm.data.head import Array, Head
from emollm.data.looks import Looks
from emollm.data.paint import Painter
from emollm.data.raster import rasterise, vertex_normals
from emollm.data.scene import Scene, background

SUPERSAMPLE = 1.5


class Renderer:
    """Draws one head."""

    def __init__(self, head: Head) -> None:
        self.head = head
        self.painter = Painter(head)
        points = head.neutral[head.landmarks]
        self.centre = points[[36, 45, 8, 27]].mean(axis=0)
        self.face_width = float(np.ptp(points[:17, 0]))

    def draw(self, vertices: Array, sides: Sides, looks: Looks, scene: Scene, size: int) -> NDArray[np.uint8]:
        """Picture (size, size, 3) uint8 RGB of posed vertices (V, 3); ``sides`` (0-1) only press the creases."""
        side = round(size * SUPERSAMPLE)
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
        normal[normal[:, 2] < -0.3] *= -1  # some meshes have teeth inside out
        part = self.head.part[self.head.faces[triangle[seen], 0]]
        colour, gloss, slope = self.painter.paint(painted, part, sides, looks)
        normal = _tilt(normal, slope @ rotation[:, :2].T)
        image = background(side, scene.seed)
        image[seen] = colour * _light(normal, scene) + (gloss * _shine(normal, scene))[:, None]
        image = np.asarray(cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA))
        return _wear(image, scene)


def encode(image: NDArray[np.uint8], quality: int) -> bytes:
    """JPEG bytes of an RGB picture."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def _tilt(normal: Array, slope: Array) -> Array:
    """Unit normals (N, 3) of a surface that falls along ``slope`` (N, 3), in the picture's directions."""
    along = slope - (slope * normal).sum(axis=1, keepdims=True) * normal
    tilted = normal + along
    return tilted / (np.linalg.norm(tilted, axis=1, keepdims=True) + 1e-12)


def _light(normal: Array, scene: Scene) -> Array:
    """Lambert's law softened around the edge (skin scatters), plus light from all sides, more of it from above."""
    lambert = np.clip((normal @ scene.light + 0.25) / 1.25, 0, None)[:, None]
    behind = scene.light * np.array([-1, 0.3, -0.5], np.float32)
    rim = np.clip(normal @ (behind / np.linalg.norm(behind)), 0, None)[:, None]
    above = (0.75 + 0.25 * normal[:, 1])[:, None]
    return lambert * scene.key + rim * scene.rim + above * scene.ambient


def _shine(normal: Array, scene: Scene) -> Array:
    half = scene.light + np.array([0, 0, 1], np.float32)
    return scene.gloss * np.clip(normal @ (half / np.linalg.norm(half)), 0, None) ** 24


def _wear(image: Array, scene: Scene) -> NDArray[np.uint8]:
    """A coarse sensor, lens blur, the display curve, sensor noise."""
    size = image.shape[0]
    if scene.coarse > 1:
        few = max(24, round(size / scene.coarse))
        less = cv2.resize(image, (few, few), interpolation=cv2.INTER_AREA)
        image = np.asarray(cv2.resize(less, (size, size), interpolation=cv2.INTER_LINEAR))
    if scene.blur > 0.15:
        image = np.asarray(cv2.GaussianBlur(image, (0, 0), scene.blur))
    image = np.clip(image, 0, 1) ** (1 / 2.2)
    image = image + scene.noise * np.random.default_rng(scene.grain).standard_normal(image.shape, np.float32)
    return (np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8)
