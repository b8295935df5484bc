"""Instruction tuning with TRL: LoRA on the language model, adapters in full, towers and voice head frozen.

``emollm train sft RECIPE`` or ``python -m emollm.train.sft RECIPE``. Resumes from its last checkpoint by itself.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import torch
from accelerate import PartialState
from datasets import Dataset
from peft import LoraConfig, PeftModel, get_peft_model
from pydantic import BaseModel, ConfigDict, Field, model_validator
from safetensors.torch import load_file, save_file
from trl import SFTConfig

from emollm.data.compose import KINDS, Composed, FaceStates, compose, read_records, write_records
from emollm.data.faces import Faces
from emollm.data.voices import Voices
from emollm.emotions import EXPRESSIONS
from emollm.errors import BadArgumentError
from emollm.model.checkpoint import assemble
from emollm.model.face_encoder import FaceEncoder
from emollm.model.modeling_emollm import EmoLLMForConditionalGeneration
from emollm.model.processing_emollm import THINK_TOKENS
from emollm.train.collate import ComposedCollator
from emollm.train.face import FaceCollator
from emollm.train.machine import note_machine
from emollm.train.material import Material, in_batches, to_bfloat16
from emollm.train.own import check_same, own_material, save_model
from emollm.train.recipe import load_recipe
from emollm.train.trainer import (
    SaveParts,
    WeightedTrainer,
    go_on,
    last_complete,
    load_adapters,
    load_parts,
    save_parts,
    tensorboard,
)
from emollm.weights import fetch

WORKERS = 4  # processes that make the batches of a GPU
LORA_TARGETS = r".*language_model\..*\.(q|k|v|o|gate|up|down)_proj"


class SFTStage(BaseModel):
    """One stage of the curriculum: how many records, of which tasks, and the shares of :func:`compose`."""

    model_config = ConfigDict(extra="forbid")

    records: int
    think_share: float
    mix: dict[str, float]
    drift_share: float = 0.0
    follow_up_share: float = 0.0
    agree_share: float = 0.0
    conflict_share: float = 0.0
    clear: float = 0.0
    varied_share: float = 0.0
    long_share: float = 0.0
    kinds: dict[str, float] = KINDS


class SFTRecipe(BaseModel):
    """Keys of an SFT recipe; ``train/tiny/sft_start.yaml`` explains each."""

    model_config = ConfigDict(extra="forbid")

    output: Path
    # on clips composed of encoded faces and voices; folders or hub ids (None: of the embedded default)
    llm: str | None = None
    audio_encoder: str | None = None
    face_tower: Path | None = None
    faces: list[Path] = []
    voice_head: Path | None = None
    voices: Path | None = None
    stages: list[SFTStage] = []
    # on real clips: records of `emollm data`, and the model to start with (None: the embedded default)
    records: Path | None = None
    model: Path | None = None
    epochs: int = 1
    start_from: Path | None = None
    batch_size: int = 16
    gradient_accumulation: int = 1
    gradient_checkpointing: bool = False
    learning_rate: float = 5e-4
    lora_rank: int = 16
    think_weight: float = Field(1.0, ge=0)
    answer_weight: float = Field(1.0, gt=0)
    log_steps: int = 10
    save_steps: int = 50
    seed: int = 0
    max_steps: int = -1

    @model_validator(mode="after")
    def _one_kind(self) -> SFTRecipe:
        parts = (self.face_tower, self.voice_head, self.voices, self.faces or None, self.stages or None)
        if self.records is None and None in parts:
            raise ValueError("name either records, or all of face_tower, faces, voice_head, voices and stages")
        if self.records is not None and any(part is not None for part in (*parts, self.llm, self.audio_encoder)):
            raise ValueError("records stand alone: name a model, and leave out the parts, faces, voices and stages")
        return self


def composed_material(recipe: SFTRecipe) -> Material:
    """Records composed of encoded faces and voices, on the model assembled from its parts.

    Raises:
        BadArgumentError: the voices were encoded for another voice head.
    """
    assert recipe.face_tower is not None
    assert recipe.voice_head is not None
    assert recipe.voices is not None
    llm, audio_encoder = recipe.llm or fetch("llm"), recipe.audio_encoder or fetch("audio_encoder")
    model, processor = assemble(llm, audio_encoder, recipe.face_tower, recipe.voice_head)
    voices = Voices.load(recipe.voices)
    if voices.states.shape[-1] != model.config.audio_state_size:
        raise BadArgumentError(f"The voices in {recipe.voices} were encoded for another voice head; encode them anew.")
    faces = face_states(recipe, valid=False)
    records = build_records(recipe, faces, voices)
    collate = ComposedCollator(processor, faces, voices)
    rows = in_batches([record.to_json() for record in records], collate, _at_once(recipe), recipe.seed)
    return Material(model, processor, rows, collate)


def _at_once(recipe: SFTRecipe) -> int:
    """Records that all processes take together: two with batches of 4 see what one with batches of 8 does."""
    return recipe.batch_size * PartialState().num_processes


def _own(recipe: SFTRecipe) -> Material:
    assert recipe.records is not None
    material = own_material(recipe.records, recipe.model, recipe.epochs, _at_once(recipe), recipe.seed)
    check_same(material.rows, recipe.output)
    return material


def face_states(recipe: SFTRecipe, valid: bool) -> FaceStates:
    """Tower states and majority labels of the voted faces of one split, computed once and cached."""
    split = "valid" if valid else "train"
    cached = recipe.output / f"face_states_{split}.safetensors"
    assert recipe.face_tower
    faces = Faces.concatenate([Faces.load(path) for path in recipe.faces])
    faces = faces.subset((faces.valid == valid) & ~np.isnan(faces.expression).any(-1))
    label = np.array(EXPRESSIONS)[faces.expression.argmax(-1)]
    if not cached.exists():
        recipe.output.mkdir(parents=True, exist_ok=True)
        save_file({"states": torch.from_numpy(encode_faces(recipe.face_tower, faces))}, cached)
    return FaceStates(load_file(cached)["states"].numpy(), label)


@torch.inference_mode()
def encode_faces(face_tower: Path, faces: Faces) -> np.ndarray:
    """``(N, feature_size)`` float32 features of faces, aligned, not augmented."""
    tower = FaceEncoder.from_pretrained(face_tower, dtype=torch.float32).eval()
    collate = FaceCollator(faces, tower.config.image_size, augment=False)
    states = []
    for rows in np.array_split(np.arange(len(faces)), max(1, len(faces) // 256)):
        batch = collate(rows.tolist())
        states.append(tower(batch["face_pixels"], batch["blendshapes"]).features)
    return torch.cat(states).numpy()


def build_records(recipe: SFTRecipe, faces: FaceStates, voices: Voices) -> list[Composed]:
    """The training records of all stages in order, written once as JSON lines beside the run."""
    path = recipe.output / "train.jsonl"
    if not path.exists():
        stages = (
            record
            for number, stage in enumerate(recipe.stages)
            for record in compose(
                stage.records, faces, voices, "train", recipe.seed + number, **stage.model_dump(exclude={"records"})
            )
        )
        write_records(path, stages)
    return read_records(path)


def with_lora(model: EmoLLMForConditionalGeneration, rank: int) -> PeftModel:
    """The model with LoRA on its language model, adapters to be trained in full, and everything else frozen."""
    to_bfloat16(model)  # LoRA stays in float32
    peft_model = get_peft_model(model, LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=LORA_TARGETS))
    for name, parameter in model.model.named_parameters():
        if name.split(".")[0] in ("face_adapter", "audio_adapter", "prosody_adapter", "reading_symbols"):
            parameter.requires_grad_(True)
    return peft_model


def make_trainer(recipe: SFTRecipe, material: Material, peft_model: PeftModel, last: Path | None) -> WeightedTrainer:
    """The trainer of a recipe; ``last`` is the checkpoint that it is to go on from."""
    arguments = SFTConfig(
        output_dir=str(recipe.output / "checkpoints"),
        per_device_train_batch_size=recipe.batch_size,
        gradient_accumulation_steps=recipe.gradient_accumulation,
        gradient_checkpointing=recipe.gradient_checkpointing,
        num_train_epochs=1,
        max_steps=recipe.max_steps,
        learning_rate=recipe.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=30,
        weight_decay=0.0,
        max_grad_norm=1.0,
        bf16=True,
        use_cpu=not torch.cuda.is_available(),
        logging_steps=recipe.log_steps,
        save_steps=recipe.save_steps,
        save_total_limit=2,
        report_to=[],
        seed=recipe.seed,
        dataloader_num_workers=WORKERS if torch.cuda.is_available() else 0,  # a GPU would wait for the tokens
        ddp_find_unused_parameters=True,  # a batch without a voice, or without a face, leaves its adapter unused
        max_length=None,
        remove_unused_columns=False,
        dataset_kwargs={"skip_prepare_dataset": True},
    )
    return WeightedTrainer(
        think_end=material.processor.tokenizer.convert_tokens_to_ids(THINK_TOKENS[1]),
        think_weight=recipe.think_weight,
        answer_weight=recipe.answer_weight,
        model=peft_model,
        args=arguments,
        train_dataset=Dataset.from_dict({"record": material.rows}),
        eval_dataset=Dataset.from_dict({"record": material.valid}) if material.valid else None,
        data_collator=material.collate,
        processing_class=material.processor.tokenizer,
        callbacks=[SaveParts(), *tensorboard(recipe.output / "tensorboard", last)],
    )


def train_sft(recipe: SFTRecipe) -> dict[str, float]:
    """Tune by the recipe; writes ``adapters.safetensors``, ``lora/`` and ``tensorboard/`` (where TensorBoard is
    installed) into the output folder, and with ``records`` the whole tuned model into ``model/``.

    A run that was stopped, or killed, goes on from its last whole checkpoint and ends as an unbroken one would.

    Returns:
        The trainer's summary (loss, runtime, samples per second), with ``records`` that have a split ``valid`` also
        the loss there.
    """
    torch.manual_seed(recipe.seed)
    process = PartialState(cpu=not torch.cuda.is_available())
    with process.main_process_first():  # the others read what it wrote
        material = composed_material(recipe) if recipe.records is None else _own(recipe)
    model = material.model
    peft_model = with_lora(model, recipe.lora_rank)
    if recipe.start_from is not None:
        load_parts(peft_model, model, recipe.start_from)
    last = last_complete(recipe.output / "checkpoints")
    trainer = make_trainer(recipe, material, peft_model, last)
    if last is not None:
        load_adapters(model, last)
    summary = go_on(trainer, last)
    if material.valid:
        summary |= trainer.evaluate()
    if process.is_main_process:
        save_parts(peft_model, model, recipe.output)
        if recipe.records is not None:
            save_model(recipe.model, recipe.output, recipe.output / "model")
        (recipe.output / "log.json").write_text(json.dumps(trainer.state.log_history))
        note_machine(recipe.output)
    process.wait_for_everyone()
    return summary


if __name__ == "__main__":
    print(train_sft(load_recipe(SFTRecipe, sys.argv[1], sys.argv[2:])))
    PartialState().destroy_process_group()  # several processes that just end are at times aborted by torch
