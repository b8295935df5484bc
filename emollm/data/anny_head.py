"""The head of *Anny* (Brégier et al. 2025, arXiv 2511.03589; code Apache-2.0, shapes CC0) as a blendshape head file.

The package ``anny`` is needed once, to write the file: all 52 facial actions under their ARKit names, and as
identities the shapes by which the body model makes age, gender, weight, muscle and origin, and the local changes of
head and face. Afterwards the file alone is read (:func:`emollm.data.head.load_head`).
"""

import os
from collections.abc import Iterator
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emollm.data.head import PARTS, Array
from emollm.data.phenotypes import Phenotypes
from emollm.errors import BadArgumentError
from emollm.weights import cache_dir

# iBUG landmarks as vertices of MakeHuman's base mesh, which Anny keeps: the subject's right half, the middle line.
_RIGHT = {
    0: 5198, 1: 5186, 2: 5180, 3: 5208, 4: 5228, 5: 5298, 6: 5223, 7: 5292, 17: 255, 18: 225, 19: 224, 20: 222,
    21: 208, 31: 354, 32: 313, 36: 6779, 37: 6, 38: 4865, 39: 6769, 40: 1071, 41: 41, 48: 3734, 49: 5351, 50: 460,
    58: 486, 59: 480, 60: 416, 61: 472, 67: 488,
}  # fmt: skip
_MIDDLE = {8: 5296, 27: 133, 28: 5063, 29: 291, 30: 5054, 33: 317, 51: 466, 57: 492, 62: 474, 66: 494}
_LEFT_OF = {
    **{i: 16 - i for i in range(8)}, **{i: 43 - i for i in range(17, 22)}, 31: 35, 32: 34, 36: 45, 37: 44, 38: 43,
    39: 42, 40: 47, 41: 46, 48: 54, 49: 53, 50: 52, 58: 56, 59: 55, 60: 64, 61: 63, 67: 65,
}  # fmt: skip
_GROUPS = {
    "skin": ("body",),
    "eyes": ("helper-l-eye", "helper-r-eye"),
    "teeth": ("helper-upper-teeth", "helper-lower-teeth"),
    "gums": ("helper-tongue",),
    "lashes": tuple(f"helper-{side}-eyelashes-{row}" for side in "lr" for row in (1, 2)),
}
_LOCAL = ("head-", "forehead-", "eyebrows-", "eye-", "nose-", "mouth-", "chin-", "cheek-", "ear-", "neck-double")
_LEFT_OUT = (
    "head-age",
    "mouth-angles",
    "mouth-dimples",
    "mouth-laugh",
    "eyebrows-angle",
    "ear-shape",
)  # look like AUs
_NECK = 0.3  # m below the eyes where the body is cut off, out of most pictures
_CM = 100.0


def anny_head() -> Path:
    """The head's file in the cache; written first where it is not there (a minute).

    Raises:
        BadArgumentError: the package ``anny`` is not installed.
    """
    from importlib.metadata import version

    if find_spec("anny") is None:
        raise BadArgumentError("the anny head needs the package anny: pip install 'emollm[synth]'")
    path = cache_dir() / f"anny-{version('anny')}-head-2.npz"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.stem}.{os.getpid()}.npz")
        try:
            np.savez_compressed(part, **_extract())  # type: ignore[arg-type]
            os.replace(part, path)
        finally:
            with suppress(OSError):
                part.unlink(missing_ok=True)
    return path


