import cv2
import numpy as np
import pytest

from emollm.face.align import align, whole_image_crop
from emollm.face.detect import Detection
from emollm.face.quality import USABLE, Quality, measure, measure_without_landmarks, sharpness


def quality(picture: np.ndarray, face: Detection, scale: float = 1.0, **changes: object) -> Quality:
    arguments = {"pose": face.pose, "visible_share": 1.0, **changes}
    return measure(align(picture, face.landmarks), face.landmarks * scale, **arguments)  # type: ignore[arg-type]


def test_a_good_portrait_is_good(portrait: np.ndarray, portrait_face: Detection):
    assert quality(portrait, portrait_face).score > 0.9


def test_blur_lowers_it_step_by_step(portrait: np.ndarray, portrait_face: Detection):
    scores = [quality(cv2.GaussianBlur(portrait, (0, 0), s), portrait_face).score for s in (0.5, 1.5, 2.5, 5)]
    assert scores == sorted(scores, reverse=True)
    assert scores[-1] < USABLE
    assert quality(cv2.GaussianBlur(portrait, (0, 0), 5), portrait_face).weakest == "too blurred"


@pytest.mark.parametrize("horizontal", [True, False])
def test_motion_blur_in_one_direction_is_blur(horizontal: bool, portrait: np.ndarray, portrait_face: Detection):
    smeared = cv2.blur(portrait, (25, 1) if horizontal else (1, 25))
    assert quality(smeared, portrait_face).score < USABLE


def test_dim_light_is_not_blur(portrait: np.ndarray, portrait_face: Detection):
    dim = (portrait * 0.3).astype(np.uint8)
    crop, dim_crop = align(portrait, portrait_face.landmarks), align(dim, portrait_face.landmarks)
    assert sharpness(dim_crop) == pytest.approx(sharpness(crop), rel=0.2)


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"scale": 0.2}, "too small"),
        ({"pose": np.array([72.0, 0, 0])}, "turned away"),
        ({"pose": np.array([0, -62.0, 0])}, "turned away"),
        ({"visible_share": 0.52}, "partly hidden"),
    ],
)
def test_each_fault_has_its_name(changes: dict, fault: str, portrait: np.ndarray, portrait_face: Detection):
    poor = quality(portrait, portrait_face, **changes)
    assert poor.score < USABLE
    assert poor.weakest == fault


def test_roll_costs_nothing(portrait: np.ndarray, portrait_face: Detection):
    upright, rolled = (quality(portrait, portrait_face, pose=np.array([0, 0, roll])) for roll in (0, 60))
    assert rolled.score == upright.score


def test_crop_without_landmarks(portrait: np.ndarray):
    crop = whole_image_crop(portrait[60:200, 60:200])
    assert USABLE < measure_without_landmarks(crop, 140).score < 0.6
    assert measure_without_landmarks(np.full_like(crop, 90), 140).score == 0
