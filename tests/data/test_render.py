from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from emollm.data.head import Head, load_head
from emollm.data.looks import Looks
from emollm.data.phenotypes import Traits
from emollm.data.raster import rasterise, vertex_normals
from emollm.data.render import Renderer
from emollm.data.scene import Pose, Scene, background
from emollm.errors import BadArgumentError

SIZE = 96


@pytest.fixture(scope="module")
def head(head_file: Path) -> Head:
    return load_head(head_file, {})


@pytest.fixture
def looks() -> Looks:
    looks = Looks.random(np.random.default_rng(3), Traits(years=30, feminine=1.0))
    return replace(looks, beard=0.0, creases=1.0, wrinkles=0.0, hairline=9.0)


@pytest.fixture
def scene() -> Scene:
    clean = replace(Scene.random(np.random.default_rng(1)), noise=0.0, blur=0.0, coarse=1.0)
    clean = replace(clean, offset=np.zeros(2, np.float32), rim=np.zeros(3, np.float32))
    return replace(clean, pose=Pose(0, 0, 0), face_share=0.6, distance=4.0)


def test_the_nearer_triangle_hides_the_farther_and_attributes_follow_perspective() -> None:
    screen = np.array([[0, 0, 2], [9, 0, 2], [0, 9, 2], [0, 0, 1], [4, 0, 1], [0, 4, 1]], np.float32)
    faces = np.array([[3, 4, 5], [0, 1, 2]], np.int32)  # the near one first: order must not decide
    triangle, values = rasterise(screen, faces, screen[:, 2:].copy(), 10, 10)
    assert triangle[1, 1] == 0
    assert triangle[5, 3] == 1
    assert triangle[9, 9] == -1
    assert values[1, 1, 0] == pytest.approx(1)
    slanted = np.array([[0, 0, 1], [8, 0, 3], [0, 8, 1]], np.float32)
    _, values = rasterise(slanted, np.array([[0, 1, 2]], np.int32), slanted[:, 2:].copy(), 9, 9)
    assert values[0, 4, 0] == pytest.approx(1 / (0.5 / 1 + 0.5 / 3), rel=1e-5)  # depth is linear in 1 / z


def test_normals_point_out_of_the_face(head: Head) -> None:
    normals = vertex_normals(head.neutral, head.faces)
    assert np.allclose(np.linalg.norm(normals, axis=1), 1, atol=1e-4)
    assert normals[head.landmarks[30], 2] > 0.9


@pytest.mark.parametrize(
    ("pose", "angles"), [((20, 0, 0), (0, 20, 0)), ((0, 10, 0), (10, 0, 0)), ((0, 0, 7), (0, 0, 7))]
)
def test_pose_signs_are_those_of_the_face_finder(pose: tuple[float, ...], angles: tuple[float, ...]) -> None:
    assert cv2.RQDecomp3x3(Pose(*pose).matrix().astype(float))[0] == pytest.approx(angles, abs=1e-3)


