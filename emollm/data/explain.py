"""From what is known of a clip (labels, measured AUs, prosody) to an instruction and its answer.

Every sentence is made of the facts handed in: no AU, time or tone appears that the facts do not hold
(:mod:`emollm.data.claims` checks that). Functions with a ``random`` choose among several wordings with it; without
one they use the first, which is how the shipped weights speak.
"""

from __future__ import annotations

import numpy as np

from emollm.data.facts import Facts, Phase, Span, named_units
from emollm.data.questions import CHANGE, IDENTITY, MIND, OTHER, QUESTIONS, RECOGNISE, UNITS, VOICE, WHY, question_for
from emollm.emotions import ADJECTIVES
from emollm.facs import AU_NAMES, PROTOTYPES
from emollm.model.course import MAX_NAMED
from emollm.reasoning.spans import describe_time

__all__ = [
    "CHANGE", "IDENTITY", "MAX_NAMED", "MIND", "OTHER", "QUESTIONS", "RECOGNISE", "UNITS", "VOICE", "WHY", "Facts",
    "Phase", "Span", "answer", "conclusion", "interpretation", "named_units", "observations", "question_for",
    "reply_to", "thought",
]  # fmt: skip

Random = np.random.Generator | None

REFUSE_IDENTITY = "I do not identify people or guess their age, origin or other traits; I only describe expression."
REFUSE_MIND = (
    "Expression cannot show that; it is no lie test and no diagnosis. I only describe what face and voice show."
)
ONLY_EXPRESSION = "I can only speak about the expression of the face and the voice in this clip."
_REFUSALS = {
    "identity": (
        REFUSE_IDENTITY,
        "I do not say who people are, nor guess their age, origin or health. I can describe the expression.",
        "That is not something I tell from a face: I describe expression, never who somebody is.",
    ),
    "mind": (
        REFUSE_MIND,
        "I cannot know that. An expression proves no lie, no illness and no character; I only describe what it shows.",
        "Nobody can read that from an expression. I make no diagnosis and no judgement of honesty.",
    ),
    "other": (ONLY_EXPRESSION, "That is beyond me; ask me about the expression of the face or the voice."),
}
PLEASANT = 0.2  # from here on, or below its negative, a valence or arousal gets a word


def _pick(random: Random, *forms: str) -> str:
    return forms[0] if random is None else forms[int(random.integers(len(forms)))]


def _unit(code: str, level: int) -> str:
    return f"{code} {AU_NAMES[code]}{f' {level}' if level else ''}"


def _units(phase: Phase) -> str:
    return ", ".join(_unit(code, level) for code, level in phase.aus.items()) or "no clear action"


def _names(phase: Phase) -> str:
    names = [AU_NAMES[code] for code in list(phase.aus)[:3]]
    return " and ".join(names) if len(names) < 3 else f"{names[0]}, {names[1]} and {names[2]}"


def observations(facts: Facts) -> str:
    """``face 0-8 s: AU4 brow lowerer 3; face 9-19 s: AU12 lip corner puller 4. voice: high pitch, fast.``

    The grammar of :mod:`emollm.reasoning.parse`, therefore without other wordings.
    """
    if facts.phases:
        pieces = []
        for phase in facts.phases:
            when = f"face {describe_time(phase.start_s, phase.end_s)}" if facts.timed else "face"
            pieces.append(f"{when}: {_units(phase)}")
        face = "; ".join(pieces)
    else:
        face = "face: not visible"
    return f"{face}. voice: {facts.voice or 'not heard'}."


def interpretation(facts: Facts, random: Random = None) -> str:
    sentences = []
    for phase in facts.phases:
        fitting = [code for code in phase.aus if code in PROTOTYPES.get(phase.emotion, ())]
        codes, one = ", ".join(fitting), len(fitting) == 1
        if fitting:
            sentences.append(_pick(
                random,
                f"{codes} fit{'s' if one else ''} {phase.emotion}.",
                f"{codes} {'is' if one else 'are'} typical of {phase.emotion}.",
                f"{phase.emotion.capitalize()} is what {codes} point{'s' if one else ''} to.",
            ))  # fmt: skip
        elif phase.emotion == "neutral":
            sentences.append(_pick(random, "The face is at rest.", "The face stays neutral."))
        else:
            sentences.append(_pick(
                random,
                f"The face as a whole shows {phase.emotion}.",
                f"Taken together, the face shows {phase.emotion}.",
            ))  # fmt: skip
    if facts.voice_emotion:
        adjective = ADJECTIVES[facts.voice_emotion]
        sentences.append(_pick(
            random,
            f"The voice sounds {adjective}.",
            f"The tone of the voice is {adjective}.",
            f"What the voice shows is {facts.voice_emotion}.",
        ))  # fmt: skip
    return " ".join(dict.fromkeys(sentences))


