"""Which Action Units an interpretation gives for which emotion, and whether they speak for it.

The sentences have no grammar of their own: an AU and an emotion in one sentence make a pair, whatever stands between
them ("AU6, AU12 fit happiness.", "Anger is what AU4 points to."). In doubt a sentence counts.
"""

from __future__ import annotations

import re

from emollm.emotions import named_emotions
from emollm.facs import PROTOTYPES
from emollm.reasoning.parse import ParsedAnswer, parse_answer

_SENTENCE_END = re.compile(r"[;!?\n]|\.(?![0-9])")


def interpreted(reply: ParsedAnswer) -> set[tuple[str, str]]:
    """The pairs of an AU code and an emotion in the interpretation of a reply, each once; none without a thought."""
    if reply.thought is None:
        return set()
    return {
        (code, emotion)
        for sentence in _SENTENCE_END.split(reply.reasoning.interpretation)
        for code in _codes(sentence)
        for emotion in named_emotions(sentence)
    }


def fitting(reply: ParsedAnswer) -> set[tuple[str, str]]:
    """Those of :func:`interpreted` whose AU is typical of the emotion and was observed by the same reply.

    What is typical say :data:`emollm.facs.PROTOTYPES`.

    >>> thought = "<think>Observations: face: AU6, AU4.\\nInterpretation: AU6, AU4 fit happiness.</think>"
    >>> fitting(parse_answer(f"{thought}<answer>happiness</answer>"))
    {('AU6', 'happiness')}
    """
    if reply.thought is None:
        return set()
    observed = _codes(reply.reasoning.observations)
    return {
        (code, emotion)
        for code, emotion in interpreted(reply)
        if code in observed and code in PROTOTYPES.get(emotion, ())
    }


def omitted(reply: ParsedAnswer) -> set[tuple[str, str]]:
    """Observed AUs that are typical of the answer's label and that the interpretation gives for nothing they fit.

    >>> thought = "<think>Observations: face: AU6, AU12.\\nInterpretation: AU12 fits happiness.</think>"
    >>> omitted(parse_answer(f"{thought}<answer>happiness</answer>"))
    {('AU6', 'happiness')}
    """
    if reply.thought is None or reply.label is None:
        return set()
    given = {code for code, _ in fitting(reply)}
    typical = set(PROTOTYPES.get(reply.label, ()))
    return {(code, reply.label) for code in _codes(reply.reasoning.observations) & typical - given}


def unfitting(reply: ParsedAnswer) -> dict[str, list[str]]:
    """Of each emotion the AUs that the interpretation gives for it and that do not fit, in the order of their numbers.

    >>> thought = "<think>Observations: face: AU6, AU4.\\nInterpretation: AU6, AU4 fit happiness.</think>"
    >>> unfitting(parse_answer(f"{thought}<answer>happiness</answer>"))
    {'happiness': ['AU4']}
    """
    loose = sorted(interpreted(reply) - fitting(reply), key=lambda pair: (pair[1], int(pair[0].removeprefix("AU"))))
    return {emotion: [code for code, other in loose if other == emotion] for _, emotion in loose}


def _codes(text: str) -> set[str]:
    """The AUs that a piece of a reply says are there, as the parser reads them."""
    return {claim.code for claim in parse_answer(f"<answer>{text}</answer>").claims}
