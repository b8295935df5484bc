"""The last touch to a trained face tower: its heads alone, by training faces as they are, not augmented."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.metrics import f1_score
from torch import Tensor

from emollm.data.faces import Faces
from emollm.facs import AU_CODES, MAX_INTENSITY, PRESENT
from emollm.model.face_encoder import FaceEncoder

OFFSETS = np.linspace(-1.0, 1.0, 41)  # logits
LINE = float(np.log(PRESENT / (MAX_INTENSITY - PRESENT)))  # logit of an AU that is just present
SLOPE, PRESENCE, NEAR = 2.5, 0.1, 1e-3  # of presence over the logit; weights of presence and of staying near


@torch.no_grad()
def weigh_prior(tower: FaceEncoder, faces: Faces, strength: float) -> None:
    """Undo the drawing of expressions by the square root of their frequency: 1 wholly, 0 not at all.

    A tower that saw rare expressions more often than they are expects them more often. Wholly undone it is right most
    often (WAR); as it was trained it is fairer to rare expressions (UAR).
    """
    voted = ~np.isnan(faces.expression).any(-1)
    count = np.bincount(faces.expression[voted].argmax(-1), minlength=faces.expression.shape[1])
    shift = 0.5 * np.log(np.maximum(count, 1) / max(count.sum(), 1))
    tower.expression_head.bias.add_(torch.from_numpy(strength * (shift - shift.mean())))


def refit_units(tower: FaceEncoder, hidden: Tensor, exact: Tensor) -> None:
    """Fit the AU head again on faces as they are (last layer retrained: Kirichenko et al. 2022,
    https://arxiv.org/abs/2204.02937); in training it saw them damaged, which costs it precision.

    Minimises the cross-entropy of intensity / 5, as training does, with a little of that of presence (intensity >= 1),
    and stays near the head as it was, which real faces taught as well.

    Args:
        hidden: ``(N, hidden_size)`` fused states.
        exact: ``(N, 17)`` intensities 0-5.
    """
    before, parameters = tower.au_head.weight.detach().clone(), list(tower.au_head.parameters())
    optimizer = torch.optim.LBFGS(parameters, max_iter=60)
    present = (exact >= PRESENT).float()

    def loss() -> Tensor:
        optimizer.zero_grad()
        logits = tower.au_head(hidden)
        error = F.binary_cross_entropy_with_logits(logits, exact / MAX_INTENSITY)
        error = error + PRESENCE * F.binary_cross_entropy_with_logits(SLOPE * (logits - LINE), present)
        error = error + NEAR * (tower.au_head.weight - before).square().sum(1).mean()
        error.backward()
        return error

    optimizer.step(loss)
    optimizer.zero_grad()


@torch.no_grad()
def shift_units(tower: FaceEncoder, units: np.ndarray, exact: np.ndarray) -> np.ndarray:
    """Shift each AU so that those at intensity >= 1 are told best from the others (F1).

    Mean intensities lie too low for that: where the tower is in doubt between absent and 2, it says 1.

    Args:
        units: ``(N, 17)`` what the tower measures.
        exact: ``(N, 17)`` what is there.

    Returns:
        ``(17,)`` the shifts in logits that were added to the head.
    """
    share = (units / MAX_INTENSITY).clip(1e-6, 1 - 1e-6)
    logits, present = np.log(share / (1 - share)), exact >= PRESENT
    shifts = np.zeros(len(AU_CODES))
    for unit in range(len(AU_CODES)):
        scores = [f1_score(present[:, unit], logits[:, unit] + o >= LINE, zero_division=0) for o in OFFSETS]
        best = np.flatnonzero(np.array(scores) >= max(scores) - 1e-9)
        shifts[unit] = OFFSETS[best[np.abs(OFFSETS[best]).argmin()]]
    tower.au_head.bias.add_(torch.from_numpy(shifts))
    return shifts
