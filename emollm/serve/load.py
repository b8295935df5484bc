"""From the name of an engine to the engine."""

from __future__ import annotations

from pathlib import Path

import torch

from emollm.engines import check_engine, is_url
from emollm.errors import BadArgumentError
from emollm.serve.engine import Engine
from emollm.serve.vllm_setup import vllm_version


def load_engine(name: str, folder: Path) -> Engine:
    """The engine of that name over a merged checkpoint; servers are reached through ``RemoteEngine``.

    ``auto`` takes vLLM where that and a GPU are, else transformers: on a CPU one question is answered no sooner by
    vLLM, which takes half a minute to start; on a GPU it answers many at once, which folders and evaluations need.

    Raises:
        WeightsError: the folder holds no EmoLLM checkpoint. BadArgumentError: no such engine, or vLLM is missing.
        EngineError: vLLM does not start.
    """
    check_engine(name)
    if is_url(name):
        raise BadArgumentError("A checkpoint of one's own is not run by a server.")
    if name == "vllm" or (name == "auto" and torch.cuda.is_available() and vllm_version() is not None):
        from emollm.serve.vllm_engine import VllmEngine

        return VllmEngine(folder)
    from emollm.serve.transformers_engine import TransformersEngine

    return TransformersEngine(folder)
