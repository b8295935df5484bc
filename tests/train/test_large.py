"""Recipes for large backbones, on random small weights of the same architectures."""

import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file
from tiny import Parts, make_clip, make_llm
from transformers import LlamaForCausalLM, Qwen2ForCausalLM, Qwen3ForCausalLM

from emollm.model.checkpoint import assemble, merged, ship
from emollm.reasoning.prompts import clip_message
from emollm.train import grpo
from emollm.train.grpo import GRPORecipe, train_grpo
from emollm.train.recipe import load_recipe
from emollm.train.reward_functions import REWARDS
from emollm.train.sft import LORA_TARGETS, SFTRecipe, train_sft
from emollm.train.trainer import save_parts

FOLDER = Path(__file__).parents[2] / "train" / "large"
GRPO = FOLDER / "grpo.yaml"
RECIPES = sorted(set(FOLDER.glob("*.yaml")) - {GRPO})  # of instruction tuning
# Of the weights that each recipe names: architecture, whether embeddings are tied, what its configuration differs in.
KINDS = {
    "qwen3": (Qwen3ForCausalLM, {"tie_word_embeddings": True, "head_dim": 16}),
    "qwen2_5": (Qwen2ForCausalLM, {"tie_word_embeddings": False}),
    "llama": (
        LlamaForCausalLM,
        {
            "tie_word_embeddings": True,
            "rope_parameters": {
                "rope_type": "llama3", "rope_theta": 500000.0, "factor": 32.0, "low_freq_factor": 1.0,
                "high_freq_factor": 4.0, "original_max_position_embeddings": 1024,
            },
        },
    ),
}  # fmt: skip


def language_model(name: str, folder: Path) -> Path:
    kind, changes = KINDS[name]
    make_llm(folder, kind, **changes)
    if name == "llama":  # the marks of its chats are others, and it has no token to pad with
        for file in folder.glob("*token*.json"):
            text = file.read_text().replace("<|im_start|>", "<|begin_of_text|>").replace("<|im_end|>", "<|eot_id|>")
            file.write_text(text.replace('"pad_token"', '"former_pad_token"'))
    return folder


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_large_recipe_loads_and_runs_two_steps(path, parts, data, tmp_path):
    llm = language_model(path.stem, tmp_path / "llm")
    changes = {
        "output": tmp_path / "run",
        "llm": llm,
        "audio_encoder": parts.audio_encoder,
        "face_tower": parts.face_tower,
        "voice_head": parts.voice_head,
        "voices": data / "voices" / "emodb.npz",
        "faces": f"[{data / 'faces' / 'fake.npz'}]",
    }
    recipe = load_recipe(SFTRecipe, path, [f"{key}={value}" for key, value in changes.items()])
    assert str(load_recipe(SFTRecipe, path).llm).count("/") == 1
    stages = [stage.model_copy(update={"records": 8, "clear": 0.0}) for stage in recipe.stages]
    recipe = recipe.model_copy(
        update={"stages": stages, "max_steps": 2, "batch_size": 4, "gradient_accumulation": 2, "learning_rate": 0.05}
    )
    assert recipe.gradient_checkpointing
    summary = train_sft(recipe)
    assert summary["train_loss"] > 0
    lora = load_file(recipe.output / "lora" / "adapter_model.safetensors")
    for projection in ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"):
        changed = [value for key, value in lora.items() if f"{projection}.lora_B" in key]
        assert len(changed) == 2  # layers
        assert all(value.abs().max() > 0 for value in changed), projection

    ship(recipe.output, recipe.face_tower, tmp_path / "shipped")
    model, processor = merged(tmp_path / "shipped", llm, parts.audio_encoder)
    assert type(model.model.language_model) is type(KINDS[path.stem][0](model.config.text_config).model)
    prompt = processor.apply_chat_template([clip_message()], tokenize=False, add_generation_prompt=True)
    with torch.no_grad():
        assert model(**processor(prompt, [make_clip()])).logits.isfinite().all()
    shutil.rmtree(recipe.output / "checkpoints")


def test_there_is_a_recipe_for_each_architecture():
    assert {path.stem for path in RECIPES} == set(KINDS)


def test_the_large_recipe_of_grpo_goes_on_from_that_of_sft_and_runs_two_steps(parts, data, tmp_path, monkeypatch):
    before, recipe = load_recipe(SFTRecipe, FOLDER / "qwen3.yaml"), load_recipe(GRPORecipe, GRPO)
    assert recipe.start_from == before.output
    assert (recipe.llm, recipe.voice_head, recipe.faces) == (before.llm, before.voice_head, before.faces)
    assert (recipe.rollouts, recipe.gradient_checkpointing, recipe.bf16) == ("vllm", True, True)

    llm = language_model("qwen3", tmp_path / "llm")
    start = random_start(llm, parts, tmp_path / "start")
    monkeypatch.setattr(grpo, "reward_function", by_first_token)  # random weights earn nothing else that differs
    stages = [stage.model_copy(update={"records": 8, "clear": 0.0}) for stage in recipe.stages]
    changes = {
        "output": tmp_path / "run", "start_from": start, "llm": str(llm), "audio_encoder": str(parts.audio_encoder),
        "face_tower": parts.face_tower, "voice_head": parts.voice_head, "stages": stages,
        "faces": [data / "faces" / "fake.npz"], "voices": data / "voices" / "emodb.npz", "batch_size": 2,
        "generations": 2, "max_tokens": 12, "max_steps": 2, "learning_rate": 0.05, "warmup_steps": 0,
        "rollouts": "transformers",
    }  # fmt: skip
    recipe = recipe.model_copy(update=changes)
    train_grpo(recipe)
    first, second = [line for line in json.loads((recipe.output / "log.json").read_text()) if "reward" in line]
    assert (first["kl"], first["step"], second["step"]) == (0, 1, 2)
    assert second["kl"] > 0
    assert recipe.rewards.keys() == {name.split("/")[1] for name in first if name.endswith("/mean")} & set(REWARDS)
    lora = [load_file(folder / "lora" / "adapter_model.safetensors") for folder in (start, recipe.output)]
    for projection in ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"):
        changed = [(lora[1][key] - value).abs().max() for key, value in lora[0].items() if projection in key]
        assert max(changed) > 1e-3, projection
    ship(recipe.output, parts.face_tower, tmp_path / "shipped")
    model, _ = merged(tmp_path / "shipped", llm, parts.audio_encoder)
    assert type(model.model.language_model) is type(Qwen3ForCausalLM(model.config.text_config).model)


def random_start(llm: Path, parts: Parts, folder: Path) -> Path:
    """What an SFT run on that language model leaves behind."""
    torch.manual_seed(5)
    model, _ = assemble(llm, parts.audio_encoder, parts.face_tower, parts.voice_head)
    folder.mkdir()
    lora = LoraConfig(r=2, lora_alpha=4, target_modules=LORA_TARGETS, init_lora_weights=False)
    save_parts(get_peft_model(model, lora), model, folder)
    return folder


def by_first_token(name, *limits):
    def reward(completion_ids, **_):
        return [ids[0] % 7 / 7 for ids in completion_ids]

    reward.__name__ = name
    return reward


@pytest.mark.parametrize("path", [*RECIPES, GRPO], ids=lambda path: path.stem)
def test_every_key_is_explained(path):
    text = path.read_text(encoding="utf-8")
    recipe, lines = yaml.safe_load(text), [line.strip(" -") for line in text.split("\n")]
    for key in {*recipe, *(key for stage in recipe["stages"] for key in stage)}:
        assert any(line.startswith(f"{key}:") and " # " in line for line in lines), key
