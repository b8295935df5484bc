"""Instruction tuning with TRL: LoRA on the language model, adapters in full, towers and voice head frozen.

``emollm train sft RECIPE`` or ``python -m emollm.train.sft RECIPE``. Resumes from its last checkpoint by itself.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from pydantic import BaseModel, ConfigDict, model_validator
from safetensors.torch import load_file, save_file
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from trl import SFTConfig, SFTTrainer

from emollm.data.compose import Composed, FaceStates, compose, read_records, write_records
from emollm.data.faces import Faces
from emollm.data.voices import Voices
from emollm.emotions import EXPRESSIONS
from emollm.model.checkpoint import assemble, trained_parts
from emollm.model.face_encoder import FaceEncoder
from emollm.model.processing_emollm import EmoLLMProcessor
from emollm.train.collate import ComposedCollator
from emollm.train.face import FaceCollator
from emollm.train.material import Material, in_batches
from emollm.train.own import check_same, own_material, save_model
from emollm.train.recipe import last_checkpoint, load_recipe
from emollm.weights import fetch

LORA_TARGETS = r".*language_model\..*\.(q|k|v|o|gate|up|down)_proj"


class SFTStage(BaseModel):
    """One stage of the curriculum: how many records, of which tasks, and the shares of :func:`compose`."""

    model_config = ConfigDict(extra="forbid")

    records: int
    think_share: float
    mix: dict[str, float]
    drift_share: float = 0.0
    follow_up_share: float = 0.0


class SFTRecipe(BaseModel):
    """Keys of an SFT recipe; ``train/tiny/sft.yaml`` explains each."""

    model_config = ConfigDict(extra="forbid")

    output: Path
    # on clips composed of encoded faces and voices
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
    learning_rate: float = 5e-4
    lora_rank: int = 16
    seed: int = 0
    max_steps: int = -1

    @model_validator(mode="after")
    def _one_kind(self) -> SFTRecipe:
        parts = (self.face_tower, self.voice_head, self.voices, self.faces or None, self.stages or None)
        if self.records is None and None in parts:
            raise ValueError("name either records, or all of face_tower, faces, voice_head, voices and stages")
        if self.records is not None and any(part is not None for part in parts):
            raise ValueError("records stand alone: leave face_tower, faces, voice_head, voices and stages out")
        return self


def composed_material(recipe: SFTRecipe) -> Material:
    """Records composed of encoded faces and voices, on the model assembled from its parts."""
    assert recipe.face_tower is not None
    assert recipe.voice_head is not None
    assert recipe.voices is not None
    model, processor = assemble(fetch("llm"), fetch("audio_encoder"), recipe.face_tower, recipe.voice_head)
    voices = Voices.load(recipe.voices)
    faces = face_states(recipe, valid=False)
    records = build_records(recipe, faces, voices)
    rows = [records[row].to_json() for row in by_length(records, recipe.batch_size, recipe.seed)]
    return Material(model, processor, rows, ComposedCollator(processor, faces, voices, flicker_seed=recipe.seed))


def _own(recipe: SFTRecipe) -> Material:
    assert recipe.records is not None
    material = own_material(recipe.records, recipe.model, recipe.epochs, recipe.batch_size, recipe.seed)
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
    tower = FaceEncoder.from_pretrained(face_tower).eval()
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
                stage.records,
                faces,
                voices,
                "train",
                recipe.seed + number,
                stage.mix,
                stage.think_share,
                stage.drift_share,
                stage.follow_up_share,
            )
        )
        write_records(path, stages)
    return read_records(path)


def by_length(records: list[Composed], batch_size: int, seed: int) -> list[int]:
    """Order that keeps the curriculum but fills each batch with records of like length (sorted within 16 batches)."""
    return in_batches(
        [record.windows * 3 + sum(len(str(m["content"])) for m in record.messages) for record in records],
        batch_size,
        seed,
    )


class _Trainer(SFTTrainer):
    """SFTTrainer that keeps the recipe's order and saves adapters and LoRA in our own files."""

    def _get_train_sampler(self, train_dataset: Dataset | None = None) -> torch.utils.data.Sampler:
        return torch.utils.data.SequentialSampler(self.train_dataset)  # type: ignore[arg-type]


