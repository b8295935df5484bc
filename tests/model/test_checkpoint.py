import shutil

import pytest
import torch
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict
from safetensors.torch import load_file, save_file
from tiny import AUDIO_SIZE, make_llm
from torch.testing import assert_close
from transformers import AutoTokenizer, LlamaForCausalLM

from emollm.errors import WeightsError
from emollm.facs import AU_NAMES
from emollm.model import checkpoint
from emollm.model.audio_encoder import LayersVoiceHead, VoiceHead
from emollm.model.checkpoint import assemble, default_model, merged, ship, trained_parts, voice_note, voice_settings
from emollm.model.modeling_emollm import EmoLLMForConditionalGeneration
from emollm.train.trainer import save_parts


@pytest.fixture
def parts(tiny):
    return tiny.parent


@pytest.fixture
def assembled(parts):
    torch.manual_seed(2)
    return assemble(parts / "llm", parts / "audio_encoder", parts / "face_tower", parts / "voice_head.safetensors")


@pytest.fixture
def run(assembled, parts, tmp_path):
    """A finished run whose adapters and LoRA differ from the untrained ones."""
    model, _ = assembled
    folder = tmp_path / "run"
    folder.mkdir()
    save_file({key: value + 0.1 for key, value in trained_parts(model).items()}, folder / "adapters.safetensors")
    lora = LoraConfig(r=2, target_modules=r".*language_model\..*\.(q|v)_proj", init_lora_weights=False)
    tuned = get_peft_model(EmoLLMForConditionalGeneration(model.config), lora)
    (folder / "lora").mkdir()
    save_file(get_peft_model_state_dict(tuned), folder / "lora" / "adapter_model.safetensors")
    tuned.peft_config["default"].save_pretrained(folder / "lora")
    return folder


def test_a_checkpoint_holds_the_parts_it_was_assembled_from(assembled, parts):
    model, _ = assembled
    for folder, module in (("face_tower", model.model.face_tower), ("audio_encoder", model.model.audio_tower)):
        for key, value in load_file(parts / folder / "model.safetensors").items():
            assert torch.equal(module.state_dict()[key], value), key
    for key, value in load_file(parts / "voice_head.safetensors").items():
        assert torch.equal(model.model.voice_head.state_dict()[key], value), key
    for key, value in load_file(parts / "llm" / "model.safetensors").items():
        inner = model.model.language_model.state_dict()[key.removeprefix("model.")]
        assert torch.equal(inner[: len(value)], value), key


def test_a_reading_starts_as_its_name_in_the_language_of_the_model(assembled):
    model, processor = assembled
    embeddings = model.get_input_embeddings().weight
    pieces = processor.tokenizer.encode(" " + AU_NAMES["AU12"], add_special_tokens=False)
    name = embeddings[pieces].mean(0)
    column = model.model.face_adapter.reading.weight[:, list(AU_NAMES).index("AU12")]
    assert_close(torch.cosine_similarity(column, name, dim=0), torch.tensor(1.0))
    assert_close(column.norm(), embeddings.norm(dim=-1).median())


def test_new_tokens_start_between_their_words_at_more_than_full_length(assembled):
    model, processor = assembled
    embeddings, tokenizer = model.get_input_embeddings().weight, processor.tokenizer
    row = embeddings[tokenizer.convert_tokens_to_ids("<answer>")]
    mean = embeddings[tokenizer.encode(" verdict aloud", add_special_tokens=False)].mean(0)
    assert_close(torch.cosine_similarity(row, mean, dim=0), torch.tensor(1.0))
    assert row.norm() > mean.norm()  # a row no longer than the mean of its words could never be preferred to them


def test_trained_parts_are_adapters_and_voice_head(assembled):
    model, _ = assembled
    names = {key.split(".")[0] for key in trained_parts(model)}
    assert names == {"voice_head", "face_adapter", "audio_adapter", "prosody_adapter", "reading_symbols"}


