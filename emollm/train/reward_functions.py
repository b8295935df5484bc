"""The rewards of :mod:`emollm.train.rewards` as TRL calls them, and what a log needs to show that they are gamed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np

from emollm.emotions import named_emotions
from emollm.facs import AU_CODES, BLINK
from emollm.reasoning.parse import ParsedAnswer, parse_answer
from emollm.reasoning.verify import NOTEWORTHY, verify
from emollm.train.grpo_questions import Truth
from emollm.train.rewards import (
    alignment_reward,
    fit_reward,
    format_reward,
    label_reward,
    length_reward,
    modality_reward,
    support_reward,
    unit_reward,
    votes_reward,
    words_reward,
)

Reward = Callable[..., list[float | None]]


def _intensities(reply: ParsedAnswer, truth: Truth) -> float | None:
    return unit_reward(reply, truth.units if truth.graded else None, intensities=True)


def _support(reply: ParsedAnswer, truth: Truth) -> float | None:
    if reply.error is not None:
        return -1.0
    measured = np.asarray(truth.measured, float).reshape(-1, len(AU_CODES))
    verdict, _ = verify(reply.claims, np.asarray(truth.times, float), measured)
    peaks = measured.max(axis=0, initial=0.0)
    clear = [code for code, peak in zip(AU_CODES, peaks) if peak >= NOTEWORTHY and code != BLINK]
    return support_reward(verdict.claimed, verdict.supported, clear)


_OF_REPLY: dict[str, Callable[[ParsedAnswer, Truth], float | None]] = {
    "format": lambda reply, truth: format_reward(reply, truth.think),
    "label": lambda reply, truth: label_reward(reply, truth.emotion),
    "votes": lambda reply, truth: votes_reward(reply, truth.votes),
    "words": lambda reply, truth: words_reward(reply, truth.words),
    "units": lambda reply, truth: unit_reward(reply, truth.units),
    "intensities": _intensities,
    "support": _support,
    "alignment": lambda reply, truth: alignment_reward(reply),
    "fit": lambda reply, truth: fit_reward(reply, "face" in truth.present),
    "modality": lambda reply, truth: modality_reward(reply, truth.present, truth.carrier),
}
#: Names of the rewards, as recipes weigh them and logs show them.
REWARDS = (*_OF_REPLY, "length")


@lru_cache(maxsize=4096)
def read_reply(text: str, think: bool) -> ParsedAnswer:
    """One reply, parsed once for all rewards: who may think need not, who may not must not."""
    return parse_answer(text, expect_thought=None if think else False)


def reward_function(name: str, wanted_tokens: int, max_tokens: int) -> Reward:
    """The reward of that name, one of :data:`REWARDS`, over a batch: takes the replies, their token ids and the
    dataset's column ``truth``, and returns a number in [-1, 1] or None for each."""

    def reward(completions: list[str], completion_ids: list[list[int]], truth: list[str], **_: Any) -> list:
        if name == "length":
            return [length_reward(len(ids), wanted_tokens, max_tokens) for ids in completion_ids]
        known = [Truth.from_json(line) for line in truth]
        return [_OF_REPLY[name](read_reply(text, one.think), one) for text, one in zip(completions, known)]

    reward.__name__ = name  # what TRL logs it under
    return reward


def reply_statistics(completions: list[str], tokens: list[int], truth: list[str]) -> dict[str, float]:
    """What shows that rewards are gamed, over a batch of replies.

    Returns:
        ``unreadable`` (share that breaks the grammar), ``emotions_named`` and ``units_claimed`` (mean list lengths of
        the readable), ``commonest_label`` (share of the label said most often), and ``tokens`` and ``unreadable`` of
        each mode, under ``think/`` and ``no_think/``.
    """
    modes = [Truth.from_json(line).think for line in truth]
    replies = [read_reply(text, think) for text, think in zip(completions, modes)]
    readable = [reply for reply in replies if reply.error is None]
    found = {"unreadable": 1 - len(readable) / len(replies)}
    if readable:
        named = [len(named_emotions(f"{reply.thought or ''} {reply.answer or ''}")) for reply in readable]
        labels = Counter(reply.label for reply in readable)
        found["emotions_named"] = float(np.mean(named))
        found["units_claimed"] = float(np.mean([len({claim.code for claim in reply.claims}) for reply in readable]))
        found["commonest_label"] = labels.most_common(1)[0][1] / len(readable)
    for mode, think in (("think", True), ("no_think", False)):
        rows = [row for row, one in enumerate(modes) if one == think]
        if rows:
            found[f"{mode}/tokens"] = float(np.mean([tokens[row] for row in rows]))
            found[f"{mode}/unreadable"] = float(np.mean([replies[row].error is not None for row in rows]))
    return found
