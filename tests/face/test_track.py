import itertools

import cv2
import numpy as np
import pytest
from face_scenes import HEIGHT, WIDTH, frames_of, placing, scene

from emollm.face.align import CROP_SIZE
from emollm.face.detect import Detection, FaceLandmarker
from emollm.face.quality import USABLE, measure
from emollm.face.search import centre, placed
from emollm.face.track import FaceTrack, Tracking, track_faces

PLAIN = np.full((HEIGHT, WIDTH, 3), 190, np.uint8)


def x_of(track: FaceTrack) -> np.ndarray:
    return (track.boxes[:, 0] + track.boxes[:, 2]) / 2


def check(tracking: Tracking) -> None:
    """What the contract promises of every track."""
    assert [track.id for track in tracking.tracks] == list(range(1, len(tracking.tracks) + 1))
    for track in tracking.tracks:
        count = len(track.times)
        shapes = [(count, 4), (count, CROP_SIZE, CROP_SIZE, 3), (count, 52), (count, 3), (count,), (count,)]
        values = [track.boxes, track.crops, track.blendshapes, track.pose, track.quality, track.usable]
        assert [value.shape for value in values] == shapes
        assert [value.dtype for value in values] == [
            np.dtype(kind) for kind in ("float32", "uint8", "float32", "float32", "float32", "bool")
        ]
        assert (np.diff(track.times) > 0).all()
        assert ((track.quality >= 0) & (track.quality <= 1)).all()
        assert track.usable.any()
        assert 0 < track.box_share <= 1


def test_one_person_moved_scaled_and_turned(portrait: np.ndarray, landmarker: FaceLandmarker):
    places = [placing(180 + 14 * i, 150 + 40 * np.sin(i / 3), 0.9 + 0.03 * i, 25 * np.sin(i / 2)) for i in range(20)]
    tracking = track_faces(frames_of([scene((portrait, place)) for place in places]), landmarker)
    check(tracking)
    (track,) = tracking.tracks
    assert tracking.frames_seen == len(track.times) == 20
    assert tracking.warnings == []
    assert track.usable.all()
    assert track.times == pytest.approx(np.arange(20) / 5)
    # The eyes of every crop are where the template has them: found again in the crop itself.
    for crop in track.crops[::4]:
        enlarged = np.pad(cv2.resize(crop, (224, 224)), ((60, 60), (60, 60), (0, 0)), mode="edge")
        (face,) = landmarker(enlarged)
        corners = (face.landmarks[[33, 263], :2] - 60) / 2
        assert corners == pytest.approx(np.array([[0.231, 0.38], [0.769, 0.38]]) * CROP_SIZE, abs=3)


def test_two_people_crossing_keep_their_ids(
    portrait: np.ndarray, other_portrait: np.ndarray, landmarker: FaceLandmarker
):
    steps = np.linspace(120, 520, 21)
    pictures = [scene((other_portrait, placing(640 - x, 170, 0.8)), (portrait, placing(x, 190))) for x in steps]
    tracking = track_faces(frames_of(pictures), landmarker)
    check(tracking)
    front, behind = tracking.tracks
    assert len(front.times) == 21
    assert 10 <= len(behind.times) < 21  # covered for a while
    assert (np.diff(x_of(front)) > 0).all()
    assert (np.diff(x_of(behind)) < 0).all()


