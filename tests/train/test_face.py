import json

import numpy as np
import pytest
import torch
from fakes import make_faces
from safetensors.torch import save_file

from emollm.data.faces import Faces
from emollm.eval import provenance
from emollm.model.configuration_emollm import FaceEncoderConfig
from emollm.model.face_encoder import FaceEncoder
from emollm.train import face as module
from emollm.train.backbone import PIXEL_SPREAD
from emollm.train.face import FaceCollator, FaceObjective, FaceRecipe, face_metrics, train_face


@pytest.fixture
def recipe(tmp_path, data, parts):
    return FaceRecipe(
        output=tmp_path / "run",
        sources={"fake": data / "nowhere"},  # the prepared crops are cached
        cache=data / "faces",
        start_from=parts.face_tower,
        batch_size=12,
        max_steps=3,
    )


def state_of(recipe, step):
    return json.loads((recipe.output / "checkpoints" / f"checkpoint-{step}" / "trainer_state.json").read_text())


def test_a_run_saves_a_tower_and_tells_its_scores(recipe, parts):
    scores = train_face(recipe)
    assert {"war", "uar", "au_f1", "au_mae"} <= scores.keys()
    assert all(np.isfinite(value) for value in scores.values())
    assert json.loads((recipe.output / "machine.json").read_text()) == provenance.hardware()
    tower, before = (FaceEncoder.from_pretrained(folder).state_dict() for folder in (recipe.output, parts.face_tower))
    changed = {key for key, value in tower.items() if not torch.equal(value, before[key])}
    assert {"au_head.weight", "expression_head.weight", "va_head.weight", "stem.weight"} <= changed


def test_a_run_goes_on_where_it_stopped(recipe):
    train_face(recipe)
    train_face(recipe.model_copy(update={"max_steps": 6}))
    steps = [entry["step"] for entry in state_of(recipe, 6)["log_history"] if "eval_loss" in entry]
    assert steps == [3, 6]  # the first epoch was not trained again


def test_pseudo_labels_and_drawing_by_weight(recipe):
    scores = train_face(recipe.model_copy(update={"pseudo_aus": True, "render_share": 0.5}))
    assert np.isfinite(scores["au_mae"])


def test_a_run_may_start_from_a_network_that_knows_faces(recipe, monkeypatch, tmp_path):
    torch.manual_seed(3)
    donor = FaceEncoder(FaceEncoderConfig(image_size=24, widths=[4, 8], hidden_size=16))
    names = {"stem.weight", *(f"blocks.{i}.{kind}.weight" for i in range(2) for kind in ("depthwise", "pointwise"))}
    state = {name: donor.state_dict()[name].clone() for name in names}
    state |= {name.replace("weight", "bias"): torch.zeros(len(state[name])) for name in names}
    save_file(state, tmp_path / "mobilenet.safetensors")
    monkeypatch.setattr(module, "fetch", lambda name: {"face_backbone": tmp_path}[name])
    train_face(recipe.model_copy(update={"backbone": True, "learning_rate": 1e-9}))
    tower = FaceEncoder.from_pretrained(recipe.output).state_dict()
    torch.testing.assert_close(tower["stem.weight"], PIXEL_SPREAD * state["stem.weight"], rtol=1e-3, atol=1e-4)


@pytest.fixture
def objective():
    torch.manual_seed(0)
    return FaceObjective(FaceEncoder(FaceEncoderConfig(image_size=24, widths=[4, 8], hidden_size=16)), 1.0, 0.5).eval()


def test_missing_labels_cost_nothing(objective):
    faces = make_faces()
    collate = FaceCollator(faces, 24, augment=False)
    voted, render = 0, 2
    both = objective(**collate([voted, render]))["loss"]
    alone = [objective(**collate([row]))["loss"] for row in (voted, render)]
    assert both.isfinite()
    torch.testing.assert_close(both, alone[0] + alone[1], rtol=1e-3, atol=1e-3)
    both.backward()
    assert all(p.grad.isfinite().all() for p in objective.parameters() if p.grad is not None)


def test_the_adversary_learns_people_and_turns_the_tower_against_it():
    torch.manual_seed(0)
    faces = make_faces()
    collate = FaceCollator(faces, 24, augment=False)
    batch = collate(np.flatnonzero(faces.origin == "exact").tolist())
    assert set(batch["person"].tolist()) == set(range(len(collate.people)))
    assert (collate(np.flatnonzero(faces.origin == "human").tolist())["person"] == -1).all()
    tower = FaceEncoder(FaceEncoderConfig(image_size=24, widths=[4, 8], hidden_size=16, dropout=0.0))
    objective = FaceObjective(tower, 0.0, 0.0, adversary_weight=1.0, people=len(collate.people))

    def told() -> float:
        """How badly the people are told apart."""
        return float(objective(**batch)["loss"])

    before = told()
    objective(**batch)["loss"].backward()
    with torch.no_grad():
        kept = {p: p.clone() for p in objective.parameters()}
        for p in objective.adversary.parameters():
            p -= 0.01 * p.grad
        assert told() < before
        for p in objective.adversary.parameters():
            p.copy_(kept[p])
        for p in tower.fuse.parameters():
            p -= 0.01 * p.grad
        assert told() > before


