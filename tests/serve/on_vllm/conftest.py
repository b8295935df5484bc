"""One vLLM engine for all tests of the plugin, inside this process, on the generated checkpoint.

The folder is not called ``vllm``: it would be found where vLLM is looked for.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from reference import Engine, Reference

from emollm.serve.vllm_setup import vllm_version


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if vllm_version() is None:
        for item in items:
            if Path(__file__).parent in item.path.parents:
                item.add_marker(pytest.mark.skip(reason="vLLM is not installed"))


@pytest.fixture(scope="session")
def reference(tiny: Path) -> Reference:
    return Reference(tiny)


@pytest.fixture(scope="session")
def engine(tiny: Path) -> Iterator[Engine]:
    engine = Engine(tiny, enable_lora=True, max_lora_rank=8)
    yield engine
    engine.close()