def _extract() -> dict[str, NDArray[Any]]:
    import anny.paths
    from anny import Anny
    from anny.models.model_data import TopologyConfig
    from anny.utils.obj_utils import load_obj_file

    whole = TopologyConfig(base_mesh="makehuman", remove_unattached_vertices=False, nudity_edits=False)
    with TemporaryDirectory() as folder:  # anny would keep most of a gigabyte in its own cache
        kept = anny.paths.get_anny_cache_path()
        anny.paths.set_anny_cache_path(folder)
        try:
            model = Anny(
                topology=whole,
                local_changes="all",
                facial_actions="all",
                phenotypes="all",
                phenotype_blendshapes="original",
            )
        finally:
            anny.paths.set_anny_cache_path(kept)
    root = anny.paths.get_anny_root_dir()
    groups = load_obj_file(root / "data" / "mpfb2" / "3dobjs" / "base.obj")[2]
    template = _upright(model.template_vertices)
    shapes = _upright(model.blendshapes)
    labels = model.to_model_data().metadata.blendshape_labels

    identities = {name: shapes[index] for index, name in _identities(labels)}
    for index, label in enumerate(labels):
        block, _, stages = label.partition(":")
        name = f"universal:{stages.rpartition('-')[0]}"
        if block in ("height", "proportions") and name in identities:
            identities[name] = identities[name] + 0.5 * shapes[index]  # of middle height and proportions
    names = list(identities)
    people = np.stack([identities[name] for name in names])
    neutral = template + np.tensordot(Phenotypes(names).mean(), people, axes=1)
    faces, part = _mesh(groups, template)
    used = np.unique(faces)
    actions = {label.split(":")[1]: shapes[i] for i, label in enumerate(labels) if label.startswith("facial_action")}
    return {
        "neutral": neutral[used].astype(np.float32),
        "faces": np.searchsorted(used, faces).astype(np.int32),
        "part": part[used],
        "expressions": np.stack([offsets[used] for offsets in actions.values()]).astype(np.float16),
        "expression_names": np.array([_sided(name) for name in actions]),
        "identities": people[:, used].astype(np.float16),
        "identity_names": np.array(names),
        "landmark68": np.searchsorted(used, _landmarks(template)),
    }


def _upright(vectors: Any) -> Array:
    """Anny's metres, z up and the face towards -y, to centimetres, y up and the face towards z."""
    x, y, z = np.moveaxis(np.asarray(vectors, np.float32), -1, 0)
    return _CM * np.stack([x, z, -y], axis=-1)


def _identities(labels: list[str]) -> Iterator[tuple[int, str]]:
    previous = ""
    for index, label in enumerate(labels):
        block, _, name = label.partition(":")
        if block in ("universal", "race") and "newborn" not in name and "baby" not in name:
            yield index, label
        elif block == "local_change":
            # The shapes come in pairs, one for each direction; the first names the pair.
            first, previous = previous, "" if previous else name
            pair = first or name
            feature = pair[2:] if pair[:2] in ("l-", "r-") else pair
            if feature.startswith(_LOCAL) and not feature.startswith(_LEFT_OUT):
                yield index, f"local:{pair}{'-' if first else '+'}"


def _mesh(groups: dict[str, Any], template: Array) -> tuple[NDArray[np.int32], NDArray[np.int8]]:
    """Triangles (F, 3) of the head, and the part of every vertex of the body."""
    part = np.zeros(len(template), np.int8)
    quads = []
    for name, members in _GROUPS.items():
        for member in members:
            quads.append(np.asarray(groups[member]["face_vertex_indices"]))
            part[np.unique(quads[-1])] = PARTS.index(name)
    corners = np.concatenate(quads)
    eyes = template[part == PARTS.index("eyes")].mean(axis=0)
    corners = corners[(template[corners][..., 1] > eyes[1] - _CM * _NECK).all(axis=1)]
    faces = np.concatenate([corners[:, [0, 1, 2]], corners[:, [0, 2, 3]]])
    return faces.astype(np.int32), part


def _landmarks(template: Array) -> NDArray[np.int64]:
    points = np.zeros(68, np.int64)
    for landmark, vertex in {**_RIGHT, **_MIDDLE}.items():
        points[landmark] = vertex
    for right, left in _LEFT_OF.items():
        mirrored = template[_RIGHT[right]] * (-1, 1, 1)
        points[left] = np.linalg.norm(template - mirrored, axis=1).argmin()
    return points


def _sided(name: str) -> str:
    for side in ("Left", "Right"):
        if name.endswith(side) and name not in ("jawLeft", "jawRight", "mouthLeft", "mouthRight"):
            return f"{name.removesuffix(side)}_{side[0]}"
    return name