class _SaveParts(TrainerCallback):
    """Beside each PEFT checkpoint, the adapters, which are trained in full and belong to no PEFT file."""

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object) -> None:
        folder = Path(str(args.output_dir)) / f"checkpoint-{state.global_step}"
        save_file(_contiguous(trained_parts(kwargs["model"].get_base_model())), folder / "adapters.safetensors")  # type: ignore[attr-defined]


def _contiguous(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {key: value.detach().cpu().contiguous() for key, value in tensors.items()}


def train_sft(recipe: SFTRecipe) -> dict[str, float]:
    """Tune by the recipe; writes ``adapters.safetensors`` and ``lora/`` into the output folder, and with ``records``
    the whole tuned model into ``model/``.

    Returns:
        The trainer's summary (loss, runtime, samples per second), with ``records`` that have a split ``valid`` also
        the loss there.
    """
    torch.manual_seed(recipe.seed)
    material = composed_material(recipe) if recipe.records is None else _own(recipe)
    model, processor = material.model, material.processor
    model.model.language_model.to(
        torch.bfloat16
    )  # frozen but for LoRA, which stays in float32; cast once, not each step
    model.tie_weights()
    lora = LoraConfig(r=recipe.lora_rank, lora_alpha=2 * recipe.lora_rank, target_modules=LORA_TARGETS)
    peft_model = get_peft_model(model, lora)
    for name, parameter in model.model.named_parameters():
        if name.split(".")[0] in ("face_adapter", "audio_adapter", "prosody_adapter"):
            parameter.requires_grad_(True)
    if recipe.start_from is not None:
        load_parts(peft_model, model, recipe.start_from)
    arguments = SFTConfig(
        output_dir=str(recipe.output / "checkpoints"),
        per_device_train_batch_size=recipe.batch_size,
        num_train_epochs=1,
        max_steps=recipe.max_steps,
        learning_rate=recipe.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=30,
        weight_decay=0.0,
        max_grad_norm=1.0,
        bf16=True,
        use_cpu=not torch.cuda.is_available(),
        logging_steps=10,
        save_steps=50,
        save_total_limit=2,
        report_to=[],
        seed=recipe.seed,
        max_length=None,
        gradient_checkpointing=False,
        remove_unused_columns=False,
        dataset_kwargs={"skip_prepare_dataset": True},
    )
    trainer = _Trainer(
        model=peft_model,
        args=arguments,
        train_dataset=Dataset.from_dict({"record": material.rows}),
        eval_dataset=Dataset.from_dict({"record": material.valid}) if material.valid else None,
        data_collator=material.collate,
        processing_class=processor.tokenizer,
        callbacks=[_SaveParts()],
    )
    last = last_checkpoint(recipe.output / "checkpoints")
    if last is not None:
        model.model.load_state_dict(load_file(Path(last) / "adapters.safetensors"), strict=False)
    summary = trainer.train(resume_from_checkpoint=last).metrics
    if material.valid:
        summary |= trainer.evaluate()
    save_parts(peft_model, model, processor, recipe.output)
    if recipe.records is not None:
        save_model(recipe.model, recipe.output, recipe.output / "model")
    (recipe.output / "log.json").write_text(json.dumps(trainer.state.log_history))
    return summary


def load_parts(peft_model: Any, model: Any, folder: Path) -> None:
    """Go on from what :func:`save_parts` wrote."""
    model.model.load_state_dict(load_file(folder / "adapters.safetensors"), strict=False)
    set_peft_model_state_dict(peft_model, load_file(folder / "lora" / "adapter_model.safetensors"))


def save_parts(peft_model: object, model: object, processor: EmoLLMProcessor, output: Path) -> None:
    """``adapters.safetensors`` and ``lora/`` as :func:`emollm.model.checkpoint.merged` reads them."""
    save_file(_contiguous(trained_parts(model)), output / "adapters.safetensors")  # type: ignore[arg-type]
    lora = output / "lora"
    lora.mkdir(exist_ok=True)
    save_file(
        _contiguous(get_peft_model_state_dict(peft_model, save_embedding_layers=False)),
        lora / "adapter_model.safetensors",
    )
    peft_model.peft_config["default"].save_pretrained(lora)  # type: ignore[attr-defined]


if __name__ == "__main__":
    print(train_sft(load_recipe(SFTRecipe, sys.argv[1], sys.argv[2:])))
