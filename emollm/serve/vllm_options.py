"""What vLLM is told: its environment and its arguments."""

from __future__ import annotations

import os
from argparse import Namespace
from pathlib import Path
from typing import Any

from emollm.errors import BadArgumentError
from emollm.serve.settings import Settings

DEFAULT_NAME = "emollm-tiny"
# Good for a model of this size on a few cores. On a GPU vLLM's own choices stand.
_ON_CPU = {
    "dtype": "float32",
    "enforce_eager": True,
    "max_num_seqs": 64,
    "block_size": 32,  # prefixes are reused in whole blocks; the usual 128 tokens are more than many clips take
}
_CPU_CACHE_GIB = "1"


def prepare_environment(log_file: Path | None = None) -> None:
    """Set what vLLM reads from the environment, for this process and those of the engine. What is set stands.

    ``log_file`` is a logging configuration, for all of these processes.
    """
    from emollm.serve.vllm_setup import prepare_vllm

    os.environ["VLLM_KEEP_ALIVE_ON_ENGINE_DEATH"] = "1"  # this server watches the engine itself
    for name, value in {
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
        "VLLM_CPU_KVCACHE_SPACE": _CPU_CACHE_GIB,
    }.items():
        os.environ.setdefault(name, value)
    if log_file:
        os.environ.setdefault("VLLM_LOGGING_CONFIG_PATH", str(log_file))
    prepare_vllm()


def vllm_arguments(settings: Settings, folder: Path) -> Namespace:
    """The arguments of vLLM's server: its own defaults, what suits a CPU, the operator's choices, and what is fixed.

    Raises:
        BadArgumentError: ``settings.engine`` names an option that vLLM does not have.
    """
    from vllm.entrypoints.launchers.cli_args import make_arg_parser
    from vllm.platforms import current_platform
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    arguments = make_arg_parser(FlexibleArgumentParser()).parse_args([])
    if unknown := sorted(settings.engine.keys() - vars(arguments).keys()):
        raise BadArgumentError(f"vLLM has no option '{unknown[0]}' (under 'engine' in the settings).")
    most = settings.limits.media_parts
    fixed: dict[str, Any] = {
        "model": str(folder),
        "served_model_name": [settings.name or (folder.name if settings.model else DEFAULT_NAME)],
        "limit_mm_per_prompt": {"video": most, "image": most, "audio": most},
        "allowed_media_domains": ["none.invalid"],  # the guard hands over data URLs; vLLM itself fetches nothing
        "override_generation_config": {"temperature": 0.0, "max_new_tokens": settings.max_new_tokens},
        "reasoning_parser": "emollm",
        # Our own cache sits before vLLM's, which would take a clip for known that came with a request refused later.
        "mm_processor_cache_gb": 0,
        "shutdown_timeout": settings.drain_timeout_s,
        "allowed_origins": [],
        "disable_fastapi_docs": True,
        "enable_log_requests": False,
    }
    on_this_machine = _ON_CPU if current_platform.is_cpu() else {}
    for name, value in {**on_this_machine, **settings.engine, **fixed}.items():
        setattr(arguments, name, value)
    # A small model that may write white space between the parts of a JSON answer can go on with it without end.
    arguments.structured_outputs_config.backend = "xgrammar"
    arguments.structured_outputs_config.disable_any_whitespace = True
    return arguments
