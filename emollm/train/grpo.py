"""Reinforcement learning with TRL's GRPO: rewards that can be checked, LoRA on the language model, the rest frozen.

``emollm train grpo RECIPE`` or ``python -m emollm.train.grpo RECIPE``, after ``sft``. Resumes from its last checkpoint
by itself, exactly: every step is made of the same rollouts as if the run had not been broken off.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any, Literal

import torch
from accelerate import PartialState
from datasets import Dataset
from peft import LoraConfig, PeftModel, get_peft_model
from pydantic import Field, field_validator, model_validator
from trl import GRPOConfig

from emollm.errors import BadArgumentError
from emollm.serve.vllm_setup import prepare_vllm
from emollm.train.grpo_questions import questions
from emollm.train.grpo_trainer import EmoLLMGRPOTrainer
from emollm.train.machine import note_machine
from emollm.train.material import Material, to_bfloat16
from emollm.train.own import check_same, own_material, save_model
from emollm.train.recipe import load_recipe
from emollm.train.reward_functions import REWARDS, reward_function
from emollm.train.rollouts import VllmRollouts
from emollm.train.schedule import Schedule, ScheduleRecipe
from emollm.train.sft import LORA_TARGETS, SFTRecipe, composed_material
from emollm.train.trainer import SaveParts, go_on, last_complete, load_adapters, save_parts, tensorboard

RECIPE = "recipe.json"  # a run's settings, in its folder
_IDLE = {"gradient_accumulation", "think_weight", "answer_weight"}  # of SFT, without meaning here


class GRPORecipe(SFTRecipe):
    """Keys of a GRPO recipe: those of SFT, which say what is asked about, and these; ``train/tiny/grpo.yaml`` explains
    each. ``batch_size`` counts questions, each of which is answered ``generations`` times."""

    rewards: dict[str, float]
    batch_size: int = 4
    learning_rate: float = 1e-5
    generations: int = Field(default=8, ge=2)
    wanted_tokens: int = 160
    max_tokens: int = 256
    temperature: float = Field(default=1.0, gt=0)
    rollouts: Literal["transformers", "vllm"] = "transformers"
    beta: float = Field(default=0.02, ge=0)
    loss_type: Literal["grpo", "bnpo", "dr_grpo", "dapo", "cispo"] = "dapo"
    scale_rewards: Literal["group", "batch", "none"] = "group"
    multi_objective_aggregation: Literal["sum_then_normalize", "normalize_then_sum"] = "normalize_then_sum"
    schedule: ScheduleRecipe | None = None
    warmup_steps: int = 5
    log_steps: int = 1
    save_steps: int = 10
    bf16: bool = True

    @field_validator("rewards")
    @classmethod
    def _known(cls, rewards: dict[str, float]) -> dict[str, float]:
        if not rewards or (unknown := set(rewards) - set(REWARDS)):
            raise ValueError(f"{', '.join(sorted(unknown)) if rewards else 'nothing'} is none of {', '.join(REWARDS)}")
        return rewards

    @model_validator(mode="after")
    def _trained_before(self) -> GRPORecipe:
        if self.records is None and self.start_from is None:
            raise ValueError("name start_from, the folder of an SFT run: a model that cannot answer earns no rewards")
        if idle := self.model_fields_set & _IDLE:
            raise ValueError(f"{', '.join(sorted(idle))} of SFT means nothing here")
        if self.rollouts == "vllm" and self.temperature > 2:
            raise ValueError("vLLM draws at temperatures up to 2; set rollouts to transformers")
        return self


def grpo_config(recipe: GRPORecipe) -> GRPOConfig:
    """One group a forward pass, ``batch_size`` of them a step, generated together."""
    return GRPOConfig(
        output_dir=str(recipe.output / "checkpoints"),
        per_device_train_batch_size=recipe.generations,
        gradient_accumulation_steps=recipe.batch_size,
        num_generations=recipe.generations,
        max_completion_length=recipe.max_tokens,
        temperature=recipe.temperature,
        beta=recipe.beta,
        loss_type=recipe.loss_type,
        scale_rewards=recipe.scale_rewards,
        multi_objective_aggregation=recipe.multi_objective_aggregation,
        reward_weights=list(recipe.rewards.values()),
        num_train_epochs=1,
        max_steps=recipe.max_steps,
        learning_rate=recipe.learning_rate,
        lr_scheduler_type="constant_with_warmup",  # does not depend on the run's length, so that it may be prolonged
        warmup_steps=recipe.warmup_steps,
        weight_decay=0.0,
        max_grad_norm=1.0,
        bf16=recipe.bf16,
        use_cpu=not torch.cuda.is_available(),
        logging_steps=recipe.log_steps,
        save_steps=recipe.save_steps,
        save_total_limit=2,
        report_to=[],
        seed=recipe.seed,
        shuffle_dataset=False,  # the curriculum's order
        remove_unused_columns=False,
        gradient_checkpointing=recipe.gradient_checkpointing,
        disable_dropout=True,
    )


def make_trainer(
    recipe: GRPORecipe, material: Material, rows: list[dict[str, str]], last: Path | None = None
) -> EmoLLMGRPOTrainer:
    """The trainer of a recipe on rows of :func:`questions`, with the policy as it was at the start of the run.

    Args:
        last: the checkpoint that the run will go on from.
    """
    schedule = None if recipe.schedule is None else Schedule(recipe.schedule, len(rows), last)
    arguments = grpo_config(recipe)  # before vLLM starts, whose process group it would take for that of the training
    _prepare(recipe, material.model)
    rollouts = _rollouts(recipe, material, rows) if recipe.rollouts == "vllm" else None
    return EmoLLMGRPOTrainer(
        model=_policy(recipe, material.model),
        reward_funcs=[reward_function(name, recipe.wanted_tokens, recipe.max_tokens) for name in recipe.rewards],
        args=arguments,
        train_dataset=Dataset.from_list(rows),
        processing_class=material.processor.tokenizer,
        callbacks=[
            *([] if schedule is None else [schedule]),
            SaveParts(),  # comes last of those that save: what it writes marks a checkpoint as whole
            *tensorboard(recipe.output / "tensorboard", last),
        ],
        example=material.collate.example,  # type: ignore[attr-defined]
        schedule=schedule,
        rollouts=rollouts,
    )


def train_grpo(recipe: GRPORecipe) -> dict[str, float]:
    """Train by the recipe; writes what :func:`emollm.train.sft.train_sft` writes: ``adapters.safetensors`` (as they
    were), ``lora/``, ``log.json``, with ``records`` the whole model into ``model/``; and ``replies/``, every rollout,
    and ``recipe.json``.

    Returns:
        The trainer's summary and the last step's rewards.

    Raises:
        BadArgumentError: too few records can be asked about, or the run was begun with others; or it is to have
        rollouts by vLLM, which is not installed or cannot be had in several processes. EngineError: it does not start.
    """
    if recipe.rollouts == "vllm":
        _check_vllm()
    torch.manual_seed(recipe.seed)
    with PartialState(cpu=not torch.cuda.is_available()).main_process_first():  # the others read what it wrote
        material = _material(recipe)
        rows = questions(material)
        if len(rows) < recipe.batch_size:
            raise BadArgumentError(
                f"Only {len(rows)} of {len(material.rows)} records have an answer that opens with a label."
            )
        check_same([row["record"] for row in rows], recipe.output)
        (recipe.output / RECIPE).write_text(recipe.model_dump_json(indent=1, exclude=_IDLE), encoding="utf-8")
    last = last_complete(recipe.output / "checkpoints")
    trainer = make_trainer(recipe, material, rows, last)
    summary = go_on(trainer, last)
    if trainer.rollouts is not None:
        trainer.rollouts.close()
    history = trainer.state.log_history
    if trainer.is_world_process_zero():
        save_parts(trainer.model, material.model, recipe.output)
        if recipe.records is not None:
            save_model(recipe.model, recipe.output, recipe.output / "model")
        (recipe.output / "log.json").write_text(json.dumps(history))
        note_machine(recipe.output)
    logged = next((line for line in reversed(history) if "reward" in line), {})
    return summary | {key: value for key, value in logged.items() if key.startswith("reward")}


def _check_vllm() -> None:
    """Before anything is read or encoded, which takes minutes."""
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        raise BadArgumentError("Rollouts by vLLM run in one process; start one, or set rollouts to transformers.")
    prepare_vllm()


def _material(recipe: GRPORecipe) -> Material:
    if recipe.records is None:
        return composed_material(recipe)
    return own_material(recipe.records, recipe.model, recipe.epochs, recipe.batch_size, recipe.seed)


def _prepare(recipe: GRPORecipe, model: Any) -> None:
    """The adapters as SFT left them, and the dtype; both stay as they are from here on."""
    if recipe.start_from is not None:
        load_adapters(model, recipe.start_from)
    if recipe.bf16:
        to_bfloat16(model)


def _policy(recipe: GRPORecipe, model: Any) -> Any:
    """The model with LoRA as SFT left it, or new LoRA on a whole model; adapters and towers stay as they are, so that
    the reference, which is a copy of the LoRA, is the whole policy at the start."""
    if recipe.start_from is not None:
        return PeftModel.from_pretrained(model, str(recipe.start_from / "lora"), is_trainable=True)
    rank = recipe.lora_rank
    return get_peft_model(model, LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=LORA_TARGETS))


def _rollouts(recipe: GRPORecipe, material: Material, rows: list[dict[str, str]]) -> VllmRollouts:
    """vLLM on the model as it is before the LoRA is put into it, with room for the replies of a step."""
    start, tokenizer = recipe.start_from, material.processor.tokenizer
    prompts = tokenizer([row["prompt"] for row in rows], add_special_tokens=False)["input_ids"]
    return VllmRollouts(
        material.model,
        material.processor,
        recipe.output / "rollouts",
        rank=recipe.lora_rank if start is None else LoraConfig.from_pretrained(str(start / "lora")).r,
        replies=recipe.batch_size * recipe.generations,
        length=max(map(len, prompts)) + recipe.max_tokens,
        max_tokens=recipe.max_tokens,
        temperature=recipe.temperature,
        seed=recipe.seed,
        dtype="bfloat16" if recipe.bf16 else "float32",
    )


if __name__ == "__main__":
    print(train_grpo(load_recipe(GRPORecipe, sys.argv[1], sys.argv[2:])))
    PartialState().destroy_process_group()  # several processes that just end are at times aborted by torch
