"""Fine-tuning on one's own clips: the records of ``emollm data explain``, and the whole model that comes of them."""

from __future__ import annotations

import hashlib
import logging
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from peft import PeftModel
from rich.progress import track
from safetensors.torch import load_file

from emollm.data.clip_states import ClipEncoder, load_checkpoint
from emollm.data.schema import Record, read_file
from emollm.errors import BadArgumentError, EmoLLMError
from emollm.model.checkpoint import default_model
from emollm.train.collate import ClipCollator
from emollm.train.material import Material, in_batches

logger = logging.getLogger(__name__)


def own_material(file: Path, start: Path | None, epochs: int, batch_size: int, seed: int) -> Material:
    """Records about real clips, each clip encoded once by the model's towers, on that model.

    Records of the split ``train``, or without a split, are trained on; those of ``valid`` are only scored.

    Args:
        file: the records.
        start: folder of the model, None for the embedded default.
        epochs: how often each record is seen, in another order each time.

    Raises:
        BadArgumentError: the file is no file of records, or none of them can be used.
    """
    folder = file.parent
    encoder = ClipEncoder(start)
    kept = _encoded(read_file(file), encoder, folder)
    train = [record for record in kept if record.split in (None, "train")]
    if not train:
        raise BadArgumentError(f"{file} holds no record to train on (split train, clip readable).")
    random = np.random.default_rng(seed)
    shuffled = [train[row] for _ in range(epochs) for row in random.permutation(len(train))]
    model, processor = load_checkpoint(encoder.folder)
    collate = ClipCollator(processor, encoder, folder)
    rows = [record.model_dump_json(exclude_defaults=True) for record in shuffled]
    return Material(
        model,
        processor,
        in_batches(rows, collate, batch_size, seed),
        collate,
        [record.model_dump_json(exclude_defaults=True) for record in kept if record.split == "valid"],
    )


def _encoded(records: list[Record], encoder: ClipEncoder, folder: Path) -> list[Record]:
    """Those records whose clips can be read, after every clip has been encoded; others are named."""
    clips = {(*record.media, record.start_s, record.end_s): record for record in records}
    wrong: dict[tuple[Any, ...], EmoLLMError] = {}
    for record, states in track(
        encoder.all(list(clips.values()), folder), description="Encoding clips", total=len(clips)
    ):
        if isinstance(states, EmoLLMError):
            wrong[(*record.media, record.start_s, record.end_s)] = states
            logger.warning("%s is left out: %s", record.id, states)
    return [record for record in records if (*record.media, record.start_s, record.end_s) not in wrong]


def check_same(rows: list[str], run: Path) -> None:
    """Note what a run is made of. Raises BadArgumentError where the run was begun with something else: it would go on
    from there without a word."""
    digest, note = hashlib.sha256("\n".join(rows).encode()).hexdigest(), run / "records.sha256"
    if note.exists() and note.read_text(encoding="utf-8").strip() != digest:
        raise BadArgumentError(f"The run in {run} was made with other records; name another output.")
    run.mkdir(parents=True, exist_ok=True)
    part = note.with_suffix(".part")
    part.write_text(digest, encoding="utf-8")
    part.replace(note)


def save_model(start: Path | None, run: Path, target: Path) -> None:
    """Put what a run trained into the model that it started from, in float32, as a folder that loads by itself."""
    model: Any
    model, processor = load_checkpoint(start or default_model())
    model.model.load_state_dict(load_file(run / "adapters.safetensors"), strict=False)
    model = PeftModel.from_pretrained(model, str(run / "lora")).merge_and_unload()
    part = target.with_name(f"{target.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    model.save_pretrained(part)
    processor.save_pretrained(part)
    shutil.rmtree(target, ignore_errors=True)
    part.replace(target)