def _course(phases: list[Phase]) -> str:
    first = f"{phases[0].emotion} from {_span(phases[0])}"
    rest = [f"{phase.emotion} from {_span(phase)}" for phase in phases[1:]]
    return f"{first} turns into {' and then into '.join(rest)}"


def _span(phase: Phase) -> str:
    return f"{phase.start_s} to {phase.end_s} s"


def conclusion(facts: Facts, random: Random = None) -> str:
    face, voice = facts.face_emotion, facts.voice_emotion
    if facts.conflict:
        return _pick(
            random,
            f"Face and voice disagree: the face shows {face}, the voice {voice}.",
            f"There is a contradiction: the face shows {face}, while the voice shows {voice}.",
            f"The two do not fit together: {face} in the face, {voice} in the voice.",
        )
    if len(facts.phases) > 1:
        course = _course(facts.phases)
        return _pick(random, f"The face changes: {course}.", f"The expression does not stay the same: {course}.")
    adjective = ADJECTIVES[facts.label]
    return _pick(random, f"The person seems {adjective}.", f"All in all, the person seems {adjective}.")


def answer(facts: Facts, random: Random = None) -> str:
    """Label, colon, one sentence of evidence."""
    evidence = []
    if len(facts.phases) > 1:
        evidence.append(_course(facts.phases))
    elif facts.phases and facts.phases[0].aus:
        names = _names(facts.phases[0])
        evidence.append(_pick(random, f"the face shows {names}", f"I see {names} in the face", f"{names} in the face"))
    elif facts.phases:
        evidence.append(_pick(random, "the face shows no clear action", "there is no clear action in the face"))
    adjective = ADJECTIVES[facts.voice_emotion or "neutral"]
    if facts.conflict:
        evidence.append(_pick(random, f"but the voice sounds {adjective}", f"while the voice sounds {adjective}"))
    elif facts.voice_emotion:
        joined = "and " if evidence else ""
        evidence.append(_pick(random, f"the voice sounds {adjective}", f"{joined}the voice sounds {adjective}"))
    return f"{facts.label}: {', '.join(evidence)}." if evidence else f"{facts.label}."


def thought(facts: Facts, random: Random = None) -> str:
    """The three sections between their tags."""
    return (
        f"<think>\nObservations: {observations(facts)}\nInterpretation: {interpretation(facts, random)}\n"
        f"Conclusion: {conclusion(facts, random)}\n</think>\n"
    )


def reply_to(task: str, facts: Facts, random: Random = None) -> str:
    """The answer, without tags, to a question of one kind (a key of :data:`QUESTIONS`)."""
    if task in _REFUSALS:
        return _pick(random, *_REFUSALS[task])
    replies = {
        "emotion": answer, "units": _say_units, "voice": _say_voice, "change": _say_change, "times": _say_times,
        "words": _say_words, "affect": _say_affect, "agree": _say_agree, "modality": _say_modality,
        "missing": _say_missing, "said": _say_words_spoken,
    }  # fmt: skip
    if task in replies:
        return replies[task](facts, random)
    return f"{observations(facts)} {interpretation(facts, random)}"


def _say_units(facts: Facts, random: Random) -> str:
    return observations(Facts(facts.label, facts.phases, timed=facts.timed)).split(". voice:")[0] + "."


def _say_voice(facts: Facts, random: Random) -> str:
    if facts.voice is None:
        return _pick(random, "No voice is heard.", "There is no voice to describe.")
    if facts.voice_emotion is None:
        return f"The voice: {facts.voice}."
    adjective = ADJECTIVES[facts.voice_emotion]
    return _pick(
        random,
        f"The voice: {facts.voice}. It sounds {adjective}.",
        f"I hear {facts.voice}. That sounds {adjective}.",
        f"It sounds {adjective}, with {facts.voice}.",
    )