def test_validation_batches_are_not_augmented_and_do_not_score_pseudo_labels():
    faces = make_faces()
    faces.aus[:] = 1.0  # as if a regressor had filled them
    collate = FaceCollator(faces, 24, augment=False)
    batch, again = collate([0, 1, 2, 3]), collate([0, 1, 2, 3])
    assert torch.equal(batch["face_pixels"], again["face_pixels"])
    assert batch["aus"].isnan().all(1).tolist() == [True, True, False, True]


def test_training_batches_are_augmented():
    torch.manual_seed(0)
    collate = FaceCollator(make_faces(), 24, augment=True)
    rows = list(range(48))
    batch = collate(rows)
    assert batch["face_pixels"].shape == (48, 24, 24, 3)
    assert batch["face_pixels"].dtype == torch.uint8
    assert 0 < batch["blendshapes"].isnan().any(1).float().mean() < 1
    assert not torch.equal(batch["face_pixels"], collate(rows)["face_pixels"])


def test_patches_are_rectangles_of_up_to_two_fifths():
    torch.manual_seed(0)
    patches = FaceCollator(make_faces(), 40, augment=True)._patches(64)
    down, across = patches.any(2), patches.any(1)
    assert torch.equal(patches, down[:, :, None] & across[:, None, :])
    for sides in (down.sum(1), across.sum(1)):
        assert 1 <= int(sides.min()) < int(sides.max()) < 40 * 2 / 5
    assert len({tuple(one.flatten().tolist()) for one in patches}) > 60


def test_mixup_blends_faces_with_labels_of_one_kind_only():
    torch.manual_seed(0)
    faces = make_faces()
    collate = FaceCollator(faces, 24, augment=True, mixup=1.0)
    batch = collate(list(range(len(faces))))
    voted, coded = ~np.isnan(faces.expression).any(1), ~np.isnan(faces.aus).all(1)
    torch.testing.assert_close(batch["aus"][coded & ~voted], torch.from_numpy(faces.aus[coded & ~voted]))
    assert torch.equal(~batch["expression"].isnan().any(1), torch.from_numpy(voted))  # no label was lost to a blend
    assert torch.equal(~batch["aus"].isnan().all(1), torch.from_numpy(coded))
    blended = batch["expression"][voted]
    assert torch.allclose(blended.sum(1), torch.ones(len(blended)))
    assert (blended != torch.from_numpy(faces.expression[voted])).any(1).float().mean() > 0.3
    assert (blended.argmax(1) == torch.from_numpy(faces.expression[voted]).argmax(1)).all()  # its own share is larger


def test_a_recipe_says_how_the_tower_is_built_and_may_resize_an_earlier_one(recipe):
    train_face(recipe.model_copy(update={"tower": {"image_size": 20}}))
    assert FaceEncoder.from_pretrained(recipe.output).config.image_size == 20


def test_metrics_of_a_perfect_and_of_a_constant_guess():
    expression = np.eye(8)[[0, 0, 0, 1]]
    aus = np.full((4, 17), np.nan)
    aus[2:] = [[3.0] * 17, [0.0] * 17]

    class Prediction:
        label_ids = (expression, aus)

    Prediction.predictions = (expression, np.nan_to_num(aus))
    assert face_metrics(Prediction) == {"war": 1.0, "uar": 1.0, "au_f1": 1.0, "au_mae": 0.0}
    Prediction.predictions = (np.eye(8)[[0] * 4], np.zeros((4, 17)))
    scores = face_metrics(Prediction)
    assert (scores["war"], scores["uar"], scores["au_f1"], scores["au_mae"]) == (0.75, 0.5, 0.0, 1.5)


def test_faces_survive_their_file(tmp_path):
    faces = make_faces()
    faces.save(tmp_path / "new" / "a.npz")
    loaded = Faces.load(tmp_path / "new" / "a.npz")
    for key, value in vars(faces).items():
        np.testing.assert_array_equal(value, getattr(loaded, key))
    assert len(Faces.concatenate([faces, loaded])) == 2 * len(faces)
    assert loaded.subset(loaded.valid).valid.all()
