"""Face crops for training the face tower: every source becomes one ``.npz`` of small grey crops and their labels."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from rich.progress import track as progress

from emollm.data.arrays import Arrays
from emollm.emotions import EXPRESSIONS
from emollm.errors import BadArgumentError
from emollm.face.align import align, whole_image_crop
from emollm.face.detect import BLENDSHAPES, FaceLandmarker
from emollm.facs import AU_CODES

STORED_SIZE = 96  # a little more than the tower's 80 px, so that augmentation has something to cut


@dataclass
class Faces(Arrays):
    """``N`` labelled faces.

    Attributes:
        aligned: ``(N, 96, 96)`` uint8 grey, aligned by landmarks (the whole picture where no landmarks were found).
        whole: ``(N, 96, 96)`` uint8 grey, the picture as it came.
        blendshapes: ``(N, 52)`` float32, NaN rows where the landmarker found no face.
        expression: ``(N, 8)`` float32 share of votes, NaN rows where there are none.
        aus: ``(N, 17)`` float32 intensities 0-5, NaN where unknown.
        valid: ``(N,)`` bool, True for the validation split.
        origin: ``(N,)`` label origin, ``"human"``, ``"exact"`` or ``"pseudo"``.
        name: ``(N,)`` the source's own name of the picture.
        person: ``(N,)`` who is shown, unique over all sources; empty where that is not known.
    """

    aligned: np.ndarray
    whole: np.ndarray
    blendshapes: np.ndarray
    expression: np.ndarray
    aus: np.ndarray
    valid: np.ndarray
    origin: np.ndarray
    name: np.ndarray
    person: np.ndarray

    def __len__(self) -> int:
        return len(self.valid)

    def subset(self, rows: np.ndarray) -> Faces:
        return Faces(**{key: value[rows] for key, value in vars(self).items()})

    @classmethod
    def concatenate(cls, parts: list[Faces]) -> Faces:
        return cls(**{key: np.concatenate([getattr(p, key) for p in parts]) for key in cls.__dataclass_fields__})


@dataclass
class _Row:
    image: np.ndarray
    name: str
    valid: bool
    origin: str
    expression: np.ndarray | None = None
    aus: np.ndarray | None = None
    person: str = ""


def _ferplus_rows(path: Path) -> Iterator[_Row]:
    """FER+ parquet: name, split, image (PNG), votes (10). Rows whose majority is unknown or not-face are dropped."""
    import pandas as pd

    for row in pd.read_parquet(path).itertuples():
        votes = np.asarray(row.votes, np.float32)
        if votes.argmax() >= len(EXPRESSIONS):
            continue
        share = votes[: len(EXPRESSIONS)] / votes[: len(EXPRESSIONS)].sum()
        yield _Row(_decode(row.image), str(row.name), row.split == "valid", "human", expression=share)


def _render_rows(path: Path) -> Iterator[_Row]:
    """Parquet of ``emollm.data.synthesize``: image bytes, ``au_<code>`` columns, split."""
    import pandas as pd

    frame = pd.read_parquet(path)
    aus = frame[[f"au_{code}" for code in AU_CODES]].to_numpy(np.float32)
    for i, row in enumerate(frame.itertuples()):
        person = f"{row.head}-{row.identity}"
        yield _Row(_decode(row.image), f"render-{i}", row.split == "valid", "exact", aus=aus[i], person=person)


def _london_rows(path: Path) -> Iterator[_Row]:
    """Face Research Lab London Set: ``<id>_<pose>.jpg``, pose neutral or smiling (a pose, not FACS coding)."""
    for file in sorted(path.glob("*.jpg")):
        person, _, pose = file.stem.partition("_")
        share = np.zeros(len(EXPRESSIONS), np.float32)
        share[EXPRESSIONS.index("happiness" if "smil" in pose else "neutral")] = 1.0
        valid = int("".join(c for c in person if c.isdigit()) or 0) % 5 == 0
        yield _Row(
            np.asarray(Image.open(file).convert("RGB")), file.stem, valid, "human", share, person=f"london-{person}"
        )


READERS = {"ferplus": _ferplus_rows, "renders": _render_rows, "london": _london_rows}


def _decode(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def prepare_faces(source: str, path: Path, landmarker: FaceLandmarker) -> Faces:
    """Read one source (a key of ``READERS``), find and align the face of every picture, keep grey crops and labels."""
    if not path.exists():
        raise BadArgumentError(f"{path} does not exist; give the data set's path in the recipe.")
    columns: dict[str, list] = {key: [] for key in Faces.__dataclass_fields__}
    for row in progress(list(READERS[source](path)), description=f"faces of {source}"):
        image = row.image
        if max(image.shape[:2]) < 160:  # the landmarker needs a picture of some size with a margin around the face
            image = cv2.resize(image, (192, 192), interpolation=cv2.INTER_CUBIC)
            image = cv2.copyMakeBorder(image, 48, 48, 48, 48, cv2.BORDER_REPLICATE)
        found = landmarker(image)
        whole = _grey(whole_image_crop(row.image))
        columns["whole"].append(whole)
        columns["aligned"].append(_grey(align(image, found[0].landmarks)) if found else whole)
        columns["blendshapes"].append(found[0].blendshapes if found else _nan(len(BLENDSHAPES)))
        columns["expression"].append(row.expression if row.expression is not None else _nan(len(EXPRESSIONS)))
        columns["aus"].append(row.aus if row.aus is not None else _nan(len(AU_CODES)))
        columns["valid"].append(row.valid)
        columns["origin"].append(row.origin)
        columns["name"].append(row.name)
        columns["person"].append(row.person)
    return Faces(**{key: np.array(values) for key, values in columns.items()})


def _grey(crop: np.ndarray) -> np.ndarray:
    return cv2.resize(cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY), (STORED_SIZE, STORED_SIZE), interpolation=cv2.INTER_AREA)


def _nan(size: int) -> np.ndarray:
    return np.full(size, np.nan, np.float32)
