"""``<think>...</think>`` to ``reasoning``, everything else to ``content``, whole and streamed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vllm.entrypoints.generate.base.protocol import DeltaMessage
from vllm.reasoning.basic_parsers import BaseThinkingReasoningParser

from emollm.model.processing_emollm import THINK_TOKENS


class EmoLLMReasoningParser(BaseThinkingReasoningParser):
    """Unlike vLLM's own parsers, text without tags is content: the model may answer without thinking."""

    @property
    def start_token(self) -> str:
        return THINK_TOKENS[0]

    @property
    def end_token(self) -> str:
        return THINK_TOKENS[1]

    def __init__(self, tokenizer: Any, *args: Any, **kwargs: Any):
        super().__init__(tokenizer, *args, **kwargs)
        self.thinks = (kwargs.get("chat_template_kwargs") or {}).get("enable_thinking", True)

    def is_reasoning_end(self, input_ids: Sequence[int]) -> bool:
        """Whether what follows is content: the last tag closes, or there is none and no thought was asked for.

        vLLM asks this of a prompt too, in which no thought has begun yet: it may be the first thing that follows.
        """
        tags = [token for token in input_ids if token in (self.start_token_id, self.end_token_id)]
        return tags[-1] == self.end_token_id if tags else not self.thinks

    def extract_content_ids(self, input_ids: list[int]) -> list[int]:
        """Tokens behind the thought; all of them without a thought, none while it lasts."""
        if self.end_token_id in input_ids:
            return input_ids[input_ids.index(self.end_token_id) + 1 :]
        return [] if self.start_token_id in input_ids else input_ids

    def extract_reasoning(self, model_output: str, request: Any) -> tuple[str | None, str | None]:
        """Thought and content; each None where there is none."""
        before, opened, rest = model_output.partition(self.start_token)
        if not opened:
            return None, model_output
        thought, _, after = rest.partition(self.end_token)
        return thought or None, before + after or None

    def extract_reasoning_streaming(
        self,
        previous_text: str,
        current_text: str,
        delta_text: str,
        previous_token_ids: Sequence[int],
        current_token_ids: Sequence[int],
        delta_token_ids: Sequence[int],
    ) -> DeltaMessage | None:
        """What the new piece adds to each."""
        request: Any = None
        old, new = self.extract_reasoning(previous_text, request), self.extract_reasoning(current_text, request)
        reasoning, content = ((n or "")[len(o or "") :] for o, n in zip(old, new))
        if not reasoning and not content:
            return None
        return DeltaMessage(reasoning=reasoning or None, content=content or None)