def test_shipped_parts_come_back_merged(run, parts, assembled, tmp_path):
    ship(run, parts / "face_tower", tmp_path / "shipped")
    untrained, _ = assembled
    model, _ = merged(tmp_path / "shipped", parts / "llm", parts / "audio_encoder")
    shipped = load_file(run / "adapters.safetensors")
    for key, value in trained_parts(model).items():
        assert value.dtype == torch.float32
        assert_close(value, shipped[key], rtol=1e-3, atol=1e-3)  # half precision on the way
    lora = load_file(run / "lora" / "adapter_model.safetensors")
    for projection in ("q", "k"):
        name = f"model.language_model.layers.0.self_attn.{projection}_proj"
        a, b = (lora.get(f"base_model.model.{name}.lora_{matrix}.weight") for matrix in "AB")
        change = 0 if a is None else b @ a * 8 / 2  # alpha / rank
        weight = untrained.get_parameter(f"{name}.weight")
        assert_close(model.get_parameter(f"{name}.weight"), weight + change, rtol=1e-2, atol=1e-2)
    assert not any("lora" in name for name, _ in model.named_parameters())


def test_adapters_of_another_model_are_refused(run, parts, tmp_path):
    ship(run, parts / "face_tower", tmp_path / "shipped")
    save_file({"nose_adapter.weight": torch.zeros(1)}, tmp_path / "shipped" / "adapters.safetensors")
    with pytest.raises(WeightsError, match="belong to another model"):
        merged(tmp_path / "shipped", parts / "llm", parts / "audio_encoder")


def test_without_shipped_parts_there_is_no_default(monkeypatch, tmp_path):
    monkeypatch.setattr(checkpoint, "SHIPPED", tmp_path)
    with pytest.raises(WeightsError, match="ships no trained parts"):
        default_model()


def test_the_default_is_merged_once(run, parts, monkeypatch, tmp_path):
    asked = []

    def fetch(name, progress=True):
        asked.append(name)
        return parts / name

    ship(run, parts / "face_tower", tmp_path / "shipped")
    monkeypatch.setattr(checkpoint, "SHIPPED", tmp_path / "shipped")
    monkeypatch.setattr(checkpoint, "fetch", fetch)
    monkeypatch.setenv("EMOLLM_CACHE", str(tmp_path / "cache"))
    folder = default_model(progress=False)
    assert asked == ["llm", "audio_encoder"]
    assert default_model(progress=False) == folder
    assert asked == ["llm", "audio_encoder"]
    assert isinstance(EmoLLMForConditionalGeneration.from_pretrained(folder), EmoLLMForConditionalGeneration)
    assert not list(folder.glob("*.bin"))

    adapters = load_file(tmp_path / "shipped" / "adapters.safetensors")
    save_file({key: value + 1 for key, value in adapters.items()}, tmp_path / "shipped" / "adapters.safetensors")
    assert default_model(progress=False) != folder  # other trained parts are another default


@pytest.fixture
def head(tmp_path):
    """File of a voice head that hears two layers, with its note."""
    torch.manual_seed(3)
    file = tmp_path / "voice_head.safetensors"
    save_file(LayersVoiceHead(AUDIO_SIZE, 24, 2).state_dict(), file, metadata=voice_note(24, [0, 1], 5.0))
    return file


def test_a_voice_head_says_what_it_needs(head, parts):
    model, _ = assemble(parts / "llm", parts / "audio_encoder", parts / "face_tower", head)
    config = model.config
    assert (config.voice_size, config.voice_layers, config.audio_context_s) == (24, [0, 1], 5.0)
    for key, value in load_file(head).items():
        assert torch.equal(model.model.voice_head.state_dict()[key], value), key
    settings = {"audio_context_s": 10.0}
    model, _ = assemble(parts / "llm", parts / "audio_encoder", parts / "face_tower", head, **settings)
    assert model.config.audio_context_s == 10.0  # what is asked for goes first


