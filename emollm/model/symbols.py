"""Reading symbols: what the heads of the towers read, in tokens that the language model can copy.

A small language model does not read numbers off a continuous vector: told of an Action Unit (AU) by the strength of a
direction, it gets the commonest right and guesses the rest. What it does well is to copy words that stand in its
prompt. So besides the continuous tokens of the adapters, each modality states its readings in symbols of a learned
table: the phases of the face's course with first and last second in digits, the leading expression and the strongest
AUs of each, spelled out as in a text, and the voice's leading emotion and how it sounds. A symbol means the same
in every slot; a second, small embedding tells the slots apart. The table starts as the language model's own embeddings
of the words (:mod:`emollm.model.checkpoint`), so that a symbol and the word to be written for it are alike before any
training.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from emollm.emotions import EMOTIONS, EXPRESSIONS
from emollm.facs import ACTION_UNITS, MAX_INTENSITY, ActionUnit
from emollm.model.course import MAX_NAMED, MAX_PHASES, Course, named
from emollm.voice.prosody import PROSODY_WORDS, word_indices

_LEVELS = int(MAX_INTENSITY)
_DIGITS = 3  # of a second, with leading zeros
_LONGEST_S = 10**_DIGITS - 1
_WORDS = tuple(word or "normal intonation" for slot in PROSODY_WORDS for word in slot)
_NOTHING = ("no", "clear", "action")
_ENDS = (",", ";", ".")  # of an AU: behind it comes another, another phase, or nothing
_UNIT_WORDS = ("AU", *_ENDS, *_NOTHING, *dict.fromkeys(word for au in ACTION_UNITS for word in au.name.split()))

#: What each symbol says, which is what its first embedding is made of.
SYMBOLS: tuple[str, ...] = (*map(str, range(10)), "none", *EXPRESSIONS, *_UNIT_WORDS, *EMOTIONS, *_WORDS)
_NONE = 10
_EXPRESSION = _NONE + 1
_UNIT_WORD = _EXPRESSION + len(EXPRESSIONS)
_EMOTION = _UNIT_WORD + len(_UNIT_WORDS)
_WORD = _EMOTION + len(EMOTIONS)
_WORD_STARTS = [_WORD + sum(map(len, PROSODY_WORDS[:slot])) for slot in range(len(PROSODY_WORDS))]


def _spelled(au: ActionUnit, level: int) -> list[int]:
    """``AU12 lip corner puller 3`` as texts spell it."""
    unit, *words = _words("AU", *au.name.split())
    return [unit, *map(int, str(au.number)), *words, level]


def _words(*words: str) -> list[int]:
    return [_UNIT_WORD + _UNIT_WORDS.index(word) for word in words]


_SPELLED = [_spelled(au, level) for au in ACTION_UNITS for level in range(1, _LEVELS + 1)]
_NO_UNIT, _NO_FURTHER = len(_SPELLED), len(_SPELLED) + 1  # the rows of _UNITS behind those of AUs
UNIT_SYMBOLS = 1 + max(map(len, _SPELLED))  # of an AU; the rest are its end, at least once


def _ended(symbols: list[int], end: int) -> list[int]:
    return symbols + [end] * (UNIT_SYMBOLS - len(symbols))


#: ``(ends, AUs and levels, UNIT_SYMBOLS)`` symbols.
_UNITS = torch.tensor(
    [
        [*(_ended(symbols, end) for symbols in [*_SPELLED, _words(*_NOTHING)]), [_NONE] * UNIT_SYMBOLS]
        for end in _words(*_ENDS)
    ],
    device="cpu",
)

STILL_SYMBOLS = 1 + MAX_NAMED * UNIT_SYMBOLS  # of a picture: expression and AUs
PHASE_SYMBOLS = 2 * _DIGITS + STILL_SYMBOLS  # first and last second before them
FACE_SYMBOLS = MAX_PHASES * PHASE_SYMBOLS
VOICE_SYMBOLS = 1 + len(PROSODY_WORDS)


class ReadingSymbols(nn.Module):
    """The table of symbols and an embedding for each slot: those of the face's phases in order, then the voice's.

    Args:
        text_size: width of the language model.
    """

    def __init__(self, text_size: int):
        super().__init__()
        self.symbol = nn.Embedding(len(SYMBOLS), text_size)
        self.slot = nn.Embedding(FACE_SYMBOLS + VOICE_SYMBOLS, text_size)
        nn.init.zeros_(self.slot.weight)

    def faces(self, ids: Tensor) -> Tensor:
        """Tokens ``(I, FACE_SYMBOLS, text_size)`` of what :func:`face_symbols` gives."""
        return self.symbol(ids) + self.slot.weight[:FACE_SYMBOLS]

    def voices(self, ids: Tensor) -> Tensor:
        """Tokens ``(I, VOICE_SYMBOLS, text_size)`` of what :func:`voice_symbols` gives."""
        return self.symbol(ids) + self.slot.weight[FACE_SYMBOLS:]


def face_symbols(course: Course, window_s: Tensor) -> Tensor:
    """``(I, FACE_SYMBOLS)`` ids, phase by phase: digits of the first second, of the last, expression, AUs.

    The AUs read as in a text: "AU12 lip corner puller 3, AU6 cheek raiser 2; " or "no clear action.", with each mark
    as often as it takes to fill the AU's slots. Phases and AUs that are not there are "none"; seconds are rounded
    down, as texts state them, and end at 999.

    Args:
        course: of I clips.
        window_s: ``(I,)`` seconds, 0 for a still picture.
    """
    exists = (course.first >= 0)[..., None]
    order, level = named(course.units)
    unit = torch.where(order >= 0, _LEVELS * order + level - 1, _NO_FURTHER)
    unit[..., 0] = torch.where(order[..., 0] >= 0, unit[..., 0], _NO_UNIT)
    further = torch.cat([order[..., 1:] >= 0, torch.zeros_like(exists)], dim=-1)
    followed = torch.cat([exists[:, 1:], torch.zeros_like(exists[:, :1])], dim=1)
    end = torch.where(further, _ENDS.index(","), torch.where(followed, _ENDS.index(";"), _ENDS.index(".")))
    units = _UNITS.to(unit.device)[end, unit].flatten(-2)
    seconds = [_digits(index, window_s) for index in (course.first, course.last)]
    phases = torch.cat([*seconds, _EXPRESSION + course.expression[..., None], units], dim=-1)
    return torch.where(exists, phases, _NONE).flatten(1)


def stated_symbols(window_s: Tensor) -> Tensor:
    """``(I, FACE_SYMBOLS)`` bool: which of them have a token; of a still picture, the first phase without seconds."""
    place = torch.arange(FACE_SYMBOLS, device=window_s.device)
    still = (place >= 2 * _DIGITS) & (place < PHASE_SYMBOLS)
    return (window_s > 0)[:, None] | still


def voice_symbols(emotions: Tensor, prosody: Tensor) -> Tensor:
    """``(I, VOICE_SYMBOLS)`` ids: the leading emotion, then the words of :meth:`Prosody.summary`, "normal intonation"
    where it has none.

    Args:
        emotions: ``(I, 9)`` logits or probabilities.
        prosody: ``(I, 8)`` standardised prosody.
    """
    words = torch.from_numpy(word_indices(prosody.detach().float().cpu().numpy())).to(prosody.device)
    starts = torch.tensor(_WORD_STARTS, device=prosody.device)
    return torch.cat([_EMOTION + emotions.argmax(-1, keepdim=True), words + starts], dim=-1)


def _digits(window: Tensor, window_s: Tensor) -> Tensor:
    """``(I, P, 3)`` digits of the second in which each window ``(I, P)`` starts."""
    second = (window * window_s.float()[:, None] + 1e-4).floor().long().clamp(0, _LONGEST_S)
    powers = torch.tensor([10**place for place in reversed(range(_DIGITS))], device=window.device)
    return second[..., None] // powers % 10
