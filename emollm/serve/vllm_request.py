"""A request of ours in vLLM's terms and vLLM's reply in ours, whether vLLM is in this process or serves others too."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from emollm.emotions import EMOTIONS
from emollm.model.processing_emollm import EmoLLMProcessor
from emollm.serve.engine import LocalTowers, Request

if TYPE_CHECKING:
    from vllm import SamplingParams

_MEDIA = ("video", "image", "audio")


@dataclass(frozen=True)
class Asked:
    """A request as vLLM takes it; ``shown``: the text of it, every placeholder in it, without the thought."""

    prompt: dict[str, Any]
    shown: str
    request: Request


def ask(request: Request, processor: EmoLLMProcessor, think: bool) -> Asked:
    """The prompt of a request: tokens with single placeholders, and the states of the clip that was encoded here."""
    text = processor.apply_chat_template(
        request.messages, tokenize=False, add_generation_prompt=True, enable_thinking=think
    )
    (shown,) = processor.expand([text], [request.clip.placeholders])
    data = {}
    if request.clip.states:
        data = {"multi_modal_data": {_modality(request): [request.clip]}}
    else:
        text = shown  # says that nothing is there
    tokens = processor.tokenizer.encode(text + request.thought, add_special_tokens=False)
    return Asked({"prompt_token_ids": tokens, **data}, shown, request)


def _modality(request: Request) -> str:
    contents = [message["content"] for message in request.messages if not isinstance(message["content"], str)]
    return next(part["type"] for content in contents for part in content if part["type"] in _MEDIA)


def choosing(request: Request, towers: LocalTowers, new_tokens: int, streamed: bool) -> SamplingParams:
    """How tokens are chosen: greedy as transformers, or drawn; with the scores of the labels at every token."""
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    config = towers.towers.config
    return SamplingParams(
        temperature=request.temperature,
        seed=request.seed if request.temperature else None,
        max_tokens=new_tokens,
        logprob_token_ids=towers.label_ids,
        logit_bias={config.face_token_id: -100.0, config.audio_token_id: -100.0},  # a reply holds no placeholder
        detokenize=streamed,
        output_kind=RequestOutputKind.DELTA if streamed else RequestOutputKind.FINAL_ONLY,
    )


def text_of(tokens: Sequence[int], towers: LocalTowers) -> str:
    """A reply as text: also the half of a letter that it may break off in, which vLLM leaves out."""
    text: str = towers.processor.tokenizer.decode(list(tokens), skip_special_tokens=True)
    return text


def label_shares(before: int, tokens: Sequence[int], logprobs: Any, towers: LocalTowers) -> dict[str, float]:
    """Probability of each label where the label is written: at the token behind the last ``<answer>``.

    Args:
        before: last token of the prompt.
        tokens: of the reply.
        logprobs: vLLM's mappings for each of them, which hold those of the labels.
    """
    behind = [place for place, last in enumerate([before, *tokens][: len(tokens)]) if last == towers.answer_id]
    if not behind:
        return {}
    found = torch.tensor([logprobs[behind[-1]][token].logprob for token in towers.label_ids])
    return dict(zip(EMOTIONS, found.softmax(-1).tolist()))
