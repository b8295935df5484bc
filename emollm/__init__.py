"""EmoLLM: ask a video clip how someone feels, and get an answer whose evidence can be checked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from emollm.api import EmoLLM
    from emollm.media.clip import read_clip
    from emollm.report import EmotionReport

__all__ = ["EmoLLM", "EmotionReport", "read_clip"]
__version__ = "0.1.0"

_HOMES = {"EmoLLM": "emollm.api", "EmotionReport": "emollm.report", "read_clip": "emollm.media.clip"}


def __getattr__(name: str) -> Any:
    # Imported on first use, so that ``emollm --help`` does not wait for torch.
    if name not in _HOMES:
        raise AttributeError(f"module 'emollm' has no attribute '{name}'")
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)
