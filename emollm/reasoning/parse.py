"""Strict reading of the language model's text: tags, sections, label, claimed Action Units.

Published evaluations take any label word found in a reply for the prediction, or call an unreadable reply neutral.
Here a reply either follows the grammar of the answers exactly or is an error with a reason; nothing is repaired.

Grammar::

    <think>
    Observations: face 0-8 s: AU4 brow lowerer 2.5, AU15 lip corner depressor 3; face 11-19 s: AU12 lip corner
    puller 4. voice: high pitch, loud.
    Interpretation: free text.
    Conclusion: free text.
    </think>
    <answer>happiness: free text</answer>

The ``<think>`` part may be absent as a whole, each section may be absent, and the answer need not start with a label.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from emollm.emotions import canonical_emotion
from emollm.facs import AU_NAMES, intensity_letter
from emollm.report import Reasoning


@dataclass(frozen=True)
class Claim:
    """The text says that an AU is present. Intensity on 0-5; no times means the whole clip."""

    code: str
    intensity: float | None = None
    start_s: float | None = None
    end_s: float | None = None


@dataclass(frozen=True)
class ParsedAnswer:
    """What a reply says. With ``error`` set, the reply broke the grammar and everything else is empty.

    ``label`` is one of :data:`emollm.emotions.EMOTIONS`, or None where the answer does not start with exactly one.
    ``voice`` is the text after ``voice:`` in the observations.
    """

    thought: str | None = None
    reasoning: Reasoning = field(default_factory=Reasoning)
    answer: str | None = None
    label: str | None = None
    claims: tuple[Claim, ...] = ()
    voice: str | None = None
    error: str | None = None


_TAGS = ("<think>", "</think>", "<answer>", "</answer>")
_TAG = re.compile("|".join(_TAGS))
_HEADING = re.compile(r"^[ \t]*(Observations|Interpretation|Conclusion):", re.MULTILINE)
_CHANNEL_HEADING = re.compile(r"\b(?:(voice)|face\b([^:;\n]{0,40})):", re.IGNORECASE)
# Bounded repeats keep the reading linear in the length of hostile text.
_NUMBER = r"[0-9]{1,9}(?:\.[0-9]{1,9})?"
_TIME = re.compile(rf"({_NUMBER})(?:\s*(?:-|–|to)\s*({_NUMBER}))?\s*s\b")

_CODES = {name: code for code, name in AU_NAMES.items()}
_NAME = "(?:" + "|".join(AU_NAMES.values()) + ")"
_AU = r"\bAU ?0*([1-9][0-9]{0,2})\b"
# A number straight after the code or the FACS name is the intensity, unless it is a time ("AU12 3 s", "AU12 3-5 s").
# Direct answers name muscles by the FACS name alone ("the face shows lip corner puller"): that is a claim too.
_MENTION = re.compile(
    rf"(?:{_AU}(?:\s+{_NAME})?|\b({_NAME})\b)(?:\s+({_NUMBER})(?!\.?[0-9]|\s*(?:s\b|-|–|to\b)))?", re.IGNORECASE
)
# A negation reaches to the end of its clause: "no AU4 or AU12", but "without AU4, AU12 4" claims AU12.
_CLAUSE_END = re.compile(r"[;:,!?\n]|\.(?![0-9])|\bbut\b|\bwith\b", re.IGNORECASE)
_NEGATION = re.compile(
    r"\b(?:no(?! doubt)|not(?! (?:only|just|merely))|without|neither|nor|never|lacks?|lacking|absence|absent|missing"
    r"|rather than|instead of)\b|n't\b",
    re.IGNORECASE,
)
_SAID_ABSENT = re.compile(
    rf"(?:\s+(?:and|or)\s+{_AU}(?:\s+{_NAME})?){{0,4}}\s+(?:(?:is|are|was|were|both|all|remains?|stays?)\s+){{0,2}}"
    r"(?:absent|missing|(?:not|never)\s+(?:present|seen|visible|active|shown|there|found|measured))\b",
    re.IGNORECASE,
)


def parse_answer(text: str, expect_thought: bool | None = None) -> ParsedAnswer:
    """Read one reply. Never raises: a reply outside the grammar comes back with ``error`` set and no label.

    ``expect_thought``: True makes a missing ``<think>`` part an error, False a present one, None allows both.
    """
    pieces = _TAG.split(text)
    tags = _TAG.findall(text)
    error = _tag_error(tags)
    if error is None and any(outside.strip() for outside in pieces[0::2]):
        error = "text outside tags"
    has_thought = len(tags) == 4
    if error is None and expect_thought is not None and has_thought != expect_thought:
        error = "no <think>" if expect_thought else "unexpected <think>"
    if error is None and any("\ud800" <= character <= "\udfff" for character in text):
        error = "not valid Unicode"
    if error is not None:
        return ParsedAnswer(error=error)

    thought = pieces[1].strip() if has_thought else None
    answer = pieces[-2].strip()
    if not answer:
        return ParsedAnswer(error="empty answer")
    before_sections, *headed = _HEADING.split(thought or "")
    sections = {name.lower(): body.strip() for name, body in zip(headed[0::2], headed[1::2])}
    if 2 * len(sections) < len(headed):
        return ParsedAnswer(error="two sections of one name")
    reasoning = Reasoning(**sections)

    claims, voice = _read_observations(reasoning.observations)
    observed = {claim.code for claim in claims}
    elsewhere = "\n".join((before_sections, reasoning.interpretation, reasoning.conclusion, answer))
    # Numbers and times are read from the observations only, where the grammar fixes what they mean.
    claims += [Claim(code) for code, _ in _mentions(elsewhere) if code not in observed]
    label = canonical_emotion(answer.split(":", 1)[0].strip().removesuffix("."))
    return ParsedAnswer(thought, reasoning, answer, label, tuple(dict.fromkeys(claims)), voice)


def _tag_error(tags: list[str]) -> str | None:
    if tags in (["<answer>", "</answer>"], ["<think>", "</think>", "<answer>", "</answer>"]):
        return None
    for name in ("think", "answer"):
        opened, closed = tags.count(f"<{name}>"), tags.count(f"</{name}>")
        if opened > 1:
            return f"two {'answers' if name == 'answer' else 'thoughts'}"
        if opened > closed:
            return f"unclosed <{name}>"
        if closed > opened:
            return f"</{name}> without <{name}>"
    return "tags out of order" if "<answer>" in tags else "no <answer>"


def _read_observations(text: str) -> tuple[list[Claim], str | None]:
    """Claims with the span of the ``face …:`` heading they stand under, and the words after ``voice:``."""
    headings = list(_CHANNEL_HEADING.finditer(text))
    preamble = text[: headings[0].start()] if headings else text
    claims = [Claim(code, intensity) for code, intensity in _mentions(preamble)]
    voice = None
    for heading, following in zip(headings, [*headings[1:], None]):
        body = text[heading.end() : following.start() if following else len(text)]
        start_s = end_s = None
        if heading[1]:
            voice = " ".join(filter(None, (voice, body.strip().rstrip(".;")))) or None
        elif time := _TIME.search(heading[2]):
            start_s, end_s = float(time[1]), float(time[2] or time[1])
        claims += [Claim(code, intensity, start_s, end_s) for code, intensity in _mentions(body)]
    return claims, voice


def _mentions(text: str) -> Iterator[tuple[str, float | None]]:
    """(code, intensity or None) of each AU that ``text`` says is there, by code or FACS name; negated ones and
    intensity 0 are left out."""
    for clause in _CLAUSE_END.split(text):
        negation = _NEGATION.search(clause)
        for mention in _MENTION.finditer(clause):
            code = f"AU{mention[1]}" if mention[1] else _CODES[mention[2].lower()]
            intensity = float(mention[3]) if mention[3] else None
            negated = negation is not None and negation.end() <= mention.start()
            said_zero = intensity is not None and not intensity_letter(min(intensity, 5.0))
            if not (negated or said_zero or _SAID_ABSENT.match(clause, mention.end())):
                yield code, intensity


class StreamSplitter:
    """Splits a stream of text pieces into ``("thought", piece)`` and ``("answer", piece)``, tags removed.

    Tags may be cut anywhere between pieces. Outer white space of each channel is dropped, so that the pieces of a
    channel joined together are exactly ``ParsedAnswer.thought`` or ``.answer`` when the text follows the grammar. Text
    outside tags goes to the answer: nothing the model said is lost to a reader.
    """

    def __init__(self) -> None:
        self._held = ""  # text that may be the beginning of a tag
        self._channel = "answer"
        self._space: dict[str, str | None] = {"thought": None, "answer": None}  # None: nothing sent on it yet

    def feed(self, piece: str) -> list[tuple[str, str]]:
        """The parts of all text so far that are settled by this piece and were not returned before."""
        text, self._held = self._held + piece, ""
        cut = text.rfind("<")
        if cut >= 0 and any(tag.startswith(text[cut:]) for tag in _TAGS):
            text, self._held = text[:cut], text[cut:]
        if not text:
            return []
        return self._split(text)

    def close(self) -> list[tuple[str, str]]:
        """What is left at the end of the stream: the beginning of a tag that never came."""
        text, self._held = self._held, ""
        return self._split(text)

    def _split(self, text: str) -> list[tuple[str, str]]:
        out: list[tuple[str, str]] = []
        position = 0
        for tag in _TAG.finditer(text):
            out += self._send(text[position : tag.start()])
            self._channel = "thought" if tag[0] == "<think>" else "answer"
            position = tag.end()
        return out + self._send(text[position:])

    def _send(self, text: str) -> list[tuple[str, str]]:
        """Hold white space back until something follows it; drop it at the start of a channel."""
        space = self._space[self._channel]
        solid = text.rstrip()
        if not solid:
            self._space[self._channel] = None if space is None else space + text
            return []
        self._space[self._channel] = text[len(solid) :]
        return [(self._channel, solid.lstrip() if space is None else space + solid)]
