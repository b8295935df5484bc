import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from emollm.errors import EmoLLMError
from emollm.face.detect import BLENDSHAPES, MIRRORED, Detection, FaceLandmarker, _pose
from emollm.weights import fetch


def test_shapes_and_smile(portrait: np.ndarray, portrait_face: Detection):
    face = portrait_face
    assert (face.box.shape, face.landmarks.shape, face.blendshapes.shape, face.pose.shape) == (
        (4,),
        (478, 3),
        (52,),
        (3,),
    )
    assert {face.box.dtype, face.landmarks.dtype, face.blendshapes.dtype, face.pose.dtype} == {np.dtype(np.float32)}
    shapes = dict(zip(BLENDSHAPES, face.blendshapes, strict=True))
    assert shapes["mouthSmileLeft"] > 0.5
    assert shapes["mouthFrownLeft"] < 0.1


def test_names_are_in_mediapipes_order(astronaut: np.ndarray, landmarker: FaceLandmarker):
    import mediapipe

    packed = mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=astronaut)
    result = landmarker._landmarker.detect(packed)
    assert tuple(shape.category_name for shape in result.face_blendshapes[0]) == BLENDSHAPES


@pytest.mark.parametrize(("axis", "position"), [("yaw", 0), ("pitch", 1), ("roll", 2)])
@pytest.mark.parametrize("degrees", [-40, 25])
def test_pose_of_a_pure_rotation(axis: str, position: int, degrees: float):
    vector = {"yaw": (0, 1, 0), "pitch": (1, 0, 0), "roll": (0, 0, 1)}[axis]
    matrix = np.eye(4)
    matrix[:3, :3] = cv2.Rodrigues(np.radians(degrees) * np.array(vector, float))[0]
    expected = np.zeros(3)
    expected[position] = degrees
    assert _pose(matrix) == pytest.approx(expected, abs=1e-3)


def test_pose_on_a_real_face(portrait: np.ndarray, landmarker: FaceLandmarker, portrait_face: Detection):
    (mirrored,) = landmarker(portrait[:, ::-1])
    assert mirrored.pose * (-1, 1, -1) == pytest.approx(portrait_face.pose, abs=3)
    # Squeezing one half of the picture brings the nose nearer to that side, as turning the head there does.
    squeezed = cv2.hconcat([cv2.resize(portrait[:, :130], (90, 260)), cv2.resize(portrait[:, 130:], (170, 260))])
    (turned,) = landmarker(squeezed)
    assert turned.pose[0] < portrait_face.pose[0] - 5


@pytest.mark.parametrize("degrees", [-20, 20])
def test_roll_is_counter_clockwise(
    degrees: float, portrait: np.ndarray, landmarker: FaceLandmarker, portrait_face: Detection
):
    turn = cv2.getRotationMatrix2D((130, 125), degrees, 1)
    (rolled,) = landmarker(cv2.warpAffine(portrait, turn, (260, 260), borderMode=cv2.BORDER_REPLICATE))
    assert rolled.pose[2] - portrait_face.pose[2] == pytest.approx(degrees, abs=5)


def test_start_prints_nothing(landmarker: FaceLandmarker, capfd: pytest.CaptureFixture[str]):
    with FaceLandmarker(fetch("face_landmarker", progress=False)) as another:
        another(np.zeros((200, 200, 3), np.uint8))
    assert capfd.readouterr() == ("", "")


def test_missing_system_library_of_mediapipe_is_one_sentence(monkeypatch: pytest.MonkeyPatch):
    from mediapipe.tasks.python import vision

    def broken(options: object) -> None:
        raise OSError("libEGL.so.1: cannot open shared object file: No such file or directory")

    monkeypatch.setattr(vision.FaceLandmarker, "create_from_options", broken)
    with pytest.raises(EmoLLMError, match="apt-get install -y libegl1 libgles2 libgl1"):
        FaceLandmarker(Path("any.task"))


def test_missing_system_library_of_opencv_is_the_same_sentence(tmp_path: Path):
    (tmp_path / "cv2.py").write_text("raise ImportError('libGL.so.1: cannot open shared object file')")
    program = "import emollm.errors\ntry:\n import emollm.face.track\nexcept emollm.errors.EmoLLMError as e: print(e)"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert "apt-get install -y libegl1 libgles2 libgl1" in done.stdout


def test_what_is_left_is_right_in_the_mirror():
    assert [MIRRORED[MIRRORED[i]] for i in range(52)] == list(range(52))
    assert BLENDSHAPES[MIRRORED[BLENDSHAPES.index("mouthSmileLeft")]] == "mouthSmileRight"
    assert MIRRORED[BLENDSHAPES.index("jawOpen")] == BLENDSHAPES.index("jawOpen")
