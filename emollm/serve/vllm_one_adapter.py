"""LoRA in vLLM on a CPU, where all prompts have one adapter: a product of matrices.

vLLM's own way there (``vllm.lora.ops.torch_ops``) copies the adapter for each token before it multiplies.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor
from vllm.lora.punica_wrapper.punica_cpu import PunicaWrapperCPU
from vllm.platforms import current_platform


class OneAdapter(PunicaWrapperCPU):
    """For engines with room for one adapter, which every request brings."""

    def add_lora_linear(
        self,
        y: Tensor,
        x: Tensor,
        lora_a_stacked: tuple[Tensor, ...],
        lora_b_stacked: tuple[Tensor, ...],
        scale: float,
        output_slices: tuple[int, ...],
        **_: Any,
    ) -> None:
        """Add to ``(N, sum of output_slices)`` in place; adapters are ``(1, 1, R, in)`` and ``(1, 1, out, R)``."""
        for out, a, b in zip(y.split(output_slices, -1), lora_a_stacked, lora_b_stacked):
            out += (x.float() @ a[0, 0].T.float() * scale).to(y.dtype) @ b[0, 0].T

    def add_lora_logits(self, *_: Any, **__: Any) -> None:
        """No LoRA here has a part for the language-model head; vLLM would add zeros to every logit."""


@contextmanager
def one_adapter() -> Iterator[None]:
    """Engines that start in here use :class:`OneAdapter`, if they run on a CPU."""
    if not current_platform.is_cpu():
        yield
        return
    usual = current_platform.get_punica_wrapper
    current_platform.get_punica_wrapper = lambda: f"{__name__}.{OneAdapter.__name__}"  # type: ignore[method-assign]
    try:
        yield
    finally:
        current_platform.get_punica_wrapper = usual  # type: ignore[method-assign]
