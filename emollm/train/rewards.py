"""Rewards for GRPO: what is good about one reply, as plain functions.

Each takes the parsed reply and the facts that it needs and returns a number in [-1, 1], or None where a label that it
would need is absent (TRL leaves such a reward out of the sum). Replies are read by the strict parser of
:mod:`emollm.reasoning.parse`; one outside the grammar earns the least of every reward that applies.

The rewards follow R1-Omni (label, format; https://arxiv.org/abs/2503.05379), Facial-R1 (``2 * F1 - 1`` over AUs),
AffectGPT-R1 (F1 of open words with a length penalty, agreement of thought and answer) and DAPO (soft limit of length;
https://arxiv.org/abs/2503.14476). ``support``, ``fit`` and ``modality`` are our own. How each could be gamed, and what
stops it, stands with it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

from emollm.emotions import EMOTIONS, named_emotions
from emollm.facs import AU_CODES, BLINK, MAX_INTENSITY, PROTOTYPES
from emollm.reasoning.fit import fitting, interpreted, omitted
from emollm.reasoning.parse import ParsedAnswer
from emollm.reasoning.verify import PRESENT

UNSTATED = 0.7  # share of a hit that a claim earns in the intensity-aware F1 when it states no intensity
_SECTIONS = ("observations", "interpretation", "conclusion")
_WITHOUT_PROTOTYPE = [emotion for emotion in EMOTIONS if not PROTOTYPES.get(emotion)]
_HEARD = re.compile(r"\b(?:voice|sounds?|pitch|speech|heard?|tone)\b", re.IGNORECASE)
_UNHEARD = re.compile(r"\bno voice(?: is heard)?\b|\bvoice:? (?:is )?(?:none|not heard)\b", re.IGNORECASE)
_SEEN = re.compile(r"\b(?:face|brows?|lips?|mouth|eyes?|smil(?:e|es|ing)|AU ?[1-9])", re.IGNORECASE)
_UNSEEN = re.compile(r"\bno face(?: is visible)?\b|\bface:? (?:is )?(?:none|not visible)\b", re.IGNORECASE)


def format_reward(reply: ParsedAnswer, think: bool) -> float:
    """1 for a reply in the grammar that opens with one label, with all three sections if it was to think; else -1.

    >>> format_reward(parse_answer("<answer>anger: the brows are lowered.</answer>"), think=False)
    1.0
    """
    whole = all(getattr(reply.reasoning, name) for name in _SECTIONS) if think else reply.thought is None
    return 1.0 if reply.error is None and reply.label is not None and whole else -1.0


def label_reward(reply: ParsedAnswer, emotion: str | None) -> float | None:
    """1 for the right label, else -1. Only the word before the colon counts, so listing labels earns nothing.

    >>> label_reward(parse_answer("<answer>anger: or sadness.</answer>"), "sadness")
    -1.0
    """
    if emotion is None:
        return None
    return 1.0 if reply.label == emotion else -1.0


def votes_reward(reply: ParsedAnswer, votes: Mapping[str, float] | None) -> float | None:
    """1 for the label most raters chose, -1 for one that nobody chose, between them by the votes it got.

    >>> votes_reward(parse_answer("<answer>fear</answer>"), {"surprise": 6, "fear": 3, "neutral": 1})
    0.0
    """
    most = max(votes.values(), default=0.0) if votes else 0.0
    if votes is None or most <= 0:
        return None
    return 2.0 * max(votes.get(reply.label or "", 0.0), 0.0) / most - 1.0


def words_reward(reply: ParsedAnswer, words: Sequence[str] | None) -> float | None:
    """``2 * F1 * penalty - 1`` of the emotions named anywhere in the reply against the true ones.

    The penalty min(1, ln(true + 1) / ln(named + 1)) is AffectGPT-R1's: naming every emotion has full recall, and pays.

    >>> words_reward(parse_answer("<answer>anger: an angry face.</answer>"), ["anger"])
    1.0
    """
    if not words:
        return None
    named, true = set(named_emotions(f"{reply.thought or ''} {reply.answer or ''}")), set(words)
    hits = len(named & true)
    if not hits:
        return -1.0
    penalty = min(1.0, math.log(len(true) + 1) / math.log(len(named) + 1))
    return 2.0 * penalty * 2 * hits / (len(named) + len(true)) - 1.0


def unit_reward(
    reply: ParsedAnswer, units: Mapping[str, float] | None, present: float = PRESENT, intensities: bool = False
) -> float | None:
    """``2 * F1 - 1`` of the claimed AUs against the true ones (Facial-R1); blinks are left out on both sides.

    Only AUs that ``units`` labels count, for and against. A face without AUs wants no claim: 1 for none, -1 for any.

    Args:
        units: AU code -> intensity 0-5, of every labelled AU.
        present: smallest true intensity that counts as present.
        intensities: a hit counts by how near its stated intensity is: 1 where equal, 0 where 5 away, and
            :data:`UNSTATED` where it states none.

    >>> unit_reward(parse_answer("<answer>happiness: AU12 and AU4.</answer>"), {"AU4": 0, "AU6": 2, "AU12": 3})
    0.0
    """
    if units is None:
        return None
    if reply.error is not None:
        return -1.0
    true = {code: value for code, value in units.items() if value >= present and code != BLINK}
    claimed: dict[str, float | None] = {}
    for claim in reply.claims:
        if claim.code != BLINK and (claim.code in units or claim.code not in AU_CODES):
            known = claimed.get(claim.code)
            claimed[claim.code] = claim.intensity if known is None else max(known, claim.intensity or known)
    if not true:
        return -1.0 if claimed else 1.0
    if not claimed:
        return -1.0
    hits = sum(_closeness(claimed[code], true[code]) if intensities else 1.0 for code in true if code in claimed)
    return 2.0 * 2.0 * hits / (len(claimed) + len(true)) - 1.0


def support_reward(claimed: Sequence[str], supported: Sequence[str], noteworthy: Sequence[str]) -> float | None:
    """``2 * F1 - 1`` of the claims that the face tower bears out against what it measures clearly.

    Precision alone would be served best by one safe claim, so what is measured at 2 or more (see
    :mod:`emollm.reasoning.verify`) and not claimed counts against the reply. None where nothing is claimed and nothing
    clear is to be seen.

    Args:
        claimed, supported: codes, as in the report's verification.
        noteworthy: codes measured at :data:`emollm.reasoning.verify.NOTEWORTHY` or more, blinks left out.

    >>> support_reward(["AU4", "AU12"], ["AU12"], ["AU6", "AU12"])
    0.0
    """
    if not claimed and not noteworthy:
        return None
    if not claimed:
        return -1.0
    precision = len(supported) / len(claimed)
    recall = len(set(noteworthy) & set(supported)) / len(set(noteworthy)) if noteworthy else 1.0
    return 2.0 * (2 * precision * recall / (precision + recall) if precision + recall else 0.0) - 1.0


def alignment_reward(reply: ParsedAnswer) -> float | None:
    """``2 * Jaccard * penalty - 1`` of the emotions named in interpretation and conclusion and those of the answer.

    None without a thought: there is nothing to agree with. -1 where the answer's label is nowhere in the thought.
    Naming every emotion in both would agree perfectly, so more than two (a conflict of face and voice needs two) cost
    as in :func:`words_reward`.

    >>> alignment_reward(parse_answer("<think>Conclusion: The person seems sad.</think><answer>sadness</answer>"))
    1.0
    """
    if reply.thought is None:
        return None if reply.error is None else -1.0
    thought = set(named_emotions(f"{reply.reasoning.interpretation} {reply.reasoning.conclusion}"))
    answer = set(named_emotions(reply.answer or ""))
    if reply.label is None or reply.label not in thought:
        return -1.0
    penalty = min(1.0, math.log(3) / math.log(len(thought | answer) + 1))
    return 2.0 * penalty * len(thought & answer) / len(thought | answer) - 1.0


def fit_reward(reply: ParsedAnswer, face: bool) -> float | None:
    """Do the AUs that the interpretation gives for an emotion belong to its prototype, and were they observed?

    ``2 * F0.5 - 1`` over all pairs of an AU and an emotion in one sentence, whatever its wording ("AU6, AU12 fit
    happiness.", "Anger is what AU4 points to."): in doubt a sentence counts. A pair fits if the AU is one of
    :data:`emollm.facs.PROTOTYPES` of the emotion and the observations of the same reply claim it; where no face is,
    nothing fits. Recall is over what fits and what :func:`emollm.reasoning.fit.omitted` finds missing: by precision
    alone, a policy soon learned to give one AU instead of all. It weighs half as much as precision, so that naming
    all AUs or all emotions earns less than one AU that fits. A pair said twice counts once; to observe whatever would
    fit costs ``units`` and ``support``, to add pairs of other emotions ``alignment``.

    A thought without such a sentence earns -1 where the reply has observed an AU that is typical of its label, else 0,
    more than what does not fit. None would count as the mean of its group (TRL leaves it out), and beat an honest
    sentence that fits worse than most. It is None if the answer is an emotion without a prototype (neutral, boredom),
    as a number would pull to or from other labels there; to answer so only for that costs ``label``. None without a
    thought, too: to leave one out costs ``format``.

    Args:
        face: the clip has one. Where it has none, ``support`` is None for all but a reply that invents AUs, and so
            cannot tell it from the others.

    >>> thought = "<think>Observations: face: AU6, AU4.\\nInterpretation: AU6, AU4 fit happiness.</think>"
    >>> round(fit_reward(parse_answer(f"{thought}<answer>happiness</answer>"), face=True), 2)
    0.11
    """
    if reply.thought is None:
        return None if reply.error is None else -1.0
    pairs, fit, missing = len(interpreted(reply)), len(fitting(reply)) if face else 0, len(omitted(reply))
    if not pairs and reply.label in _WITHOUT_PROTOTYPE:
        return None
    if not pairs and not (missing and face):
        return 0.0
    return 2.0 * 1.25 * fit / (pairs + 0.25 * (fit + missing)) - 1.0 if fit else -1.0


def modality_reward(reply: ParsedAnswer, present: Sequence[str], carrier: str | None) -> float | None:
    """Does the reason speak of the modality that carries the label, and of none that is missing?

    1 if the answer's sentence, or the thought where there is one, cites the carrier; 0 if it does not; -1 if it speaks
    of a voice or a face that the clip does not have.

    Args:
        present: those of ``face`` and ``voice`` that the clip has.
        carrier: ``face``, ``voice`` or None where it is not known which (then None is returned).

    >>> modality_reward(parse_answer("<answer>anger: the voice sounds angry.</answer>"), ["voice"], "voice")
    1.0
    """
    if carrier is None:
        return None
    if reply.error is not None:
        return -1.0
    text = f"{reply.thought or ''}\n{reply.answer or ''}"
    cites = {
        "face": bool(_SEEN.search(_UNSEEN.sub("", text))),
        "voice": bool(_HEARD.search(_UNHEARD.sub("", text))),
    }
    if any(cites[name] for name in cites if name not in present):
        return -1.0
    return 1.0 if cites[carrier] else 0.0


def length_reward(tokens: int, wanted: int, most: int) -> float:
    """0 up to ``wanted`` tokens, then down in a straight line to -1 at ``most`` (DAPO's soft overlong punishment).

    >>> length_reward(225, wanted=150, most=300)
    -0.5
    """
    if tokens <= wanted:
        return 0.0
    return -min(1.0, (tokens - wanted) / max(most - wanted, 1))


def _closeness(stated: float | None, true: float) -> float:
    return UNSTATED if stated is None else max(0.0, 1.0 - abs(stated - true) / MAX_INTENSITY)
