"""The last touch to a trained face tower: offsets of its heads, found without gradient and kept in their biases."""

from __future__ import annotations

import numpy as np
import torch
from sklearn.metrics import f1_score

from emollm.data.faces import Faces
from emollm.facs import AU_CODES, MAX_INTENSITY, PRESENT
from emollm.model.face_encoder import FaceEncoder

OFFSETS = np.linspace(-1.0, 1.0, 41)  # logits


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
    line = np.log(PRESENT / (MAX_INTENSITY - PRESENT))
    shifts = np.zeros(len(AU_CODES))
    for unit in range(len(AU_CODES)):
        scores = [f1_score(present[:, unit], logits[:, unit] + o >= line, zero_division=0) for o in OFFSETS]
        best = np.flatnonzero(np.array(scores) >= max(scores) - 1e-9)
        shifts[unit] = OFFSETS[best[np.abs(OFFSETS[best]).argmin()]]
    tower.au_head.bias.add_(torch.from_numpy(shifts))
    return shifts
