import cv2
import numpy as np
import pytest
from face_scenes import placing, scene

from emollm.face.detect import Detection, FaceLandmarker
from emollm.face.search import centre, look, look_in_tiles, look_near, merge, overlap


def face_at(x: float, y: float, size: float) -> Detection:
    box = np.array([x - size / 2, y - size / 2, x + size / 2, y + size / 2], np.float32)
    return Detection(box, np.full((478, 3), x, np.float32), np.zeros(52, np.float32), np.zeros(3, np.float32))


def bright_spots(image: np.ndarray) -> list[Detection]:
    """A stand-in landmarker that sees a face of 40 px wherever a pixel is white."""
    return [face_at(x, y, 40) for y, x in np.argwhere(image[..., 0] == 255)]


@pytest.mark.parametrize(("height", "width"), [(360, 640), (640, 360), (500, 500), (300, 1500)])
def test_tiles_cover_every_pixel_and_map_back(height: int, width: int):
    rng = np.random.default_rng(0)
    points = np.stack([rng.integers(0, height, 12), rng.integers(0, width, 12)], 1)
    points = np.concatenate([points, [[0, 0], [height - 1, width - 1]]])
    for y, x in points:
        image = np.zeros((height, width, 3), np.uint8)
        image[y, x] = 255
        (face,) = look_in_tiles(bright_spots, image, [])
        assert centre(face.box) == pytest.approx((x, y))
        assert face.landmarks[0, 0] == pytest.approx(x)


def test_known_faces_are_kept_and_not_searched_again():
    image = np.zeros((360, 640, 3), np.uint8)
    image[100, 200] = image[100, 500] = 255
    known = [face_at(200, 100, 40)]
    faces = look_in_tiles(bright_spots, image, known)
    assert faces[0] is known[0]
    assert len(faces) == 2
    assert image[100, 200, 0] == 255  # the caller's picture is left alone


def test_merge_keeps_neighbours_and_drops_second_sights():
    first = face_at(100, 100, 40)
    assert merge([first], [face_at(105, 98, 44)]) == [first]
    assert len(merge([first], [face_at(150, 100, 40), face_at(151, 100, 40)])) == 2
    assert len(merge([first], [face_at(100, 100, 6)])) == 1


def test_overlap():
    box = np.array([0, 0, 10, 10], np.float32)
    assert overlap(box, box) == pytest.approx(1)
    assert overlap(box, box + 5) == pytest.approx(25 / 175)
    assert overlap(box, box + 50) == 0


@pytest.mark.parametrize("side", [48, 100, 150])
def test_small_pictures_are_enlarged_and_mapped_back(side: int, portrait: np.ndarray, landmarker: FaceLandmarker):
    (large,) = look(landmarker, portrait)
    (small,) = look(landmarker, cv2.resize(portrait, (side, side), interpolation=cv2.INTER_AREA))
    assert small.box * 260 / side == pytest.approx(large.box, abs=12)


def test_faces_too_small_for_the_whole_frame(portrait: np.ndarray, landmarker: FaceLandmarker):
    picture = scene((portrait, placing(180, 100, 0.5)))
    assert look(landmarker, picture) == []
    (face,) = look_in_tiles(landmarker, picture, [])
    (near,) = look_near(landmarker, picture, [face.box + 20], [])
    assert overlap(face.box, near.box) > 0.7
    assert look_near(landmarker, picture, [np.array([500, 250, 560, 310]), np.array([-90, -90, -40, -40])], []) == []
