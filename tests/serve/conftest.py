"""Engines on the generated checkpoints."""

from pathlib import Path

import pytest
from tiny import make_scripted, make_tiny

from emollm.serve.transformers_engine import TransformersEngine


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def scripted_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_scripted(tmp_path_factory.mktemp("scripted"))


@pytest.fixture
def engine(tiny: Path) -> TransformersEngine:
    """Random weights: replies are gibberish that depends on the clip."""
    return TransformersEngine(tiny)


@pytest.fixture
def scripted(scripted_folder: Path) -> TransformersEngine:
    """Replies ``tiny.SCRIPT`` whatever is asked."""
    return TransformersEngine(scripted_folder)
