"""Special tokens that a user types stay text.

A tokenizer finds ``<|face|>`` or ``<think>`` wherever the characters stand, and some tokenizers normalise the text
first: full-width letters, accents, capitals and invisible characters may go. So text is compared folded (compatibility
forms, case, marks and format characters removed), and wherever a token begins in the folded text its first character
is replaced. The replacement occurs in no token, so no new one can come about: once is enough, in linear time.
"""

import re
import unicodedata
from collections.abc import Collection
from functools import lru_cache
from typing import Any

from emollm.model.processing_emollm import ANSWER_TOKENS, AUDIO_TOKEN, FACE_TOKEN, THINK_TOKENS

#: Those of every EmoLLM checkpoint, and the turns of its chat template. `special_tokens` gives all of one tokenizer.
OUR_TOKENS = frozenset((FACE_TOKEN, AUDIO_TOKEN, *THINK_TOKENS, *ANSWER_TOKENS, "<|im_start|>", "<|im_end|>"))

_MARKUP = re.compile(r"<\S+>|\[\S+\]")
_INVISIBLE = frozenset(("Mn", "Me", "Cf", "Cc"))
_KEPT_CONTROLS = "\t\n\r"


def special_tokens(tokenizer: Any) -> frozenset[str]:
    """Every token of a Hugging Face tokenizer that no user may write: special and added ``<...>`` ones."""
    added = tokenizer.added_tokens_decoder.values()
    marks = {token.content for token in added if token.special or _MARKUP.fullmatch(token.content)}
    return OUR_TOKENS | marks | frozenset(tokenizer.all_special_tokens)


def defuse(text: str, tokens: Collection[str] = OUR_TOKENS) -> str:
    """Text in which no token begins any more: ``<think>`` becomes `` think>``. The length stays, twice is as once."""
    pattern, blank = _pattern(frozenset(tokens))
    folded, origins = _fold(text)
    characters = list(text)
    for found in pattern.finditer(folded):
        characters[origins[found.start()]] = blank
    return "".join(characters)


@lru_cache(maxsize=8)
def _pattern(tokens: frozenset[str]) -> tuple[re.Pattern[str], str]:
    folded = {fold for token in tokens if (fold := _fold(token)[0]).strip()}
    held = set().union(*folded)
    blank = next(character for character in " ·‹¤" if character not in held)
    # Looking ahead finds overlapping tokens too. Without tokens nothing must match.
    return re.compile(f"(?={'|'.join(map(re.escape, sorted(folded)))})" if folded else r"(?!)"), blank


def _fold(text: str) -> tuple[str, range | list[int]]:
    """The folded text, and for each of its characters the index in ``text`` that it comes from."""
    if text.isascii() and text.isprintable():
        return text.lower(), range(len(text))
    pieces, origins = [], []
    for index, character in enumerate(text):
        piece = _fold_character(character)
        pieces.append(piece)
        origins += [index] * len(piece)
    return "".join(pieces), origins


@lru_cache(maxsize=1 << 14)
def _fold_character(character: str) -> str:
    if character in _KEPT_CONTROLS:
        return character
    if character == "▁":  # how SentencePiece writes a space
        return " "
    shown = (c for c in unicodedata.normalize("NFKD", character) if unicodedata.category(c) not in _INVISIBLE)
    return "".join(shown).casefold()
