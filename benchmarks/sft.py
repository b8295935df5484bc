"""Samples per second of instruction tuning against a bare forward and backward on the same batches.

    python benchmarks/sft.py [--records 32] [--batch-size 8] [--repeats 3] [--llm FOLDER] [--json]

Both run on one model (the default one's language model, LoRA and adapters; towers and data random, as their numbers
do not matter for speed) and the same records, and take turns, so that a busy machine slows both alike. The bare loop
has its batches ready and computes the model's own loss and gradients; the trainer makes its batches, weights tokens,
clips gradients, steps the optimizer and logs.
"""

import argparse
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from common import Figure, show
from transformers import TrainerCallback
from transformers.utils import logging

from emollm.data.compose import READINGS, FaceStates, compose
from emollm.data.voices import Voices
from emollm.emotions import EXPRESSIONS
from emollm.model.checkpoint import assemble
from emollm.train.collate import ComposedCollator
from emollm.train.material import Material, in_batches
from emollm.train.sft import SFTRecipe, make_trainer, with_lora
from emollm.weights import fetch

MIX = {"emotion": 0.6, "units": 0.06, "voice": 0.07, "change": 0.17, "why": 0.1}


def make_material(records: int, batch_size: int, llm: Path) -> Material:
    """The default model with an untrained face tower and voice head, and records of random faces and voices."""
    model, processor = assemble(llm, fetch("audio_encoder"))
    random = np.random.default_rng(0)
    states = random.normal(size=(64, model.config.face_config.feature_size)).astype(np.float32)
    states[:, -READINGS:] = random.uniform(0, 1, (64, READINGS))
    faces = FaceStates(states, np.array(EXPRESSIONS)[np.arange(64) % len(EXPRESSIONS)])
    emotions = np.array(["anger", "fear", "happiness", "sadness"] * 4)
    count = len(emotions)
    voices = Voices(
        states=random.normal(size=(count, 6, model.config.audio_state_size)).astype(np.float32),
        prosody=np.tile([180.0, 2.5, -22.0, 6.0, 5.0, 0.1, 0.6, 1.5], (count, 1)),
        vector=random.normal(size=(count, 8)).astype(np.float32),
        emotion=emotions,
        speaker=np.array(["a"] * count),
        name=np.array([str(row) for row in range(count)]),
        take=np.zeros(count, int),
        split=np.array(["train"] * count),
    )
    composed = list(compose(records, faces, voices, "train", 0, MIX, follow_up_share=0.2))
    collate = ComposedCollator(processor, faces, voices)
    rows = in_batches([record.to_json() for record in composed], collate, batch_size, 0)
    return Material(model, processor, rows, collate)


def bare(model: Any, batches: list[dict[str, torch.Tensor]]) -> float:
    """Seconds of forward and backward over the batches, in the trainer's precision."""
    device = next(model.parameters()).device
    model.train()
    start = time.perf_counter()
    for batch in batches:
        with torch.autocast(device.type, dtype=torch.bfloat16):
            loss = model(**{key: value.to(device) for key, value in batch.items()}).loss
        loss.backward()
        model.zero_grad()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


class Clock(TrainerCallback):
    """Seconds from the start of the training to the end of its last step, without the checkpoint at the very end."""

    seconds = 0.0

    def on_train_begin(self, *arguments: Any, **more: Any) -> None:
        self.start = time.perf_counter()

    def on_step_end(self, *arguments: Any, **more: Any) -> None:
        self.seconds = time.perf_counter() - self.start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=32, help="in each turn")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--llm", type=Path, help="folder of another language model; default: the embedded one")
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line")
    arguments = parser.parse_args()
    logging.set_verbosity_error()
    logging.disable_progress_bar()

    torch.manual_seed(0)
    material = make_material(arguments.records, arguments.batch_size, arguments.llm or fetch("llm"))
    data, size = [{"record": row} for row in material.rows], arguments.batch_size
    batches = [material.collate(data[start : start + size]) for start in range(0, len(data), size)]
    model = with_lora(material.model, rank=16)
    seconds: dict[str, list[float]] = {"trainer": [], "bare": []}
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(arguments.repeats + 1):
            recipe = SFTRecipe.model_construct(output=Path(folder) / str(turn), batch_size=size, save_steps=10**9)
            trainer, clock = make_trainer(recipe, material, model, last=None), Clock()
            trainer.add_callback(clock)
            before = bare(model, batches)
            trainer.train()
            if turn:  # the first one warms up
                seconds["trainer"].append(clock.seconds)
                seconds["bare"].append((before + bare(model, batches)) / 2)

    pairs = list(zip(seconds["bare"], seconds["trainer"]))
    show(
        "sft",
        [
            Figure("records", len(data)),
            Figure("tokens_per_record", sum(int(batch["attention_mask"].sum()) for batch in batches) / len(data)),
            Figure("trainer_samples_per_s", len(data) / median(seconds["trainer"]), "records/s"),
            Figure("bare_samples_per_s", len(data) / median(seconds["bare"]), "records/s"),
            Figure("ratio_to_bare", median(one / other for one, other in pairs), goal=0.9),
        ],
        arguments.json,
    )


if __name__ == "__main__":
    main()
