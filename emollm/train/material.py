"""What a run of instruction tuning is made of, wherever its records come from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
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


def in_batches(length: list[int], batch_size: int, seed: int) -> list[int]:
    """Order that keeps the curriculum but fills each batch with like lengths (sorted within 16 batches)."""
    random, order = np.random.default_rng(seed), []
    for start in range(0, len(length), 16 * batch_size):
        rows = sorted(range(start, min(start + 16 * batch_size, len(length))), key=lambda row: length[row])
        batches = [rows[i : i + batch_size] for i in range(0, len(rows), batch_size)]
        random.shuffle(batches)
        order += [row for batch in batches for row in batch]
    return order
