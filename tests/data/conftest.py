"""A small generated head: the front of an ellipsoid with the keys of a real blendshape head."""

from pathlib import Path

import numpy as np
import pytest

_ACTIONS = ("browInnerUp_L", "browInnerUp_R", "eyeBlink_L", "eyeBlink_R", "mouthSmile_L", "mouthSmile_R", "jawOpen")


def _ring(x: float, y: float, width: float, height: float, count: int) -> np.ndarray:
    """Points around an ellipse in iBUG order: from the picture's left over the top."""
    angle = np.pi - np.arange(count) * 2 * np.pi / count
    return np.column_stack([x + width * np.cos(angle), y + height * np.sin(angle)])


def _landmarks() -> np.ndarray:
    jaw = np.pi + np.linspace(0, np.pi, 17)
    brow = np.column_stack([np.linspace(-5.5, -1.2, 5), [5.2, 5.8, 6.2, 6.2, 6.0]])
    nose = np.column_stack([np.zeros(4), [3.6, 2.6, 1.6, 0.4]])
    return np.vstack([
        np.column_stack([7 * np.cos(jaw), 1 + 8 * np.sin(jaw)]),
        brow, brow[::-1] * [-1, 1],
        nose, np.column_stack([np.linspace(-1.3, 1.3, 5), np.full(5, -1.1)]),
        _ring(-3.2, 3.5, 1.3, 0.5, 6), _ring(3.2, 3.5, 1.3, 0.5, 6),
        _ring(0, -3.5, 2.5, 1.0, 12), _ring(0, -3.5, 2.2, 0.15, 8),
    ])  # fmt: skip


@pytest.fixture(scope="session")
def head_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    ys, xs = np.meshgrid(np.linspace(10, -9, 77), np.linspace(-8, 8, 65), indexing="ij")
    z = 10 * np.sqrt(np.clip(1 - (xs / 9) ** 2 - (ys / 12) ** 2, 0, None))
    neutral = np.column_stack([xs.ravel(), ys.ravel(), z.ravel()]).astype(np.float32)
    index = np.arange(neutral.shape[0]).reshape(ys.shape)
    a, b, c, d = (corner.ravel() for corner in (index[:-1, :-1], index[:-1, 1:], index[1:, :-1], index[1:, 1:]))
    marks = np.array([np.argmin(((neutral[:, :2] - spot) ** 2).sum(axis=1)) for spot in _landmarks()])

    def bump(x: float, y: float, move: tuple[float, float, float], radius: float = 1.5) -> np.ndarray:
        near = np.exp(-((neutral[:, 0] - x) ** 2 + (neutral[:, 1] - y) ** 2) / radius**2)
        return near[:, None] * np.array(move)

    offsets = {"jawOpen": (neutral[:, 1] < -3.52)[:, None] * np.array([0, -3.0, 0])}
    for side, sign in (("L", 1), ("R", -1)):
        offsets[f"browInnerUp_{side}"] = bump(sign * 2, 6, (0, 1, 0))
        offsets[f"eyeBlink_{side}"] = bump(sign * 3.2, 3.9, (0, -0.8, 0), 0.7)
        offsets[f"mouthSmile_{side}"] = bump(sign * 2.5, -3.5, (sign * 0.8, 1, 0))
    identities = np.random.default_rng(0).normal(0, 0.3, (5, 1, 3)) * neutral / 10
    path = tmp_path_factory.mktemp("head") / "head.npz"
    np.savez(
        path,
        neutral=neutral,
        faces=np.vstack([np.column_stack([a, c, b]), np.column_stack([b, c, d])]).astype(np.int32),
        expressions=np.stack([offsets[name] for name in _ACTIONS]).astype(np.float16),
        expression_names=np.array(_ACTIONS),
        identities=identities.astype(np.float16),
        landmark68=marks.astype(np.int32),
    )
    return path
