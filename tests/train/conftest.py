"""Parts and encoded data sets so small that a training takes seconds."""

from pathlib import Path

import pytest
from fakes import make_faces, make_voices
from tiny import Parts, make_parts

from emollm.model.checkpoint import assemble
from emollm.model.processing_emollm import EmoLLMProcessor


@pytest.fixture(scope="session")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Parts:
    return make_parts(tmp_path_factory.mktemp("parts"))


@pytest.fixture(scope="session")
def processor(parts: Parts) -> EmoLLMProcessor:
    return assemble(parts.llm, parts.audio_encoder, parts.face_tower, parts.voice_head)[1]


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with ``faces/fake.npz`` and ``voices/emodb.npz``."""
    folder = tmp_path_factory.mktemp("data")
    make_faces().save(folder / "faces" / "fake.npz")
    make_voices().save(folder / "voices" / "emodb.npz")
    return folder
