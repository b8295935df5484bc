"""What TRL's trainer lacks for our model: the recipe's order, weights of tokens, our own files, logs, going on."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from datasets import Dataset
from peft import get_peft_model_state_dict, set_peft_model_state_dict
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from trl import SFTTrainer
from trl.trainer import utils as trl_utils

from emollm.model.checkpoint import trained_parts, voice_note
from emollm.train.collate import IGNORED

ADAPTERS = "adapters.safetensors"

# In several processes on a CPU transformers reads checkpoints to the device "cpu:0", by which torch does not know it.
torch.serialization.register_package(
    15, lambda storage: None, lambda storage, place: storage if place.startswith("cpu:") else None
)

# Without Triton TRL scores all positions, for devices that compile each shape anew. A CPU does not, and the prompts of
# our records are longer than what is learned of them: only that is scored there, too.
_with_triton = trl_utils._use_triton
trl_utils._use_triton = lambda device: device.type == "cpu" or _with_triton(device)


class WeightedTrainer(SFTTrainer):
    """SFTTrainer that keeps the order of its records and weights what it learns: the mean loss of a step is
    ``sum(weight * loss) / sum(weight)`` over all its tokens, on all devices.

    Args:
        think_end: id of the token that ends a thought.
        think_weight: of the tokens up to that one.
        answer_weight: of those behind it, and of all where there is no thought.
    """

    def __init__(self, think_end: int, think_weight: float, answer_weight: float, **arguments: Any):
        super().__init__(**arguments)
        self.think_end, self.think_weight, self.answer_weight = think_end, think_weight, answer_weight
        self.model_accepts_loss_kwargs = True  # the loss is divided by all that a step learns, not by batches too

    def token_weights(self, labels: Tensor) -> Tensor:
        """``(B, T)`` float32 weights of ``(B, T)`` labels, 0 where nothing is learned."""
        end = labels == self.think_end
        inside = end.any(-1, keepdim=True) & (end.cumsum(-1) - end.long() == 0)
        weights = torch.where(inside, self.think_weight, self.answer_weight)
        return weights.float() * (labels != IGNORED)

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """TRL divides the sum of the tokens' losses by their number: both are replaced by weighted ones."""
        weights = self.token_weights(inputs["labels"])[:, 1:]

        def weighted(**arguments: Any) -> Any:
            outputs = model(**arguments)
            if arguments.get("fused_lm_head"):
                outputs.log_probs = outputs.log_probs * weights
            return outputs

        number = weights.sum() if num_items_in_batch is None else num_items_in_batch
        return super().compute_loss(weighted, inputs, return_outputs, number)

    def _get_num_items_in_batch(self, batch_samples: list, device: torch.device) -> Tensor:
        """Sum of weights over all that one step learns, however many batches it is accumulated from."""
        weight = torch.stack([self.token_weights(batch["labels"])[:, 1:].sum() for batch in batch_samples]).sum()
        return self.accelerator.gather(weight.to(device)).sum()

    def _get_train_sampler(self, train_dataset: Dataset | None = None) -> torch.utils.data.Sampler:
        return torch.utils.data.SequentialSampler(self.train_dataset)  # type: ignore[arg-type]


class SaveParts(TrainerCallback):
    """Beside each PEFT checkpoint, the adapters, which are trained in full and belong to no PEFT file.

    They come last and whole, so a checkpoint that has them was written to its end.
    """

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if state.is_world_process_zero:
            folder = Path(str(args.output_dir)) / f"checkpoint-{state.global_step}"
            _save_adapters(kwargs["model"].get_base_model(), folder)


def last_complete(folder: Path) -> Path | None:
    """The newest checkpoint of a run that was written to its end; one may be torn where the run was killed."""
    whole = [file.parent for file in folder.glob(f"checkpoint-*/{ADAPTERS}")]
    return max(whole, key=_step, default=None)


def tensorboard(folder: Path, start: Path | None) -> list[TrainerCallback]:
    """Logs for TensorBoard, where it is installed, of the first process. What was logged behind the checkpoint
    ``start`` is dropped."""
    if not find_spec("tensorboard") or not PartialState().is_main_process:
        return []
    from torch.utils.tensorboard import SummaryWriter
    from transformers.integrations import TensorBoardCallback

    step = None if start is None else _step(start) + 1
    callback = TensorBoardCallback(SummaryWriter(str(folder), purge_step=step))
    callback.logging_dir = str(folder)  # of the writer that it makes for the evaluation
    return [callback]


def go_on(trainer: Any, start: Path | None) -> dict[str, float]:
    """Train on from a checkpoint, or from the very start; the summary's loss is the mean over the steps since then.

    Transformers divides their sum by all steps of the run, so that each break would make the loss look smaller.
    """
    before = 0 if start is None else _step(start)
    summary = trainer.train(resume_from_checkpoint=None if start is None else str(start)).metrics
    if trainer.state.global_step > before:
        summary["train_loss"] *= trainer.state.global_step / (trainer.state.global_step - before)
        trainer.state.log_history[-1]["train_loss"] = summary["train_loss"]
    return summary


def save_parts(peft_model: Any, model: Any, output: Path) -> None:
    """``adapters.safetensors`` and ``lora/`` as :func:`emollm.model.checkpoint.merged` reads them."""
    _save_adapters(model, output)
    save_lora(peft_model, output / "lora")


def save_lora(peft_model: Any, folder: Path) -> None:
    """The adapter that is trained, not TRL's copy of it as it was at the start, as PEFT and vLLM read one."""
    folder.mkdir(exist_ok=True)
    state = get_peft_model_state_dict(peft_model, save_embedding_layers=False)
    save_file(_contiguous(state), folder / "adapter_model.safetensors")
    peft_model.peft_config["default"].save_pretrained(folder)


def load_adapters(model: Any, folder: Path) -> None:
    """Adapters as a run saved them. The voice head, which no such run trains, stays the model's own."""
    tensors = load_file(folder / ADAPTERS)
    own = {key: value for key, value in tensors.items() if not key.startswith("voice_head.")}
    model.model.load_state_dict(own, strict=False)


def load_parts(peft_model: Any, model: Any, folder: Path) -> None:
    """Go on from what :func:`save_parts` wrote."""
    load_adapters(model, folder)
    set_peft_model_state_dict(peft_model, load_file(folder / "lora" / "adapter_model.safetensors"))


def _step(checkpoint: Path) -> int:
    return int(checkpoint.name.rpartition("-")[2])


def _save_adapters(model: Any, folder: Path) -> None:
    part, config = folder / f"{ADAPTERS}.part", model.config
    note = voice_note(config.voice_size, config.voice_layers, config.audio_context_s)
    save_file(_contiguous(trained_parts(model)), part, metadata=note)
    part.replace(folder / ADAPTERS)


def _contiguous(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
