"""Rules without a trained model of ours: MediaPipe's blendshapes -> Action Units -> EMFACS prototypes -> emotion."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from emollm.data.explain import Facts, Phase, answer, named_units, thought
from emollm.emotions import EXPRESSIONS
from emollm.errors import BadArgumentError, NothingToReadError
from emollm.eval.baselines.clips import main_face
from emollm.eval.baselines.wording import normalised, words
from emollm.eval.cards import BenchmarkCard
from emollm.eval.schema import Reply, Sample
from emollm.face.detect import BLENDSHAPES
from emollm.facs import ARKIT_TO_AU, AU_CODES, BLINK, MAX_INTENSITY, PROTOTYPES
from emollm.reasoning.parse import parse_answer

# Blendshapes of a face at rest, and the spread of AU intensities (0-5) made of them: mean over the 9,669 neutral and
# standard deviation over all 26,261 training faces of FER+ in which MediaPipe finds landmarks. AU6 and AU9 are
# missing: MediaPipe's cheekSquint and noseSneer are 0 on every face; AU25 has no blendshape.
AT_REST = {
    "AU1": 0.19, "AU2": 0.24, "AU4": 0.09, "AU5": 0.03, "AU7": 0.27, "AU10": 0.01, "AU12": 0.02, "AU14": 0.01,
    "AU15": 0.04, "AU17": 0.06, "AU20": 0.03, "AU24": 0.05, "AU26": 0.04, "AU45": 0.12,
}  # fmt: skip
SPREAD = {
    "AU1": 1.38, "AU2": 1.28, "AU4": 0.76, "AU5": 0.32, "AU7": 0.84, "AU10": 0.99, "AU12": 1.57, "AU14": 0.14,
    "AU15": 0.39, "AU17": 0.44, "AU20": 0.63, "AU24": 0.27, "AU26": 0.83, "AU45": 0.76,
}  # fmt: skip
NEUTRAL_BELOW = 1.0  # spreads; of 0 to 1.3 the best compromise of accuracy and mean recall on FER+ train (56 / 33 %)


class BlendshapeRules:
    """The emotion whose prototype is shown most, neutral where none is; its thought names the AUs that it goes by.

    It gives no measurement of its own in its replies, as its claims would only be compared with themselves.
    """

    name = "blendshapes"

    def __init__(self, card: BenchmarkCard):
        self.words = set(words(card).values()) & set(EXPRESSIONS)
        if not self.words:
            raise BadArgumentError(f"No label of {card.name} has a prototype of Action Units.")

    def describe(self) -> dict[str, str]:
        return {
            "model": "MediaPipe blendshapes, rules of EMFACS prototypes",
            "neutral below": f"{NEUTRAL_BELOW:g} spreads",
            "cannot measure": "AU6, AU9, AU25; shares of labels are not fitted to anything",
            "answers": "clips with a picture",
        }

    def prepare(self, sample: Sample, question: str) -> dict[str, float]:
        """AU code -> intensity 0-5, mean over the usable frames of the main person."""
        track = main_face(sample)
        seen = ~np.isnan(track.blendshapes).any(-1)
        if not seen.any():
            raise NothingToReadError("No landmarks were found on the face.")
        return intensities(track.blendshapes[seen & track.usable if (seen & track.usable).any() else seen].mean(0))

    def prepare_thought(self, question: str, thought: str) -> dict[str, float]:
        """The AUs that a thought names, at the intensities that it states."""
        claims = parse_answer(f"{thought}<answer>?</answer>").claims
        return {claim.code: claim.intensity or 0.0 for claim in claims}

    def answer(self, prepared: list[dict[str, float]], think: bool) -> list[Reply]:
        return [self._reply(units, think) for units in prepared]

    def _reply(self, units: dict[str, float], think: bool) -> Reply:
        scores = {label: score for label, score in prototype_scores(units).items() if label in self.words}
        label = max(scores, key=lambda label: scores[label])
        # A mean over frames does not tell closed eyes from many blinks.
        levels = named_units(np.array([0.0 if code == BLINK else units.get(code, 0.0) for code in AU_CODES]))
        facts = Facts(label, [Phase(label, levels)], timed=False)
        return Reply(
            text=f"{thought(facts) if think else ''}<answer>{answer(facts)}</answer>",
            distribution=normalised({label: float(np.exp(score)) for label, score in scores.items()}),
        )


def intensities(blendshapes: np.ndarray) -> dict[str, float]:
    """AU code -> intensity 0-5 of ``(52,)`` blendshapes: 0 is a face at rest, 5 the blendshape's end."""
    units = {}
    for action, code in ARKIT_TO_AU.items():
        if code in AT_REST:
            sides = [
                BLENDSHAPES.index(name) for name in (action, f"{action}Left", f"{action}Right") if name in BLENDSHAPES
            ]
            above = (float(blendshapes[sides].mean()) - AT_REST[code]) / (1 - AT_REST[code])
            units[code] = MAX_INTENSITY * min(max(above, 0.0), 1.0)
    return units


def prototype_scores(units: Mapping[str, float]) -> dict[str, float]:
    """Label -> mean over the measurable AUs of its prototype of their intensity in spreads."""
    scores = {}
    for label in EXPRESSIONS:
        prototype = [code for code in PROTOTYPES[label] if code in SPREAD]
        scores[label] = (
            float(np.mean([units.get(code, 0.0) / SPREAD[code] for code in prototype])) if prototype else NEUTRAL_BELOW
        )
    return scores
