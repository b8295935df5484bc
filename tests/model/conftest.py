"""The generated tiny checkpoint, loaded."""

from pathlib import Path

import pytest
from tiny import make_tiny
from transformers import BatchFeature

from emollm.model.modeling_emollm import EmoLLMForConditionalGeneration
from emollm.model.processing_emollm import ClipInputs, EmoLLMProcessor
from emollm.reasoning.prompts import clip_message


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the checkpoint; the parts it was made of lie beside it."""
    return make_tiny(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def processor(tiny: Path) -> EmoLLMProcessor:
    return EmoLLMProcessor.from_pretrained(tiny)


@pytest.fixture
def model(tiny: Path) -> EmoLLMForConditionalGeneration:
    return EmoLLMForConditionalGeneration.from_pretrained(tiny).eval()


@pytest.fixture(scope="session")
def prompt(processor: EmoLLMProcessor) -> str:
    """The first question about a clip, as the model is given it, with single placeholders."""
    return processor.apply_chat_template([clip_message()], tokenize=False, add_generation_prompt=True)


@pytest.fixture(scope="session")
def ask(processor: EmoLLMProcessor, prompt: str):  # type: ignore[no-untyped-def]
    """Inputs of the first question about some clips, one a row."""

    def inputs(*clips: ClipInputs, padding_side: str = "left") -> BatchFeature:
        return processor([prompt] * len(clips), list(clips), padding_side=padding_side)

    return inputs
