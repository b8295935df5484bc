"""Faces for these tests: scikit-image's public-domain portrait."""

from collections.abc import Iterator

import numpy as np
import pytest
import skimage.data

from emollm.errors import WeightsError
from emollm.face.detect import Detection, FaceLandmarker
from emollm.weights import fetch


@pytest.fixture(scope="session")
def landmarker() -> Iterator[FaceLandmarker]:
    try:
        task = fetch("face_landmarker", progress=False)
    except WeightsError as error:
        pytest.skip(f"the face landmarker is not in reach: {error}")
    with FaceLandmarker(task) as landmarker:
        yield landmarker


@pytest.fixture(scope="session")
def astronaut() -> np.ndarray:
    return skimage.data.astronaut()


@pytest.fixture(scope="session")
def portrait(astronaut: np.ndarray) -> np.ndarray:
    """``(260, 260, 3)``: head and shoulders."""
    return astronaut[:260, 95:355].copy()


@pytest.fixture(scope="session")
def other_portrait(portrait: np.ndarray) -> np.ndarray:
    """Somebody else as far as colours tell: mirrored, and in other light."""
    return np.clip(portrait[:, ::-1].astype(np.float32) * (0.55, 0.7, 0.95) + (0, 0, 10), 0, 255).astype(np.uint8)


@pytest.fixture(scope="session")
def portrait_face(portrait: np.ndarray, landmarker: FaceLandmarker) -> Detection:
    (face,) = landmarker(portrait)
    return face