def test_what_a_voice_head_needs_is_shipped_with_it(head, parts, tmp_path):
    model, _ = assemble(parts / "llm", parts / "audio_encoder", parts / "face_tower", head)
    run = tmp_path / "layered"
    (run / "lora").mkdir(parents=True)
    tuned = get_peft_model(model, LoraConfig(r=2, target_modules=r".*language_model\..*\.q_proj"))
    save_parts(tuned, model, run)
    ship(run, parts / "face_tower", tmp_path / "shipped")
    shipped, _ = merged(tmp_path / "shipped", parts / "llm", parts / "audio_encoder")
    assert isinstance(shipped.model.voice_head, LayersVoiceHead)
    assert shipped.config.audio_context_s == 5.0
    sound = {
        "input_features": torch.randn(1, 1, 80, 3000),
        "audio_seconds": torch.tensor([2.0]),
        "audio_window_s": torch.tensor([0.5]),
        "audio_prosody": torch.zeros(1, 8),
    }
    with torch.no_grad():
        readings = [one.get_audio_features(**sound).readings for one in (model.float().eval(), shipped)]
    assert_close(*readings, rtol=1e-2, atol=1e-2)  # half precision on the way


def test_parts_of_before_load_as_they_did(run, parts, assembled, tmp_path):
    """Their files hold no note."""
    ship(run, parts / "face_tower", tmp_path / "shipped")
    assert voice_settings(tmp_path / "shipped" / "adapters.safetensors") == {}
    assert voice_settings(parts / "voice_head.safetensors") == {}
    model, _ = merged(tmp_path / "shipped", parts / "llm", parts / "audio_encoder")
    assert type(model.model.voice_head) is VoiceHead
    before, now = assembled[0].config, model.config
    for key in ("voice_size", "voice_layers", "audio_context_s", "vocab_size", "answer_token_id", "eos_token_id"):
        assert getattr(now, key, None) == getattr(before, key, None), key
    assert (now.voice_size, now.voice_layers, now.audio_context_s) == (128, [], None)


def other_marks(llm, folder):
    """The language model with a tokenizer whose chats have other marks, as Llama's, and no token to pad with."""
    shutil.copytree(llm, folder)
    for file in folder.glob("*token*.json"):
        text = file.read_text().replace("<|im_start|>", "<|begin_of_text|>").replace("<|im_end|>", "<|eot_id|>")
        file.write_text(text.replace('"pad_token"', '"former_pad_token"'))
    return folder


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
def test_new_marks_of_turns_start_as_the_models_own(tied, parts, tmp_path):
    llm = other_marks(make_llm(tmp_path / "llm", tie_word_embeddings=tied), tmp_path / "other")
    before = AutoTokenizer.from_pretrained(llm)
    assert before.eos_token == "<|eot_id|>"
    assert before.pad_token is None
    model, processor = assemble(llm, parts / "audio_encoder")
    tokenizer = processor.tokenizer
    assert tokenizer.eos_token == tokenizer.pad_token == "<|im_end|>"
    assert model.generation_config.eos_token_id == tokenizer.convert_tokens_to_ids("<|im_end|>") >= len(before)
    for matrix in (model.get_input_embeddings().weight, model.lm_head.weight):
        for new, own in (("<|im_start|>", "<|begin_of_text|>"), ("<|im_end|>", "<|eot_id|>")):
            assert torch.equal(*(matrix[tokenizer.convert_tokens_to_ids(token)] for token in (new, own)))
        row = matrix[tokenizer.convert_tokens_to_ids("<answer>")]
        assert_close(row.norm(), 1.1 * matrix[: len(before)].norm(dim=-1).median())


def test_a_tag_that_the_model_knew_stays_as_it_was(parts, tmp_path):
    llm = make_llm(tmp_path / "llm")
    tokenizer = AutoTokenizer.from_pretrained(llm)
    tokenizer.add_tokens(["<think>", "</think>"])
    tokenizer.save_pretrained(llm)
    bare = LlamaForCausalLM.from_pretrained(llm)
    bare.resize_token_embeddings(len(tokenizer))
    bare.save_pretrained(llm)
    model, processor = assemble(llm, parts / "audio_encoder")
    row = processor.tokenizer.convert_tokens_to_ids("<think>")
    assert torch.equal(model.get_input_embeddings().weight[row], bare.get_input_embeddings().weight[row])
