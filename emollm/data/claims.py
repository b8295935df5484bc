"""What a text claims about a clip, held against what is known of it: AUs, times, tones, emotions, numbers.

The reading is independent of how :mod:`emollm.data.explain` writes. It works on text about one clip whose sentences
are plain statements; in doubt a word counts as a claim.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from emollm.data.facts import Facts
from emollm.emotions import ADJECTIVES, EMOTIONS, SYNONYMS
from emollm.facs import AU_NAMES

_NUMBER = r"[0-9]+(?:\.[0-9]+)?"
_TIME = re.compile(rf"({_NUMBER})(?:\s*(?:-|–|to)\s*({_NUMBER}))?\s*(?:s|seconds?)\b")
_NAMES = {name: code for code, name in AU_NAMES.items()}
_UNIT = re.compile(
    rf"\b(?:(AU[0-9]+)(?: ({'|'.join(_NAMES)}))?|({'|'.join(_NAMES)}))\b(?: ([0-9])(?![0-9.]|\s*(?:s\b|-|–|to\b)))?",
    re.IGNORECASE,
)
_NEGATION = re.compile(r"\b(?:no|not|without|neither|nor)\b", re.IGNORECASE)
_SENTENCE = re.compile(r"(?<![0-9])[.]|[.](?![0-9])|[;?!\n]")
_CLAUSE = re.compile(r"[,:]|\b(?:but|while|although|and the|in the (?=voice))\b")
_COORDINATE = re.compile(r"\b(valence|arousal) (-?[0-9]\.[0-9])\b")
_SCALE = re.compile(r"\(?(?:on a scale of|from) -1 to 1\)?")
# Words for how a voice is. Those that a measurement can give are in Prosody.summary; the others never can.
_TONES = re.compile(
    r"\b(?:(?:low|medium|high|no measurable) pitch|(?:flat|varied) intonation|normal level|medium pace"
    r"|(?:few|some|many) pauses|quiet|loud|slow|fast|pitch(?:ed)?|intonation|monotone"
    r"|whisper\w*|shout\w*|scream\w*|trembl\w*|shak[iy]\w*"
    r"|breathy|hoarse|soft|sharp|shrill|pauses?|volume)\b",
    re.IGNORECASE,
)
_WORD = re.compile(r"[a-z]+")
_MEANT = {
    **SYNONYMS, **{word: label for label, adjective in ADJECTIVES.items() for word in adjective.split(" and ")},
    **{label: label for label in EMOTIONS},
}  # fmt: skip
_FACE, _VOICE = re.compile(r"\bface\b"), re.compile(r"\b(?:voice|sounds|tone)\b")


def false_claims(text: str, facts: Facts) -> list[str]:
    """Each claim of ``text`` that the facts do not hold, as a sentence."""
    text = re.sub(r"</?(?:think|answer)>", "\n", text)
    if facts.said:
        text = text.replace(f'"{facts.said}"', "")
    return list(dict.fromkeys([*_of_tone(text, facts), *_of_sentences(text, facts), *_of_emotion(text, facts)]))


def _of_sentences(text: str, facts: Facts) -> Iterator[str]:
    for sentence in _SENTENCE.split(text):
        yield from _of_presence(sentence, facts)
        rest = _SCALE.sub("", sentence)
        rest, wrong = _read_coordinates(rest, facts)
        yield from wrong
        times = [(float(match[1]), float(match[2] or match[1])) for match in _TIME.finditer(rest)]
        for start, end in times:
            if (start, end) not in _held_times(facts):
                yield f"It names a time that nothing has: {start:g}-{end:g} s."
        for unit in _UNIT.finditer(rest):
            negated = _NEGATION.search(rest[: unit.start()]) is not None
            yield from _of_unit(unit, negated, times, facts)
        left = _UNIT.sub("", _TIME.sub("", rest))
        for number in re.findall(_NUMBER, left):
            yield f"It names a number that nothing has: {number}."


def _held_times(facts: Facts) -> dict[tuple[float, float], set[str]]:
    """Start and end of every phase and span, and the AUs seen in it."""
    held: dict[tuple[float, float], set[str]] = {}
    if facts.timed:
        for phase in facts.phases:
            held.setdefault((float(phase.start_s), float(phase.end_s)), set()).update(phase.aus)
        for span in facts.spans:
            held.setdefault((span.start_s, span.end_s), set()).add(span.code)
    return held


def _of_unit(unit: re.Match[str], negated: bool, times: list[tuple[float, float]], facts: Facts) -> Iterator[str]:
    code = unit[1].upper() if unit[1] else _NAMES[unit[3].lower()]
    if unit[1] and unit[2] and AU_NAMES.get(code) != unit[2].lower():
        yield f"It calls {code} {unit[2]}."
    seen = {code for phase in facts.phases for code in phase.aus} | {span.code for span in facts.spans}
    if negated:
        if code in seen:
            yield f"It denies {code}."
        return
    if code not in seen:
        yield f"It claims {code}."
    elif times and all(code not in _held_times(facts).get(time, set()) for time in times):
        yield f"It claims {code} at another time."
    if unit[4]:
        levels = {
            phase.aus[code]
            for phase in facts.phases
            if code in phase.aus and (not times or (float(phase.start_s), float(phase.end_s)) in times)
        }
        if int(unit[4]) not in levels:
            yield f"It claims {code} at intensity {unit[4]}."


def _read_coordinates(sentence: str, facts: Facts) -> tuple[str, list[str]]:
    """The sentence without its valence and arousal, and which of these are wrong."""
    wrong = []
    for name, number in _COORDINATE.findall(sentence):
        value = getattr(facts, name)
        if value is None or abs(value - float(number)) > 0.0501:
            wrong.append(f"It claims {name} {number}.")
    for word, name, high in (
        ("pleasant", "valence", True), ("unpleasant", "valence", False),
        ("high in energy", "arousal", True), ("low in energy", "arousal", False),
    ):  # fmt: skip
        value = getattr(facts, name)
        said = re.search(rf"\b{word}\b", sentence) and "neither" not in sentence
        if said and (value is None or (value > 0) != high):
            wrong.append(f"It claims to be {word}.")
    return _COORDINATE.sub("", sentence), wrong


def _of_presence(sentence: str, facts: Facts) -> Iterator[str]:
    said = sentence.lower()
    if facts.phases and re.search(r"\bno face\b|face: not visible", said):
        yield "It says that no face is visible."
    if facts.voice and re.search(r"\bno voice\b|voice: not heard", said):
        yield "It says that no voice is heard."
    if not facts.phases and re.search(r"\b(?:a|the) face (?:is visible|shows|is at rest|stays|changes)", said):
        yield "It speaks of a face."
    if re.search(r"\bthere is a (?:face and a )?voice\b", said) and not facts.voice:
        yield "It speaks of a voice."
    if "there is a face" in said and not facts.phases:
        yield "It speaks of a face."
    if "no clear action" in said and all(phase.aus for phase in facts.phases):
        yield "It says that the face shows no clear action."


def _of_tone(text: str, facts: Facts) -> Iterator[str]:
    measured = set(facts.voice.split(", ")) if facts.voice else set()
    for tone in _TONES.findall(text):
        if tone.lower() not in measured:
            yield f"It claims a tone: {tone}."


def _of_emotion(text: str, facts: Facts) -> Iterator[str]:
    face = {phase.emotion for phase in facts.phases}
    own = {word for text in facts.words for word in _WORD.findall(text.lower())}
    held = {facts.label, facts.voice_emotion, *face}
    for sentence in _SENTENCE.split(text.lower()):
        for clause in _CLAUSE.split(sentence):
            named = {_MEANT[word]: word for word in _WORD.findall(clause) if word in _MEANT and word not in own}
            of_face, of_voice = _FACE.search(clause) is not None, _VOICE.search(clause) is not None
            for label, word in named.items():
                if label not in held:
                    yield f"It claims an emotion: {word}."
                elif of_face and not of_voice and label not in face:
                    yield f"It claims that the face shows {word}."
                elif of_voice and not of_face and label != facts.voice_emotion:
                    yield f"It claims that the voice sounds {word}."
