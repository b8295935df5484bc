"""Skin, brows, hair, lips and eyes, painted as a function of each pixel's place on the neutral mean face.

Such "rest" coordinates ride on the skin however it moves, and so do brows, lips and creases.
"""

from functools import cached_property
from itertools import pairwise

import numpy as np
from matplotlib.path import Path as Polygon
from numpy.typing import NDArray

from emollm.data.creases import Creases, Sides
from emollm.data.head import PARTS, Array, Head
from emollm.data.looks import Looks, linear

_GUMS, _TEETH, _EYE_WHITE = (0.45, 0.16, 0.16), (0.82, 0.78, 0.70), (0.86, 0.83, 0.80)
_BROWS = (slice(17, 22), slice(22, 27))  # iBUG landmarks
_EYES = ([36, 37, 38, 39, 40, 41], [42, 43, 44, 45, 46, 47])
_OUTER_LIPS = slice(48, 60)
_FOLD = np.array([0.5, 0.62, 0.66], np.float32)  # how much light a fold swallows: what is left is reddish


class Painter:
    """Paints one head; holds what depends on the mesh alone."""

    def __init__(self, head: Head) -> None:
        self.head = head
        points = head.neutral[head.landmarks]
        self.points = points
        self.unit = float(np.linalg.norm(points[36] - points[45]))  # outer eye corners: about 9 cm
        self.creases = Creases((points - points[27]) / self.unit)
        self._brow_height = float((points[17:27, 1].mean() - points[27, 1]) / self.unit)

    @cached_property
    def vertex_paint(self) -> Array:
        """(V, 4): rest position and lip membership (0 or 1), to be interpolated for :meth:`paint`."""
        lips = Polygon(self.points[_OUTER_LIPS, :2]).contains_points(self.head.neutral[:, :2])
        lips &= self.head.neutral[:, 2] > self.points[_OUTER_LIPS, 2].min() - 0.1 * self.unit
        return np.column_stack([self.head.neutral, lips]).astype(np.float32)

    @cached_property
    def _eye_centres(self) -> Array:
        """(2, 3): the middle of each eyeball at rest."""
        eyes = self.head.neutral[self.head.part == PARTS.index("eyes")]
        if not len(eyes):
            return np.stack([self.points[eye].mean(axis=0) for eye in _EYES])
        return np.stack([eyes[eyes[:, 0] < 0].mean(axis=0), eyes[eyes[:, 0] >= 0].mean(axis=0)])

    def paint(
        self, place_and_lips: Array, part: NDArray[np.int8], sides: Sides, looks: Looks
    ) -> tuple[Array, Array, Array]:
        """Linear colour (N, 3), shine (N,) and slope of the skin along x and y at rest (N, 2).

        Args:
            place_and_lips: (N, 4) vertex values of the pixels, see :attr:`vertex_paint`.
            part: (N,) index into :data:`PARTS`.
            sides: strength (0-1) of each Action Unit on the subject's right and left, which presses creases.
            looks: the person.
        """
        rest, lips = place_and_lips[:, :3], place_and_lips[:, 3]
        is_part = {name: part == index for index, name in enumerate(PARTS)}
        place = (rest - self.points[27]) / self.unit  # origin between the eyes, in eye distances
        colour = looks.skin * (1 + 0.10 * _blotches(place, looks.grain))[:, None]
        cheeks = np.exp(-((np.abs(place[:, 0]) - 0.42) ** 2 + (place[:, 1] + 0.35) ** 2) / 0.03)
        colour *= 1 - cheeks[:, None] * np.array([0.0, 0.10, 0.08], np.float32)
        skin = is_part["skin"][:, None]
        relief = self.creases.relief(sides, looks.creases, looks.wrinkles)
        folds = self.creases.sample(relief, place, looks.grain) * skin
        colour *= 1 - folds[:, :1] * _FOLD
        pressed = 0.85 * max(sides.get("AU24", (0.0, 0.0)))  # pressed lips turn pale and narrow
        colour *= 1 + (1 - pressed) * lips[:, None] * (looks.lips - 1)
        brows = self._brows(rest, looks)
        colour += brows[:, None] * (np.minimum(looks.hair, 0.4 * looks.skin) - colour)  # fair brows must show too
        hair = np.maximum(self._scalp(place, looks), self._beard(place, lips, looks))
        colour += hair[:, None] * (looks.hair - colour)

        inside = np.clip((self.points[_OUTER_LIPS, 2].mean() - rest[:, 2]) / (0.5 * self.unit), 0, 1)[:, None]
        dim = (0.75 - 0.65 * inside).astype(np.float32)  # the deeper in the mouth, the darker
        for name, flat in (("gums", _GUMS), ("teeth", _TEETH)):
            colour[is_part[name]] = (linear(np.array(flat)) * dim)[is_part[name]]
        below_nose = rest[:, 1] < self.points[33, 1]
        socket = is_part["socket"]
        colour[socket] *= np.where(below_nose, 0.12, 0.55)[socket, None]
        upper = rest[:, 1] > self._eye_centres[0, 1]
        for lashes, shade in ((is_part["lashes"] & upper, 0.2), (is_part["lashes"] & ~upper, 0.6)):
            colour[lashes] = looks.skin * shade  # solid strips in the mesh: opaque black would look like make-up
        colour[is_part["eyes"]] = self._eyes(rest[is_part["eyes"]], looks)
        gloss = 0.3 + 0.9 * lips + 3.0 * is_part["eyes"] - 0.3 * hair
        return colour, gloss * (is_part["skin"] | is_part["eyes"]), folds[:, 1:]

    def _brows(self, rest: Array, looks: Looks) -> Array:
        cover = np.zeros(len(rest), np.float32)
        near = np.flatnonzero(np.abs(rest[:, 1] - self.points[17:27, 1].mean()) < 0.35 * self.unit)
        near = near[rest[near, 2] > self.points[17:27, 2].min() - 0.15 * self.unit]
        spot = rest[near, :2] - np.array([0, looks.brow_lift * self.unit], np.float32)
        hairs = 0.75 + 0.25 * np.sin(_stripes(rest[near] / self.unit, looks.grain))
        for brow in _BROWS:
            line = self.points[brow, :2]
            inward = line if abs(line[0, 0]) < abs(line[-1, 0]) else line[::-1]  # from the nose outwards
            away, along = _to_polyline(spot, inward)
            width = looks.brow_width * self.unit * np.interp(along, [0, 0.15, 0.6, 1], [0.85, 1.0, 0.9, 0.35])
            soft = _step((1 - away / width) * 5)
            cover[near] = np.maximum(cover[near], soft * hairs * looks.brow_strength)
        return cover

    def _scalp(self, place: Array, looks: Looks) -> Array:
        """Short hair above a hairline that drops behind the temples, down to the ears."""
        behind = np.maximum(0, -0.45 - place[:, 2])
        edge = np.maximum(self._brow_height + looks.hairline - 2.2 * behind, 0.09)
        return 0.92 * _step((place[:, 1] - edge) * 28)

    def _beard(self, place: Array, lips: Array, looks: Looks) -> Array:
        if not looks.beard:
            return np.zeros(len(place), np.float32)
        x, y = np.abs(place[:, 0]), place[:, 1]
        nose, chin = ((self.points[[33, 8], 1] - self.points[27, 1]) / self.unit).tolist()
        moustache = _step((nose - 0.06 - y) * 40) * np.exp(-((x / 0.26) ** 4))
        jaw = _step((nose - 0.30 + 0.5 * np.maximum(0, x - 0.2) - y) * 22)
        return looks.beard * np.maximum(moustache, jaw) * _step((y - chin + 0.1) * 22) * (1 - lips)

    def _eyes(self, rest: Array, looks: Looks) -> Array:
        centres = self._eye_centres
        near = centres[(rest[:, 0] >= 0).astype(int)]
        radius = np.hypot(rest[:, 0] - near[:, 0], rest[:, 1] - near[:, 1]) / self.unit
        ring = np.clip((0.064 - radius) / 0.006, 0, 1)[:, None]
        shade = np.where(radius > 0.056, 0.45, 1.0)[:, None]
        pupil = np.clip((0.026 - radius) / 0.004, 0, 1)[:, None]
        white = linear(np.array(_EYE_WHITE))
        return ((white + ring * (looks.iris * shade - white)) * (1 - 0.97 * pupil)).astype(np.float32)


