"""Which Action Units a face shows together, and the head's expressions that show them.

An AU at intensity 5 is its ARKit action (``facs.ARKIT_TO_AU``) at weight 1, times the head's gain, on both sides, and
0-5 is linear in the weight; the label is the mean of the two sides as drawn. AU25 has no action of its own: it is
measured on the mesh as the height of the opening between the lips. So the labels are exact for the mesh, while how
strong a 5 looks is the sculptor's choice, not a FACS coder's.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from emollm.data.creases import Sides
from emollm.data.head import Head
from emollm.facs import ARKIT_TO_AU, AU_CODES, MAX_INTENSITY, PROTOTYPES

# Lip opening, as a share of the distance between the outer eye corners, that counts as AU25 at 5: half a yawn.
WIDE_OPEN = 0.2

ACTION_OF = {au: action for action, au in ARKIT_TO_AU.items()}
# The muscles cannot do both, or the mesh would pass through itself: the first of a pair silences the second.
_EXCLUDES = {"AU45": ("AU5", "AU7"), "AU24": ("AU25", "AU26"), "AU12": ("AU15",)}
# Movements without a label here that real faces also make; a reader must not take them for one of the 17.
DISTRACTORS = ("mouthFunnel", "mouthPucker", "jawLeft", "jawRight", "mouthLeft", "mouthRight", "cheekPuff")


@dataclass(frozen=True)
class Expression:
    """Weights 0-1 of a head's expressions."""

    weights: dict[str, float]

    def sides(self, head: Head) -> dict[str, tuple[float, float]]:
        """Strength 0-1 of every AU that has an action, on the subject's right and left."""
        found = {}
        for au, action in ACTION_OF.items():
            names = head.sides(action)  # one name for both sides, or the left one before the right one
            if names:
                found[au] = (self.weights.get(names[-1], 0.0), self.weights.get(names[0], 0.0))
        return found

    def intensities(self, head: Head, gap: float) -> dict[str, float]:
        """AU intensities 0-5 as drawn; ``gap`` is the lip opening beyond the mean face's at rest."""
        aus = {au: sum(both) / 2 * MAX_INTENSITY for au, both in self.sides(head).items()}
        aus["AU25"] = float(np.clip(gap / WIDE_OPEN, 0, 1)) * MAX_INTENSITY
        return {code: aus.get(code, 0.0) for code in AU_CODES}


def show(head: Head, person: np.ndarray, weights: Mapping[str, float]) -> tuple[np.ndarray, dict[str, float], Sides]:
    """A person's vertices (V, 3) under these weights, the AU intensities 0-5 that they show, and their two sides."""
    expression = Expression(dict(weights))
    vertices = head.pose(person, expression.weights)
    aus = expression.intensities(head, head.lip_gap(vertices) - head.lip_gap(head.neutral))
    return vertices, aus, expression.sides(head)


def choose_aus(rng: np.random.Generator, neutral_share: float, prototype_share: float) -> dict[str, float]:
    """Intensities 0-5 to aim at: nothing, a prototype with some of its AUs missing, or any 0-5 AUs together."""
    if rng.random() < neutral_share:
        return {}
    if rng.random() < prototype_share:
        prototypes = [codes for codes in PROTOTYPES.values() if codes]
        codes = [code for code in prototypes[rng.integers(len(prototypes))] if rng.random() > 0.2]
        strength = rng.uniform(1.0, 5.0)
        wanted = {code: min(strength * rng.uniform(0.6, 1.3), MAX_INTENSITY) for code in codes}
        if rng.random() < 0.15:
            wanted["AU45"] = rng.uniform(0.5, 5)
    else:
        codes = rng.choice(AU_CODES, size=rng.integers(0, 6), replace=False).tolist()
        wanted = {code: rng.uniform(0.3, 5) for code in codes}
    for first, silenced in _EXCLUDES.items():
        if wanted.get(first, 0) >= 1:
            wanted = {code: value for code, value in wanted.items() if code not in silenced}
    return wanted


def unevenness(rng: np.random.Generator, au: str) -> tuple[float, float]:
    """Factors on an AU's intensity on the subject's left and right: nearly equal, seldom almost on one side only."""
    factors = np.clip(1 + rng.normal(0, 0.12, 2), 0, None)
    # Contempt is typically seen on one side.
    if rng.random() < (0.3 if au == "AU14" else 0.06):
        factors[rng.integers(2)] *= rng.uniform(0, 0.4)
    return float(factors[0]), float(factors[1])


def weigh(head: Head, levels: Mapping[str, tuple[float, float]]) -> dict[str, float]:
    """Weights that show AUs at these intensities on the subject's left and right.

    AU25 alone pulls the lower lip down; the jaw, which parts the lips too, is the caller's to move.
    """
    weights: dict[str, float] = {}
    for au, both in levels.items():
        names = head.sides(ACTION_OF.get(au, "mouthLowerDown"))
        if len(names) == 1:
            both = (sum(both) / 2,)  # type: ignore[assignment]
        for name, level in zip(names, both):
            weights[name] = float(np.clip(level / MAX_INTENSITY, 0, 1))
    return weights


def glance(head: Head, across: float, up: float) -> dict[str, float]:
    """Weights that turn both eyes to the subject's right (``across`` > 0) and up, on the scale of the actions."""
    weights = {}
    for side, inward in (("L", across), ("R", -across)):
        for way, amount in {"In": inward, "Out": -inward, "Up": up, "Down": -up}.items():
            if f"eyeLook{way}_{side}" in head.expressions:
                weights[f"eyeLook{way}_{side}"] = float(np.clip(amount, 0, 0.8))
    return weights


def express(head: Head, aus: Mapping[str, float], rng: np.random.Generator) -> Expression:
    """A still face that shows these AUs, a little uneven between the sides, with glances and distractors."""
    levels = {au: tuple(value * side for side in unevenness(rng, au)) for au, value in aus.items()}
    weights = weigh(head, levels)  # type: ignore[arg-type]
    if "AU25" in aus and "AU26" not in aus:  # lips hardly part without the jaw
        ajar = min(0.06 * aus["AU25"], 0.25) * rng.random()
        weights |= dict.fromkeys(head.sides("jawOpen"), ajar)
    elif "AU26" in aus and "AU25" not in aus and rng.random() < 0.25:  # the jaw drops behind closed lips
        weights |= dict.fromkeys(head.sides("mouthClose"), weights.get("jawOpen", 0.0))
    weights |= glance(head, *rng.normal(0, 0.25, 2))
    if aus and rng.random() < 0.12:
        distractor, amount = str(rng.choice(DISTRACTORS)), rng.uniform(0.1, 0.7)
        weights |= dict.fromkeys(head.sides(distractor), amount)
    return Expression(weights)
