"""Parts and encoded data sets so small that a training takes seconds."""

from pathlib import Path

import pytest
import torch
from fakes import make_faces, make_voices
from peft import LoraConfig, get_peft_model
from tiny import Parts, make_parts

from emollm.model.checkpoint import assemble
from emollm.model.processing_emollm import EmoLLMProcessor
from emollm.train.sft import LORA_TARGETS
from emollm.train.trainer import save_parts


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


@pytest.fixture(scope="session")
def start(parts: Parts, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What an SFT run leaves behind; its LoRA does something."""
    folder = tmp_path_factory.mktemp("sft")
    torch.manual_seed(5)
    model, _ = assemble(parts.llm, parts.audio_encoder, parts.face_tower, parts.voice_head)
    peft_model = get_peft_model(model, LoraConfig(r=2, lora_alpha=4, target_modules=LORA_TARGETS))
    for name, parameter in peft_model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    save_parts(peft_model, model, folder)
    return folder
