"""What is asked of the model, and how: messages, the default question, and user text made harmless."""

from __future__ import annotations

import re
from typing import Any

DEFAULT_QUESTION = "How does this person feel?"
MAX_QUESTION = 2000
MAX_TRANSCRIPT = 600

# Typed by a user these would become real placeholders, sections or turns.
_SPECIAL = re.compile(r"<\|[^<>|]*\|>|</?(?:think|answer)>", re.IGNORECASE)

Message = dict[str, Any]


def neutralise(text: str) -> str:
    """Text without anything that the tokenizer would read as a special token or a section tag.

    Takes time in the square of the length where tokens are nested in tokens: cut what a user typed first.
    """
    while (cleaned := _SPECIAL.sub(" ", text)) != text:  # removing one may join the halves of another
        text = cleaned
    return text.strip()


def clip_message(question: str | None = None, transcript: str = "", media: str = "video") -> Message:
    """First turn about a clip: the clip, what was said in it, the question.

    Args:
        question: None asks :data:`DEFAULT_QUESTION`. Cut at ``MAX_QUESTION`` characters.
        transcript: cut at ``MAX_TRANSCRIPT`` characters.
        media: ``"video"`` (face and voice), ``"image"`` or ``"audio"``; names the placeholders of the chat template.
    """
    said = neutralise(transcript[:MAX_TRANSCRIPT])
    text = f'said: "{said}"\n' if said else ""
    text += neutralise((question or "")[:MAX_QUESTION]) or DEFAULT_QUESTION
    return {"role": "user", "content": [{"type": media}, {"type": "text", "text": text}]}


def user_message(question: str) -> Message:
    """A further turn."""
    return {"role": "user", "content": [{"type": "text", "text": neutralise(question[:MAX_QUESTION])}]}


def assistant_message(answer: str) -> Message:
    """A turn of the model as it is kept in the dialogue: its answer without the thought."""
    return {"role": "assistant", "content": f"<answer>{neutralise(answer)}</answer>"}
