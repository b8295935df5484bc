"""What a server replies, put together in the grammar of :mod:`emollm.reasoning.parse`."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from emollm.emotions import EMOTIONS

_TAGS = ("<think>", "<answer>")


class Joiner:
    """Joins the pieces of ``reasoning`` and of content, as they come, to one text with section tags.

    Reasoning becomes the thought. Content that brings its own tags stays as it is (but a thought in it goes on from
    the reasoning before it); content without tags becomes the answer.
    """

    def __init__(self) -> None:
        self._thinking = self._wrapped = False
        self._held: str | None = ""  # beginning of the content, until it shows whether it begins with a tag

    def reasoning(self, piece: str) -> Iterator[str]:
        if piece:
            yield piece if self._thinking else "<think>" + piece
            self._thinking = True

    def content(self, piece: str) -> Iterator[str]:
        if self._held is None:
            yield piece
            return
        self._held += piece
        begun = self._held.lstrip()
        if begun and not any(tag.startswith(begun) for tag in _TAGS):
            yield self._begin(begun)

    def close(self, finished: bool) -> Iterator[str]:
        """The rest. ``finished``: the server ended the reply of itself, and not because it grew too long."""
        if self._held and self._held.strip():
            yield self._begin(self._held.lstrip())
        elif self._held is not None and self._thinking and finished:
            yield "</think>"
        if self._wrapped and finished:
            yield "</answer>"

    def _begin(self, content: str) -> str:
        self._held = None
        if self._thinking and content.startswith("<think>"):
            return "\n" + content.removeprefix("<think>")
        self._wrapped = not content.startswith(_TAGS)
        return ("</think>\n" if self._thinking else "") + ("<answer>" if self._wrapped else "") + content


class Shares:
    """Reads the probability of each label off the log-probabilities that come with a reply of our own model.

    Only our vocabulary has ``<answer>`` as one token, so replies of other models have none. Servers tell the 20 most
    likely tokens; a label that is not among them counts as impossible.

    Args:
        labels: by the text of the token that each begins with.
    """

    def __init__(self, labels: Mapping[str, str]):
        self.labels = labels
        self.distribution: dict[str, float] = {}
        self._last: str | None = None

    def read(self, logprobs: Any) -> None:
        """Take in the ``logprobs`` of a choice or of a piece of it, None included."""
        for token in getattr(logprobs, "content", None) or []:
            if self._last == "<answer>" and token.token in self.labels:
                found = {
                    self.labels[one.token]: math.exp(one.logprob)
                    for one in token.top_logprobs or []
                    if one.token in self.labels
                }
                total = sum(found.values())
                self.distribution = {label: found.get(label, 0.0) / total for label in EMOTIONS} if total else {}
            self._last = token.token
