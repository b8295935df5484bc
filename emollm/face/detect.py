"""Face finding with MediaPipe Face Landmarker: boxes, 478 landmarks, 52 blendshapes and head pose for every face."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import cv2
import numpy as np

from emollm.errors import EmoLLMError
from emollm.face import SYSTEM_LIBRARIES_SENTENCE

MAX_FACES = 8

# MediaPipe's order (ARKit names); "_neutral" is a constant output of its network.
BLENDSHAPES: tuple[str, ...] = (
    "_neutral", "browDownLeft", "browDownRight", "browInnerUp", "browOuterUpLeft", "browOuterUpRight", "cheekPuff",
    "cheekSquintLeft", "cheekSquintRight", "eyeBlinkLeft", "eyeBlinkRight", "eyeLookDownLeft", "eyeLookDownRight",
    "eyeLookInLeft", "eyeLookInRight", "eyeLookOutLeft", "eyeLookOutRight", "eyeLookUpLeft", "eyeLookUpRight",
    "eyeSquintLeft", "eyeSquintRight", "eyeWideLeft", "eyeWideRight", "jawForward", "jawLeft", "jawOpen", "jawRight",
    "mouthClose", "mouthDimpleLeft", "mouthDimpleRight", "mouthFrownLeft", "mouthFrownRight", "mouthFunnel",
    "mouthLeft", "mouthLowerDownLeft", "mouthLowerDownRight", "mouthPressLeft", "mouthPressRight", "mouthPucker",
    "mouthRight", "mouthRollLower", "mouthRollUpper", "mouthShrugLower", "mouthShrugUpper", "mouthSmileLeft",
    "mouthSmileRight", "mouthStretchLeft", "mouthStretchRight", "mouthUpperUpLeft", "mouthUpperUpRight",
    "noseSneerLeft", "noseSneerRight",
)  # fmt: skip
_OTHER_SIDE = {"Left": "Right", "Right": "Left"}
#: Index of the blendshape that each one is in the mirror.
MIRRORED: tuple[int, ...] = tuple(
    BLENDSHAPES.index(next((name.removesuffix(s) + t for s, t in _OTHER_SIDE.items() if name.endswith(s)), name))
    for name in BLENDSHAPES
)


@dataclass(frozen=True)
class Detection:
    """One face in one picture; pixel coordinates of that picture.

    Attributes:
        box: ``(4,)`` float32, x0, y0, x1, y1: the bounds of the landmarks.
        landmarks: ``(478, 3)`` float32; z in the scale of x.
        blendshapes: ``(52,)`` float32 in [0, 1], in the order of :data:`BLENDSHAPES`.
        pose: ``(3,)`` float32 yaw, pitch, roll in degrees; 0 is facing the camera upright. Positive is turned to the
            right edge of the picture, looking down, and rotated counter-clockwise in the picture.
    """

    box: np.ndarray
    landmarks: np.ndarray
    blendshapes: np.ndarray
    pose: np.ndarray


class FaceLandmarker:
    """MediaPipe Face Landmarker in image mode; a context manager, since its native threads must be closed.

    Raises:
        EmoLLMError: a system library that MediaPipe needs is absent; the sentence tells how to install it.
    """

    def __init__(self, task: Path, max_faces: int = MAX_FACES):
        try:
            import mediapipe
            from mediapipe.tasks.python import vision

            with _native_stderr_muted():
                self._landmarker = vision.FaceLandmarker.create_from_options(landmarker_options(task, max_faces))
        except OSError as error:
            raise EmoLLMError(SYSTEM_LIBRARIES_SENTENCE) from error
        self._mediapipe = mediapipe

    def __call__(self, image: np.ndarray) -> list[Detection]:
        """All faces of ``image`` (``(H, W, 3)`` uint8 RGB), in MediaPipe's order."""
        height, width = image.shape[:2]
        packed = self._mediapipe.Image(image_format=self._mediapipe.ImageFormat.SRGB, data=np.ascontiguousarray(image))
        result = self._landmarker.detect(packed)
        detections = []
        for points, shapes, matrix in zip(
            result.face_landmarks, result.face_blendshapes, result.facial_transformation_matrixes
        ):
            landmarks = np.array([(p.x * width, p.y * height, p.z * width) for p in points], np.float32)
            xy = landmarks[:, :2]
            detections.append(
                Detection(
                    box=np.concatenate([xy.min(0), xy.max(0)]),
                    landmarks=landmarks,
                    blendshapes=np.array([c.score for c in shapes], np.float32),
                    pose=_pose(np.asarray(matrix)),
                )
            )
        return detections

    def close(self) -> None:
        self._landmarker.close()

    def __enter__(self) -> FaceLandmarker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def landmarker_options(task: Path, max_faces: int = MAX_FACES, **more: Any) -> Any:
    """MediaPipe's options as we use them; the benchmark measures the bare landmarker with the same ones."""
    from mediapipe.tasks.python import BaseOptions, vision

    return vision.FaceLandmarkerOptions(
        base_options=BaseOptions(model_asset_path=str(task)),
        output_face_blendshapes=True,
        output_facial_transformation_matrixes=True,
        num_faces=max_faces,
        **more,
    )


@contextmanager
def _native_stderr_muted() -> Iterator[None]:
    """Swallow what MediaPipe's C++ start-up prints for its own developers; no setting turns it off."""
    kept = os.dup(2)
    sink = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(sink, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(sink)


def _pose(matrix: np.ndarray) -> np.ndarray:
    """Yaw, pitch, roll in degrees of a 4x4 facial transformation matrix (x right, y up, z towards the camera)."""
    angles = cv2.RQDecomp3x3(matrix[:3, :3].astype(np.float64))[0]
    return np.array([angles[1], angles[0], angles[2]], np.float32)
