"""A blendshape head given by the user as one ``.npz``: loading, identity and expression, lip parting.

The file's keys are those of the light ICT-FaceKit export (Li et al., *Learning Formation of Physically-Based Face
Attributes*, CVPR 2020): ``neutral`` (V, 3), ``faces`` (F, 3), ``expressions`` (E, V, 3) with ``expression_names``
(ARKit-like, ``_L``/``_R`` for the two sides), ``identities`` (K, V, 3) as one-sigma offsets, ``landmark68`` (68,).
Two more may be there: ``part`` (V,), indices into :data:`PARTS`, and ``identity_names`` (K,) for identities that are
shapes with a meaning (:mod:`emollm.data.phenotypes`). Units are the mesh's own (centimetres there); x to the subject's
left, y up, z out of the face.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emollm.data.phenotypes import Phenotypes, Traits
from emollm.errors import BadArgumentError

Array = NDArray[np.floating[Any]]

PARTS: tuple[str, ...] = ("skin", "socket", "gums", "teeth", "eyes", "lashes", "hidden")

_KEYS = ("neutral", "faces", "expressions", "expression_names", "identities", "landmark68")
_OPTIONAL = ("part", "identity_names")
_INNER_LIPS_UPPER, _INNER_LIPS_LOWER = [61, 62, 63], [67, 66, 65]
_OUTER_EYE_CORNERS = [36, 45]


@dataclass(frozen=True)
class Head:
    """A head of V vertices, F visible triangles, E expressions, K identity modes; every vertex belongs to one part."""

    neutral: Array  # (V, 3)
    faces: NDArray[np.int32]  # (F, 3), hidden parts removed
    part: NDArray[np.int8]  # (V,) index into PARTS
    expressions: dict[str, Array]  # name -> (V, 3) offsets at weight 1
    identities: Array  # (K, V, 3)
    landmarks: NDArray[np.int64]  # (68,) vertex of each iBUG landmark
    phenotypes: Phenotypes | None = None  # where the identities are shapes with a meaning, not modes of a population

    def draw_person(self, traits: Traits, rng: np.random.Generator, spread: float) -> Array:
        """Neutral vertices (V, 3) of a random person, with the outer eye corners as far apart as the mean face's.

        ``spread`` 1 is the whole population, 0 the mean face.
        """
        if self.phenotypes:
            person = self.person(self.phenotypes.draw(traits, rng, spread))
        else:
            person = self.person(rng.normal(0, spread, len(self.identities)).astype(np.float32))
        corners, wanted = person[self.landmarks[_OUTER_EYE_CORNERS]], self.neutral[self.landmarks[_OUTER_EYE_CORNERS]]
        scale = np.linalg.norm(np.subtract(*wanted)) / np.linalg.norm(np.subtract(*corners))
        return ((person - corners.mean(axis=0)) * scale + wanted.mean(axis=0)).astype(np.float32)

    def person(self, coefficients: Array) -> Array:
        """Neutral vertices (V, 3) of the identity with these (K,) coefficients, in standard deviations."""
        return self.neutral + np.tensordot(coefficients, self.identities, axes=1)

    def pose(self, person: Array, weights: Mapping[str, float]) -> Array:
        """Vertices (V, 3) of ``person`` under expression weights 0-1 (offsets add up)."""
        vertices = person.copy()
        for name, weight in weights.items():
            if weight:
                vertices += np.float32(weight) * self.expressions[name]
        return vertices

    def lip_gap(self, vertices: Array) -> float:
        """Mean height of the opening between the inner lips, as a share of the distance between outer eye corners.

        Signed: below 0 where the lips press past each other, so that rolled or shrugged lips do not count as parted.
        """
        points = vertices[self.landmarks]
        gap = (points[_INNER_LIPS_UPPER, 1] - points[_INNER_LIPS_LOWER, 1]).mean()
        return float(gap / np.linalg.norm(np.subtract(*points[_OUTER_EYE_CORNERS])))

    def sides(self, action: str) -> list[str]:
        """The head's expressions that carry an ARKit action: ``mouthSmile`` gives its ``_L`` and ``_R``."""
        return [name for name in (action, f"{action}_L", f"{action}_R") if name in self.expressions]


def load_head(
    path: Path, parts: Mapping[str, Sequence[tuple[int, int]]], gains: Mapping[str, float] | None = None
) -> Head:
    """Read a head.

    Args:
        path: the ``.npz``.
        parts: inclusive vertex ranges by name from :data:`PARTS`; all other vertices are skin.
        gains: factors on the offsets of ARKit actions, for a head whose full ``browDown`` is too shy to be a full AU4.

    Raises:
        BadArgumentError: no such file, not a head, or an unknown part or action.
    """
    if unknown := sorted(set(parts) - set(PARTS)):
        raise BadArgumentError(f"unknown part of the head: {unknown[0]} (known: {', '.join(PARTS)})")
    try:
        with np.load(path, allow_pickle=False) as file:
            data = {key: file[key] for key in file.files if key in (*_KEYS, *_OPTIONAL)}
    except FileNotFoundError:
        raise BadArgumentError(f"no head at {path}: give the path of your blendshape head (.npz)") from None
    except (OSError, ValueError) as error:
        raise BadArgumentError(f"{path} is not a blendshape head: {error}") from None
    if missing := [key for key in _KEYS if key not in data]:
        raise BadArgumentError(f"{path} is not a blendshape head: it has no {missing[0]}")
    part = data.get("part", np.zeros(len(data["neutral"]), np.int8)).copy()
    for name, ranges in parts.items():
        for first, last in ranges:
            part[first : last + 1] = PARTS.index(name)
    faces = data["faces"].astype(np.int32)
    faces = faces[(part[faces] != PARTS.index("hidden")).all(axis=1)]
    names = [str(name) for name in data["expression_names"]]
    offsets = dict(zip(names, data["expressions"].astype(np.float32), strict=True))
    head = Head(
        neutral=data["neutral"].astype(np.float32),
        faces=faces,
        part=part,
        expressions=offsets,
        identities=data["identities"].astype(np.float32),
        landmarks=data["landmark68"].astype(np.int64),
        phenotypes=Phenotypes(data["identity_names"].tolist()) if "identity_names" in data else None,
    )
    for action, gain in (gains or {}).items():
        if not head.sides(action):
            raise BadArgumentError(f"the head has no action {action} to strengthen")
        for name in head.sides(action):
            offsets[name] *= np.float32(gain)
    return head
