"""Which of a model's own explanations are good enough to learn from.

An explanation passes only if its label, its Action Units and everything else that it claims agree with what is known
and measured of the clip; nothing is repaired.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from emollm.data.claims import false_claims
from emollm.data.clip_states import ClipStates
from emollm.data.facts import Span
from emollm.data.measure import facts_of
from emollm.data.schema import Labels, Record
from emollm.emotions import canonical_emotion, named_emotions
from emollm.facs import AU_CODES, BLINK, MAX_INTENSITY
from emollm.model.course import MAX_NAMED
from emollm.reasoning.fit import fitting, interpreted, omitted, unfitting
from emollm.reasoning.parse import ParsedAnswer, parse_answer
from emollm.reasoning.prompts import neutralise
from emollm.reasoning.verify import NOTEWORTHY, PRESENT, verify
from emollm.train.rewards import modality_reward

GRAMMAR = "breaks the grammar"
PARTS = "has no label, or lacks a section"
DIFFER = "thought and answer differ"
LABEL = "is not the clip's label"
DISAGREE = "candidates disagree"
MISSING = "speaks of a face or voice that is not there"
UNITS = "names Action Units that are not measured"
OMITTED = "leaves out clear Action Units"
UNFIT = "gives Action Units for an emotion that are no signs of it"
CLAIMS = "claims something else that does not hold"
#: Why an explanation is rejected: the first of these that is true of it.
REASONS = (GRAMMAR, PARTS, DIFFER, LABEL, DISAGREE, MISSING, UNITS, OMITTED, UNFIT, CLAIMS)


@dataclass(frozen=True)
class Demands:
    """What an explanation has to reach; each a share in [0, 1].

    Attributes:
        agreement: of the candidates that name its label, where the clip has none.
        support_rate: of the AUs it names that the face tower measures.
        named_share: of the clearly measured AUs that it names.
        fit_rate: of the AUs its interpretation gives for an emotion that were observed and are typical of it.
    """

    agreement: float = 0.75
    support_rate: float = 1.0
    named_share: float = 0.5
    fit_rate: float = 1.0


@dataclass(frozen=True)
class Verdict:
    """``reason``: one of :data:`REASONS`, None where the explanation passes; ``detail``: more about it.

    Attributes:
        scores: as far as it got, ``agreement``; ``confidence``, the model's probability of the label; ``support_rate``
            and ``named_share`` where there is anything to name; ``fit_rate`` where it gives AUs for an emotion;
            ``fit_recall``, of the AUs that it might give, as they were observed and are typical, those that it gives;
            and, where it passes, ``score``, the mean of these.
    """

    parsed: ParsedAnswer
    reason: str | None = None
    detail: str = ""
    scores: dict[str, float] = field(default_factory=dict)


def judge_all(
    texts: Sequence[str], confidences: Sequence[float], record: Record, states: ClipStates, demands: Demands
) -> list[Verdict]:
    """The verdict on each explanation of one clip.

    Args:
        texts: whole replies, tags included.
        confidences: the model's probability of each one's label.
        record: the clip; its labels are what an explanation must agree with.
        states: what is measured in it.
    """
    replies = [parse_answer(text, expect_thought=True) for text in texts]
    said = [reply.label for reply in replies]
    return [
        _judge(reply, said.count(reply.label) / len(said), confidence, record, states, demands)
        for reply, confidence in zip(replies, confidences, strict=True)
    ]


def best_of(verdicts: Sequence[Verdict]) -> Verdict | None:
    """The passing explanation with the highest ``score``, the first of equals; None where none passes."""
    passing = [verdict for verdict in verdicts if verdict.reason is None]
    return max(passing, key=lambda verdict: verdict.scores["score"], default=None)


def weak_labels(labels: Labels) -> set[str]:
    """The emotions that a clip's labels allow: its label, else what most raters chose, else its open words that are
    emotions. Empty where nothing is known."""
    if labels.emotion:
        return {labels.emotion}
    if labels.votes:
        return {word for word, share in labels.votes.items() if share == max(labels.votes.values())}
    return {word for word in map(canonical_emotion, labels.emotions) if word}


def _judge(
    reply: ParsedAnswer, agreement: float, confidence: float, record: Record, states: ClipStates, demands: Demands
) -> Verdict:
    if reply.error is not None or neutralise(said := f"{reply.thought}\n{reply.answer}") != said.strip():
        return Verdict(reply, GRAMMAR, reply.error or "special tokens in the text")
    if lacking := _lacking(reply):
        return Verdict(reply, PARTS, lacking)
    if reply.label not in (concluded := named_emotions(reply.reasoning.conclusion)):
        return Verdict(reply, DIFFER, f"{', '.join(concluded) or 'nothing'} in the conclusion, {reply.label}")
    known = weak_labels(record.labels)
    if known and reply.label not in known:
        return Verdict(reply, LABEL, f"{reply.label}, not {' or '.join(sorted(known))}")
    scores = {"agreement": agreement, "confidence": confidence}
    if not known and agreement < demands.agreement:
        return Verdict(reply, DISAGREE, f"{agreement:.0%} say {reply.label}", scores)
    return _against_measurement(reply, scores, record, states, demands)


def _lacking(reply: ParsedAnswer) -> str:
    """What there is not of the label and the three sections that a whole explanation has, and nothing else."""
    lacking = [name for name, text in vars(reply.reasoning).items() if not text]
    if reply.label is None:
        lacking.append("label")
    elif not (reply.thought or "").startswith("Observations:"):
        lacking.append("its beginning in observations")
    return ", ".join(lacking)


def _against_measurement(
    reply: ParsedAnswer, scores: dict[str, float], record: Record, states: ClipStates, demands: Demands
) -> Verdict:
    labelled = record.labels.model_copy(update={"emotion": reply.label})
    facts = facts_of(record.model_copy(update={"labels": labelled}), states)
    present = [name for name, there in (("face", facts.phases), ("voice", facts.voice)) if there]
    told_of_voice = reply.voice not in (None, "not heard") and not facts.voice
    if told_of_voice or (modality_reward(reply, present, present[0]) or 0) < 0:
        return Verdict(reply, MISSING, f"there is only a {present[0]}", scores)

    times, units = _measured(states)
    verdict, _ = verify(reply.claims, times, units)
    if verdict.support_rate is not None:
        scores["support_rate"] = verdict.support_rate
        if verdict.support_rate < demands.support_rate:
            return Verdict(reply, UNITS, ", ".join(verdict.unsupported), scores)
    peaks = dict(zip(AU_CODES, np.nan_to_num(units).max(axis=0, initial=0.0)))
    clear = [code for code, peak in peaks.items() if peak >= NOTEWORTHY and code != BLINK]
    if clear:
        # An explanation names the strongest few of a phase, so it cannot be asked for more than these.
        named = (len(clear) - len(verdict.omitted)) / min(len(clear), MAX_NAMED)
        scores["named_share"] = min(named, 1.0)
        if scores["named_share"] < demands.named_share:
            return Verdict(reply, OMITTED, ", ".join(verdict.omitted), scores)

    given, fit, left = interpreted(reply), fitting(reply), omitted(reply)
    if given:
        scores["fit_rate"] = len(fit) / len(given)
        if scores["fit_rate"] < demands.fit_rate:
            loose = [f"{', '.join(codes)} for {emotion}" for emotion, codes in unfitting(reply).items()]
            return Verdict(reply, UNFIT, "; ".join(loose), scores)
    if fit or left:  # by fit_rate alone, giving one AU would be as good as giving all
        scores["fit_recall"] = len(fit) / (len(fit) + len(left))

    # AUs, their times and intensities were held against the measurement above, with its tolerance.
    seen = [Span(code, 0.0, states.duration_s) for code, peak in peaks.items() if peak >= PRESENT]
    if wrong := false_claims(_without_units(reply), replace(facts, spans=[*facts.spans, *seen])):
        return Verdict(reply, CLAIMS, wrong[0], scores)
    scores["score"] = float(np.mean(list(scores.values())))
    return Verdict(reply, scores={name: round(value, 4) for name, value in scores.items()})


def _measured(states: ClipStates) -> tuple[np.ndarray, np.ndarray]:
    """Start and end of each window in seconds, ``(W, 2)``, and AU intensities 0-5 there, ``(W, 17)``."""
    starts = np.arange(len(states.face)) * states.window_s
    ends = np.minimum(starts + states.window_s, max(states.duration_s, 0.0))
    readings = states.face[:, states.face.shape[1] - states.face_readings :]
    return np.stack([starts, np.maximum(ends, starts)], axis=1), MAX_INTENSITY * readings[:, : len(AU_CODES)]


def _without_units(reply: ParsedAnswer) -> str:
    """The reply without what its observations say of the face, unless that no face is there."""
    reasoning = reply.reasoning
    unseen = "face: not visible." if "face: not visible" in reasoning.observations else ""
    voice = f"voice: {reply.voice}." if reply.voice else ""
    return "\n".join([unseen, voice, reasoning.interpretation, reasoning.conclusion, reply.answer or ""])
