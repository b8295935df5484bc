import numpy as np
import pytest
import torch
from fakes import make_faces
from sklearn.metrics import f1_score

from emollm.emotions import EXPRESSIONS
from emollm.model.face_encoder import FaceEncoder
from emollm.train.calibrate import refit_units, shift_units, weigh_prior


@pytest.fixture
def tower(parts):
    return FaceEncoder.from_pretrained(parts.face_tower)


def test_the_prior_is_that_of_the_faces(tower):
    faces, before = make_faces(), tower.expression_head.bias.detach().clone()
    voted = ~np.isnan(faces.expression).any(-1)
    share = np.bincount(faces.expression[voted].argmax(-1), minlength=len(EXPRESSIONS)).clip(1) / voted.sum()
    weigh_prior(tower, faces, 1.0)
    moved = (tower.expression_head.bias - before).detach().numpy()
    np.testing.assert_allclose(moved - moved[0], 0.5 * np.log(share / share[0]), atol=1e-5)
    weigh_prior(tower, faces, -1.0)
    torch.testing.assert_close(tower.expression_head.bias.detach(), before)


def test_units_that_are_measured_too_low_are_raised_and_others_left(tower):
    random = np.random.default_rng(0)
    exact = np.where(random.random((400, 17)) < 0.4, random.uniform(1, 5, (400, 17)), 0.0)
    measured = exact.clip(0.05, 4.9)
    measured[:, 0] *= 0.6
    before = tower.au_head.bias.detach().clone()
    shifts = shift_units(tower, measured, exact)
    assert shifts[0] > 0.3
    assert not shifts[1:].any()
    torch.testing.assert_close(tower.au_head.bias.detach() - before, torch.tensor(shifts, dtype=torch.float32))
    share = measured[:, 0] / 5
    raised = 5 / (1 + np.exp(-(np.log(share / (1 - share)) + shifts[0])))
    present = exact[:, 0] >= 1
    assert f1_score(present, raised >= 1) > f1_score(present, measured[:, 0] >= 1)


def test_the_head_of_units_is_fitted_again_and_nothing_else(tower):
    torch.manual_seed(0)
    hidden = torch.randn(600, tower.config.hidden_size)
    exact = 5 * torch.sigmoid(hidden @ torch.randn(17, tower.config.hidden_size).T - 1)
    before = {name: value.clone() for name, value in tower.state_dict().items()}

    def right():
        measured = 5 * torch.sigmoid(tower.au_head(hidden[400:])).detach()
        return float(((measured >= 1) == (exact[400:] >= 1)).float().mean())

    untrained = right()
    refit_units(tower, hidden[:400], exact[:400])
    assert right() > max(untrained + 0.1, 0.9)
    changed = {name for name, value in tower.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {"au_head.weight", "au_head.bias"}
    assert all(parameter.grad is None for parameter in tower.parameters())


def test_a_head_that_nothing_speaks_against_stays(tower):
    before = tower.au_head.weight.detach().clone()
    hidden = torch.zeros(50, tower.config.hidden_size)
    refit_units(tower, hidden, torch.zeros(50, 17))
    torch.testing.assert_close(tower.au_head.weight.detach(), before)