def test_lookalikes_crossing_keep_their_ids(portrait: np.ndarray, landmarker: FaceLandmarker):
    """In grey the mirrored portrait has the very same colours, so only the way they move tells them apart."""
    grey = cv2.cvtColor(cv2.cvtColor(portrait, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    pictures = []
    for x in np.linspace(120, 520, 15):
        picture = PLAIN.copy()
        for who, place in ((grey[:, ::-1].copy(), placing(640 - x, 170)), (grey, placing(x, 180, 1.1))):
            oval = cv2.ellipse(np.zeros((260, 260), np.uint8), (130, 125), (65, 85), 0, 0, 360, 1, -1)
            inside = cv2.warpAffine(oval, place, (WIDTH, HEIGHT)) > 0
            picture[inside] = cv2.warpAffine(who, place, (WIDTH, HEIGHT))[inside]
        pictures.append(picture)
    front, behind = track_faces(frames_of(pictures), landmarker).tracks
    assert (np.diff(x_of(front)) > 0).all()
    assert (np.diff(x_of(behind)) < 0).all()


@pytest.mark.parametrize(("x", "hidden"), [(150, True), (330, False), (-30, True)])
def test_behind_another_or_over_the_border_is_less_visible(
    x: float, hidden: bool, astronaut: np.ndarray, portrait_face: Detection
):
    front = placed(portrait_face, 1.3, 80, 60)
    other = placed(portrait_face, 1.0, x - portrait_face.box[0], 60)

    def stand_in(image: np.ndarray) -> list[Detection]:
        return [other, front] if image.shape == astronaut.shape else []

    main, second = track_faces(frames_of([astronaut]), stand_in).tracks
    assert second.boxes[0].tolist() == other.box.tolist()
    sharp = measure(second.crops[0], other.landmarks, other.pose, 1.0).score
    assert second.quality[0] == pytest.approx(sharp, abs=1e-6) if not hidden else second.quality[0] < 0.7 * sharp
    assert main.quality[0] > 0


@pytest.mark.parametrize("away", [4, 25])
def test_leaving_and_coming_back(
    away: int, portrait: np.ndarray, other_portrait: np.ndarray, landmarker: FaceLandmarker
):
    """Both after a short gap and after one longer than a track lives."""
    both = scene((portrait, placing(170, 170)), (other_portrait, placing(470, 170)))
    alone = scene((portrait, placing(170, 170)))
    tracking = track_faces(frames_of([both] * 6 + [alone] * away + [both] * 6), landmarker)
    check(tracking)
    main, guest = tracking.tracks
    assert len(main.times) == 12 + away
    assert len(guest.times) == 12
    assert x_of(main) == pytest.approx(x_of(main)[0], abs=5)
    assert x_of(guest) == pytest.approx(x_of(guest)[0], abs=5)


def test_a_cut_to_somebody_else_at_the_same_place_is_two_people(
    portrait: np.ndarray, other_portrait: np.ndarray, landmarker: FaceLandmarker
):
    """Shot and reverse shot, three times each."""
    shots = [[scene((who, placing(320, 180)))] * 5 for who in (portrait, other_portrait)] * 3
    tracking = track_faces(frames_of(list(itertools.chain(*shots))), landmarker)
    check(tracking)
    first, second = sorted(tracking.tracks, key=lambda track: track.times[0])
    assert first.times == pytest.approx(np.concatenate([np.arange(s, s + 5) for s in (0, 10, 20)]) / 5)
    assert second.times == pytest.approx(np.concatenate([np.arange(s, s + 5) for s in (5, 15, 25)]) / 5)


def test_main_person_is_large_central_and_long(
    portrait: np.ndarray, other_portrait: np.ndarray, landmarker: FaceLandmarker
):
    def main_x(*pictures: np.ndarray) -> float:
        return float(x_of(track_faces(frames_of(list(pictures)), landmarker).tracks[0]).mean())

    left_large = scene((portrait, placing(170, 180, 1.2)), (other_portrait, placing(470, 180, 0.8)))
    right_central = scene((portrait, placing(100, 180, 0.9)), (other_portrait, placing(340, 180, 0.9)))
    right_alone = scene((other_portrait, placing(470, 180, 0.8)))
    assert main_x(left_large) < 320
    assert main_x(right_central) > 250
    assert main_x(*[left_large] * 2, *[right_alone] * 8) > 320  # smaller, but five times as long


@pytest.mark.parametrize("count", [1, 12])
def test_eight_faces_in_a_grid(count: int, portrait: np.ndarray, landmarker: FaceLandmarker):
    """Each is too small to be seen in the whole frame, so this is the search in tiles and following from there."""
    places = [placing(80 + 160 * column, 95 + 175 * row, 0.6) for row in range(2) for column in range(4)]
    tracking = track_faces(frames_of([scene(*((portrait, place) for place in places))] * count), landmarker)
    check(tracking)
    assert [len(track.times) for track in tracking.tracks] == [count] * 8
    assert len({tuple(centre(track.boxes[0]).round(-1)) for track in tracking.tracks}) == 8


def test_small_face_is_followed_between_searches(portrait: np.ndarray, landmarker: FaceLandmarker):
    pictures = [scene((portrait, placing(150 + 12 * i, 120, 0.5))) for i in range(20)]
    (track,) = track_faces(frames_of(pictures), landmarker).tracks
    assert len(track.times) == 20


def test_small_face_that_appears_later_is_found_within_a_second(
    portrait: np.ndarray, other_portrait: np.ndarray, landmarker: FaceLandmarker
):
    before = scene((portrait, placing(170, 190)))
    after = scene((portrait, placing(170, 190)), (other_portrait, placing(480, 120, 0.5)))
    guest = track_faces(frames_of([before] * 7 + [after] * 12), landmarker).tracks[1]
    assert 1.4 <= guest.times[0] <= 2.4
    assert np.diff(guest.times) == pytest.approx(0.2, abs=1e-5)


def test_no_face(landmarker: FaceLandmarker):
    noise = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    assert track_faces(frames_of([PLAIN] * 3 + [noise] * 3), landmarker) == Tracking([], 6, [])
    assert track_faces(iter([]), landmarker) == Tracking([], 0, [])
    assert track_faces(iter([]), landmarker, face_crop=True) == Tracking([], 0, [])


def test_spurious_short_track_is_dropped_unless_alone(
    portrait: np.ndarray, other_portrait: np.ndarray, landmarker: FaceLandmarker
):
    steady = scene((portrait, placing(170, 180)))
    flash = scene((portrait, placing(170, 180)), (other_portrait, placing(470, 180)))
    tracking = track_faces(frames_of([steady] * 15 + [flash] + [steady] * 15), landmarker)
    assert [len(track.times) for track in tracking.tracks] == [31]
    alone = track_faces(frames_of([PLAIN] * 30 + [steady]), landmarker)
    assert [len(track.times) for track in alone.tracks] == [1]


def test_blurred_frames_are_unusable_and_said_so(portrait: np.ndarray, landmarker: FaceLandmarker):
    sharp = scene((portrait, placing(320, 180, 1.2)))
    blurred = cv2.GaussianBlur(sharp, (0, 0), 5)
    tracking = track_faces(frames_of([sharp] * 6 + [blurred] * 3), landmarker)
    (track,) = tracking.tracks
    assert track.usable.tolist() == [True] * 6 + [False] * 3
    assert tracking.warnings == ["Person 1: 3 of 9 frames left out, mostly too blurred."]


def test_best_third_is_used_where_all_is_poor(portrait: np.ndarray, landmarker: FaceLandmarker):
    sharp = scene((portrait, placing(320, 180, 1.2)))
    pictures = [cv2.GaussianBlur(sharp, (0, 0), sigma) for sigma in (5, 4.5, 5.5, 5, 4.6, 5.2, 5)]
    tracking = track_faces(frames_of(pictures), landmarker)
    (track,) = tracking.tracks
    assert (track.quality < USABLE).all()
    assert track.usable.sum() == 3
    assert track.quality[track.usable].min() >= track.quality[~track.usable].max()
    assert len(tracking.warnings) == 1
    assert "best 3 of 7 frames" in tracking.warnings[0]


def test_same_frames_same_result(portrait: np.ndarray, other_portrait: np.ndarray, landmarker: FaceLandmarker):
    pictures = [
        scene((portrait, placing(150 + 10 * i, 180)), (other_portrait, placing(500 - 5 * i, 150, 0.6)))
        for i in range(8)
    ]
    first, second = (track_faces(frames_of(pictures), landmarker) for _ in range(2))
    assert len(first.tracks) == len(second.tracks) == 2
    for one, other in zip(first.tracks, second.tracks):
        for name in ("times", "boxes", "crops", "blendshapes", "pose", "quality", "usable"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


def test_progress_and_one_frame_at_a_time(portrait: np.ndarray, landmarker: FaceLandmarker):
    """A frame is asked for only after the one before is done."""
    done: list[int] = []
    picture = scene((portrait, placing(320, 180)))

    def frames():
        for number, frame in enumerate(frames_of([picture] * 4)):
            assert done == list(range(1, number + 1))
            yield frame

    track_faces(frames(), landmarker, progress=done.append)
    assert done == [1, 2, 3, 4]


@pytest.mark.parametrize("side", [48, 130, 400])
def test_face_crop_with_landmarks(side: int, portrait: np.ndarray, landmarker: FaceLandmarker):
    grey = cv2.cvtColor(cv2.cvtColor(portrait[50:200, 55:205], cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    crop = cv2.resize(grey, (side, side), interpolation=cv2.INTER_AREA)
    tracking = track_faces(frames_of([crop]), landmarker, face_crop=True)
    check(tracking)
    (track,) = tracking.tracks
    assert tracking.frames_seen == 1
    assert not np.isnan(track.blendshapes).any()
    (expected,) = landmarker(portrait)
    assert track.boxes[0] == pytest.approx((expected.box - (55, 50, 55, 50)) * side / 150, abs=0.06 * side)
    assert track.crops[0].std() > 20


def test_face_crop_without_landmarks_is_the_picture(landmarker: FaceLandmarker):
    texture = np.random.default_rng(0).integers(0, 256, (48, 48, 3), dtype=np.uint8)
    tracking = track_faces(frames_of([texture]), landmarker, face_crop=True)
    check(tracking)
    (track,) = tracking.tracks
    assert np.isnan(track.blendshapes).all()
    assert np.isnan(track.pose).all()
    assert track.boxes[0].tolist() == [0, 0, 48, 48]
    assert np.corrcoef(cv2.resize(track.crops[0], (48, 48)).ravel(), texture.ravel())[0, 1] > 0.9
    assert tracking.warnings[-1] == "No landmarks were found in 1 of 1 face crops; these were read by pixels alone."


def test_no_more_than_eight_faces_of_a_crowd():
    """Of eleven faces the eight largest are followed."""

    def crowd(image: np.ndarray) -> list[Detection]:
        faces = []
        for number in range(11):
            size = 30.0 + number
            points = np.random.default_rng(number).uniform(0, size, (478, 3)).astype(np.float32)
            points += (55 * number, 100, 0)
            points[33], points[263] = (55 * number, 110, 0), (55 * number + size, 110, 0)
            box = np.concatenate([points.min(0)[:2], points.max(0)[:2]])
            faces.append(Detection(box, points, np.zeros(52, np.float32), np.zeros(3, np.float32)))
        return faces if image.shape == PLAIN.shape else []

    noise = np.random.default_rng(0).integers(0, 256, PLAIN.shape, dtype=np.uint8)
    tracks = track_faces(frames_of([noise] * 3), crowd).tracks
    assert len(tracks) == 8
    assert min(x_of(track)[0] for track in tracks) > 150
