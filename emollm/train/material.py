"""What a run of instruction tuning is made of, wherever its records come from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from emollm.model.modeling_emollm import EmoLLMForConditionalGeneration
from emollm.model.processing_emollm import EmoLLMProcessor


@dataclass
class Material:
    """The model as it starts, its records (JSON) in order, what makes batches of them, and records only to score."""

    model: EmoLLMForConditionalGeneration
    processor: EmoLLMProcessor
    rows: list[str]
    collate: Callable[[list[dict[str, str]]], dict[str, Tensor]]
    valid: list[str] = field(default_factory=list)


def in_batches(
    rows: list[str], collate: Callable[[list[dict[str, str]]], dict[str, Tensor]], batch_size: int, seed: int
) -> list[str]:
    """The rows in an order that keeps the curriculum but fills each batch with rows of like length in tokens (sorted
    within 16 batches): 7 % of a batch is padding then."""
    tokens = _tokens(rows, collate)
    random, order = np.random.default_rng(seed), []
    for start in range(0, len(rows), 16 * batch_size):
        within = sorted(rows[start : start + 16 * batch_size], key=lambda row: tokens[row])
        batches = [within[i : i + batch_size] for i in range(0, len(within), batch_size)]
        random.shuffle(batches)
        order += [row for batch in batches for row in batch]
    return order


def _tokens(rows: list[str], collate: Callable[[list[dict[str, str]]], dict[str, Tensor]]) -> dict[str, int]:
    """Length of each different row, with all that its clip brings."""
    different, lengths = list(dict.fromkeys(rows)), []
    for start in range(0, len(different), 64):
        batch = collate([{"record": row} for row in different[start : start + 64]])
        lengths += batch["attention_mask"].sum(-1).tolist()
    return dict(zip(different, lengths))


def to_bfloat16(model: EmoLLMForConditionalGeneration) -> None:
    """The frozen language model in bfloat16, cast once, not each step."""
    model.model.language_model.to(torch.bfloat16)
    model.lm_head.to(torch.bfloat16)
    model.tie_weights()