def test_a_picture_shows_a_face_before_a_background(head: Head, looks: Looks, scene: Scene) -> None:
    renderer = Renderer(head)
    picture = renderer.draw(head.neutral, {}, looks, scene, SIZE)
    other = renderer.draw(head.neutral, {}, looks, replace(scene, seed=scene.seed + 7), SIZE)
    assert picture.shape == (SIZE, SIZE, 3)
    assert picture.dtype == np.uint8
    same = (picture == other).all(axis=2)
    assert same[SIZE // 2, SIZE // 2]
    assert 0.25 < same.mean() < 0.75  # the face covers its share; the rest is another background
    assert (picture == renderer.draw(head.neutral, {}, looks, scene, SIZE)).all()


def test_turning_the_head_moves_the_mouth_sideways(head: Head, looks: Looks, scene: Scene) -> None:
    renderer = Renderer(head)
    skin, red = (replace(looks, lips=np.array(lips, np.float32)) for lips in ((1, 1, 1), (1, 0, 0)))

    def mouth_column(yaw: float) -> float:
        turned = replace(scene, pose=Pose(yaw, 0, 0))
        plain, painted = (renderer.draw(head.neutral, {}, who, turned, SIZE).astype(int) for who in (skin, red))
        return float(np.average(np.arange(SIZE), weights=np.abs(plain - painted).sum(axis=(0, 2))))

    assert mouth_column(25) > mouth_column(0) + 0.5
    assert mouth_column(-25) < mouth_column(0) - 0.5


@pytest.mark.parametrize("code", ["AU1", "AU2", "AU4", "AU6", "AU7", "AU9", "AU12", "AU15", "AU17", "AU24"])
def test_creases_deepen_with_the_action_unit(code: str, head: Head, looks: Looks, scene: Scene) -> None:
    renderer = Renderer(head)
    plain, weak, full = (
        renderer.draw(head.neutral, {code: (level, level)}, looks, scene, SIZE).astype(int)
        for level in (0.0, 0.5, 1.0)
    )
    assert 0 < np.abs(plain - weak).sum() < np.abs(plain - full).sum()
    smooth = replace(looks, creases=0.0, lips=np.ones(3, np.float32))
    unmoved, moved = (renderer.draw(head.neutral, {code: (x, x)}, smooth, scene, SIZE) for x in (0.0, 1.0))
    assert (unmoved == moved).all()


def test_one_side_alone_can_fold(head: Head, looks: Looks, scene: Scene) -> None:
    renderer = Renderer(head)
    plain, right = (
        renderer.draw(head.neutral, {"AU6": (side, 0.0)}, looks, scene, SIZE).astype(int) for side in (0.0, 1.0)
    )
    changed = np.abs(plain - right).sum(axis=(0, 2))
    assert (
        changed[: SIZE // 2].sum() > 20 * changed[SIZE // 2 + 3 :].sum()
    )  # the subject's right is the picture's left


def test_age_leaves_wrinkles_at_rest(head: Head, looks: Looks, scene: Scene) -> None:
    renderer = Renderer(head)
    young, old = (
        renderer.draw(head.neutral, {}, replace(looks, wrinkles=depth), scene, SIZE).astype(int)
        for depth in (0.0, 0.35)
    )
    assert np.abs(young - old).max() > 5


def test_backgrounds_differ_and_fill_the_picture() -> None:
    drawn = [background(32, seed) for seed in range(20)]
    assert all(picture.shape == (32, 32, 3) and picture.dtype == np.float32 for picture in drawn)
    assert all(picture.min() > 0 and picture.max() <= 1 for picture in drawn)
    assert len({picture.tobytes() for picture in drawn}) == 20
    assert (background(32, 4) == drawn[4]).all()


def test_brows_are_darker_than_the_forehead_and_move_with_it(head: Head, looks: Looks, scene: Scene) -> None:
    renderer = Renderer(head)

    def brow_row(vertices: np.ndarray) -> float:
        with_brows = renderer.draw(vertices, {}, looks, scene, SIZE).astype(int)
        without = renderer.draw(vertices, {}, replace(looks, brow_strength=0.0), scene, SIZE).astype(int)
        dark = np.clip(without - with_brows, 0, None).sum(axis=(1, 2))
        assert dark.sum() > 0
        return float(np.average(np.arange(SIZE), weights=dark))

    raised = head.pose(head.neutral, dict.fromkeys(head.sides("browInnerUp"), 1.0))
    assert brow_row(raised) < brow_row(head.neutral) - 0.5


def test_hidden_parts_are_not_drawn_and_gains_strengthen(head_file: Path, head: Head) -> None:
    hidden = load_head(head_file, {"hidden": [(0, 64)]})
    assert hidden.faces.min() > 64
    strong = load_head(head_file, {}, {"mouthSmile": 2.0})
    assert np.allclose(strong.expressions["mouthSmile_L"], 2 * head.expressions["mouthSmile_L"])
    assert np.allclose(strong.expressions["jawOpen"], head.expressions["jawOpen"])


def test_what_is_not_a_head_is_refused(head_file: Path, tmp_path: Path) -> None:
    (tmp_path / "text.npz").write_text("no")
    np.savez(tmp_path / "poor.npz", neutral=np.zeros((3, 3)))
    for name in ("text.npz", "poor.npz", "missing.npz"):
        with pytest.raises(BadArgumentError):
            load_head(tmp_path / name, {})
    with pytest.raises(BadArgumentError, match="horns"):
        load_head(head_file, {"horns": [(0, 1)]})
    with pytest.raises(BadArgumentError, match="mouthFrown"):
        load_head(head_file, {}, {"mouthFrown": 2.0})