def _step(x: Array) -> Array:
    """A soft step from 0 to 1 around x = 0."""
    return 1 / (1 + np.exp(-np.clip(x, -30, 30)))


def _blotches(place: Array, seed: int) -> Array:
    """Smooth value noise over rest positions, roughly within -1..1."""
    rng = np.random.default_rng(seed)
    waves, phases = rng.normal(0, 1, (6, 3)) * np.array([4, 6, 9, 14, 22, 40])[:, None], rng.uniform(0, 6.3, 6)
    sines = np.sin(place @ waves.T.astype(np.float32) + phases.astype(np.float32))
    return (sines @ np.array([0.35, 0.3, 0.25, 0.2, 0.15, 0.15], np.float32)).astype(np.float32)


def _stripes(place: Array, seed: int) -> Array:
    slant = 1.2 * np.abs(place[:, 0]) - 0.7 * place[:, 1]
    return 160 * slant + 5 * _blotches(place * 3, seed)


def _to_polyline(spots: Array, line: Array) -> tuple[Array, Array]:
    """Distance of points (N, 2) to a polyline, and where along it (0-1) the nearest point lies."""
    away, along = np.full(len(spots), np.inf, np.float32), np.zeros(len(spots), np.float32)
    for index, (start, end) in enumerate(pairwise(line)):
        step = end - start
        share = np.clip((spots - start) @ step / (step @ step), 0, 1)
        distance = np.linalg.norm(spots - start - share[:, None] * step, axis=1)
        closer = distance < away
        away[closer], along[closer] = distance[closer], (index + share[closer]) / (len(line) - 1)
    return away, along