def _say_change(facts: Facts, random: Random) -> str:
    if not facts.phases:
        return "No face is visible."
    if len(facts.phases) > 1:
        course = _course(facts.phases)
        return _pick(random, f"Yes: {course}.", f"It changes: {course}.")
    adjective = ADJECTIVES[facts.phases[0].emotion]
    return _pick(random, f"No, it stays {adjective}.", f"It does not change, the face is {adjective} throughout.")


def _say_times(facts: Facts, random: Random) -> str:
    if not facts.phases:
        return "No face is visible."
    if not facts.timed:
        return f"It is a picture, in which nothing has a time. It shows {_units(facts.phases[0])}."
    spans = facts.spans or [Span(code, p.start_s, p.end_s) for p in facts.phases for code in p.aus]
    if not spans:
        return _pick(random, "No Action Unit is clear enough to name.", "The face shows no clear action.")
    listed = "; ".join(f"{s.code} {AU_NAMES[s.code]} {describe_time(s.start_s, s.end_s)}" for s in spans)
    return _pick(random, f"{listed}.", f"By time: {listed}.")


def _say_words(facts: Facts, random: Random) -> str:
    words = [*([ADJECTIVES[facts.label]] if facts.label else []), *facts.words]
    return f"{_pick(random, 'In a few words', 'I would say', 'In words')}: {', '.join(words)}."


def _say_affect(facts: Facts, random: Random) -> str:
    if facts.valence is None and facts.arousal is None:
        return "I have no measure of that here."
    numbers, words = [], []
    for name, value, ends in (
        ("valence", facts.valence, ("unpleasant", "neither pleasant nor unpleasant", "pleasant")),
        ("arousal", facts.arousal, ("low in energy", "of medium energy", "high in energy")),
    ):
        if value is not None:
            numbers.append(f"{name} {round(value, 1) + 0.0:.1f}")
            words.append(ends[1 + (value >= PLEASANT) - (value <= -PLEASANT)])
    listed, said = ", ".join(numbers), " and ".join(words)
    return _pick(random, f"{listed}, on a scale of -1 to 1: {said}.", f"It is {said}: {listed} (from -1 to 1).")


def _only_one(facts: Facts) -> str | None:
    """What can be said of two modalities where one of them is missing."""
    if not facts.phases:
        return "no face is visible"
    return None if facts.voice_emotion else "no voice is heard"


def _say_agree(facts: Facts, random: Random) -> str:
    if missing := _only_one(facts):
        return _pick(random, f"That cannot be said: {missing}.", f"There is nothing to compare, {missing}.")
    face, voice = facts.face_emotion, ADJECTIVES[facts.voice_emotion or "neutral"]
    if facts.conflict:
        return _pick(
            random,
            f"No: the face shows {face}, but the voice sounds {voice}.",
            f"They do not agree: the face shows {face}, while the voice sounds {voice}.",
        )
    return _pick(random, f"Yes: face and voice both show {face}.", f"They agree: both show {face}.")


def _say_modality(facts: Facts, random: Random) -> str:
    if missing := _only_one(facts):
        return f"{'The face' if facts.phases else 'The voice'}: {missing}."
    face, voice = facts.face_emotion, facts.voice_emotion
    if not facts.conflict:
        return _pick(random, f"Both: face and voice show {face}.", f"Each of them, both show {face}.")
    sounds = f"the voice sounds {ADJECTIVES[voice or 'neutral']}"
    if facts.label == face:
        return _pick(random, f"The face: it shows {face}, while {sounds}.", f"The face shows {face}, while {sounds}.")
    if facts.label == voice:
        return _pick(random, f"The voice: {sounds}, while the face shows {face}.", f"The voice, as {sounds}.")
    return f"Neither alone: the face shows {face}, while {sounds}."


def _say_missing(facts: Facts, random: Random) -> str:
    if not facts.phases:
        return _pick(random, "There is a voice, but no face is visible.", "I only hear a voice; no face is visible.")
    if facts.voice is None:
        return _pick(random, "There is a face, but no voice is heard.", "I only see a face; no voice is heard.")
    return _pick(random, "Nothing is missing: there is a face and a voice.", "Yes, there is a face and a voice.")


def _say_words_spoken(facts: Facts, random: Random) -> str:
    if not facts.said:
        return "I have no words of what is said."
    return _pick(random, f'The person says: "{facts.said}"', f'These words: "{facts.said}"')
