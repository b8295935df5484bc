"""Other language models in the place of Llama."""

import pytest
import torch
from tiny import make_clip, make_llm
from torch.testing import assert_close
from transformers import (
    Gemma3ForCausalLM,
    LlamaForCausalLM,
    MistralForCausalLM,
    Qwen2ForCausalLM,
    Qwen3ForCausalLM,
)

from emollm.model.checkpoint import assemble
from emollm.model.modeling_emollm import EmoLLMForConditionalGeneration

BACKBONES = (LlamaForCausalLM, Qwen2ForCausalLM, Qwen3ForCausalLM, MistralForCausalLM, Gemma3ForCausalLM)


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize("kind", BACKBONES, ids=lambda kind: kind.__name__)
def test_a_causal_language_model_is_a_backbone(kind, tied, tiny, prompt, tmp_path):
    parts = tiny.parent
    llm = make_llm(tmp_path / "llm", kind, tie_word_embeddings=tied, head_dim=16)
    model, processor = assemble(llm, parts / "audio_encoder", parts / "face_tower", parts / "voice_head.safetensors")
    inputs = processor([prompt] * 2, [make_clip(), make_clip(1.0, voice=False, seed=1)])
    cached = model.generate(**inputs, max_new_tokens=8)
    assert torch.equal(cached, model.generate(**inputs, max_new_tokens=8, use_cache=False))
    model.save_pretrained(tmp_path / "saved")
    loaded = EmoLLMForConditionalGeneration.from_pretrained(tmp_path / "saved").eval()
    assert type(loaded.model.language_model) is type(kind.from_pretrained(llm).model)
    assert (loaded.lm_head.weight is loaded.get_input_embeddings().weight) == tied
    with torch.no_grad():
        assert_close(model(**inputs).logits, loaded(**inputs).logits)


@pytest.mark.parametrize("kind", BACKBONES, ids=lambda kind: kind.__name__)
def test_text_alone_is_answered_as_by_the_language_model_itself(kind, tiny, tmp_path):
    parts = tiny.parent
    llm = make_llm(tmp_path, kind, head_dim=16)
    model, processor = assemble(llm, parts / "audio_encoder")
    tokens = processor.tokenizer("How does this person feel?", return_tensors="pt")
    bare = kind.from_pretrained(llm).eval()
    with torch.no_grad():
        known = bare(**tokens).logits
        assert_close(model(**tokens).logits[..., : known.shape[-1]], known, rtol=1e-4, atol=1e-4)
