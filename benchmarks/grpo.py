"""Seconds of a GRPO step against the sum of its parts, and rollouts by vLLM against rollouts by transformers.

    python benchmarks/grpo.py [--questions 2] [--generations 8] [--tokens 64] [--repeats 2] [--llm FOLDER] [--json]

One trainer on the default one's language model (adapters, towers and data random, as their numbers do not matter for
speed) takes steps with rollouts by transformers and by vLLM in turns. After each step its parts are done alone, on the
same rollouts, so that a busy machine slows all alike:

generation  the bare ``generate`` of transformers; or vLLM, to which the LoRA is handed anew, as every step has to
scoring     the rewards, and the reference's forward pass; with vLLM the policy's too, which tells how far vLLM is off
backward    the policy's forward and backward pass
whole       no part of the step: backward once more, but each reply with a prompt of its own, as stock TRL has it;
            compared with backward, it tells what sharing a group's prompt gains

What a step does beside them: prompts, states of the clips, advantages, entropy, clipping, the optimizer, logs. Every
reply has the same length: the end token is one that the model never writes. Without vLLM its figures are left out.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch
from common import Figure, show
from sft import make_material
from torch import Tensor
from transformers import TrainerCallback
from transformers.utils import logging
from trl.trainer.utils import use_adapter

from emollm.model.processing_emollm import FACE_TOKEN
from emollm.serve.vllm_setup import vllm_version
from emollm.train.grpo import GRPORecipe, make_trainer
from emollm.train.grpo_questions import questions
from emollm.weights import fetch

REWARDS = {
    "format": 1.0,
    "label": 1.0,
    "units": 0.5,
    "support": 0.5,
    "alignment": 0.5,
    "fit": 0.5,
    "modality": 0.25,
    "length": 0.25,
}
TURNS = ("transformers", "vllm")
PARTS = ("generation", "scoring", "backward")
MEDIA = ("face_states", "face_window_s", "audio_states", "audio_prosody")
Seconds = dict[str, list[float]]


class Parts:
    """What a step consists of, done again on the rollouts that it was made of."""

    def __init__(self, trainer: Any):
        self.trainer, self.model = trainer, trainer.accelerator.unwrap_model(trainer.model)
        self.scored: tuple[Any, ...] = ()
        score = trainer._calculate_rewards

        def keep(*arguments: Any) -> Tensor:
            self.scored = arguments
            return score(*arguments)

        trainer._calculate_rewards = keep

    def generation(self) -> None:
        trainer = self.trainer
        if trainer.rollouts is not None:
            prompts, _, _ = trainer._tokenize_prompts([row["prompt"] for row in self.scored[0]])
            trainer.rollouts.generate(self.model, trainer._clips, prompts, trainer.state.global_step)
            return
        batches = trainer._buffered_inputs
        ids, mask, *media = (
            torch.cat([one[name] for one in batches]) for name in ("prompt_ids", "prompt_mask", *MEDIA)
        )
        with torch.no_grad(), trainer.accelerator.autocast():
            self.model.generate(
                input_ids=ids,
                attention_mask=mask,
                **dict(zip(MEDIA, media)),
                generation_config=trainer.generation_config,
            )

    def scoring(self) -> None:
        rows, _, completions, ids = self.scored
        for reward in self.trainer.reward_funcs:
            reward(completions=completions, completion_ids=ids, truth=[row["truth"] for row in rows])
        with torch.no_grad():
            with use_adapter(self.model, "ref" if "ref" in self.model.peft_config else None):
                for batch in self.trainer._buffered_inputs:
                    self._log_probabilities(batch)
            if self.trainer.rollouts is not None:
                for batch in self.trainer._buffered_inputs:
                    self._log_probabilities(batch)

    def backward(self) -> None:
        for batch in self.trainer._buffered_inputs:
            self._log_probabilities(batch).mean().backward()
        self.model.zero_grad()

    def whole(self) -> None:
        for batch in self.trainer._buffered_inputs:
            self._of_whole_rows(batch).mean().backward()
        self.model.zero_grad()

    def _log_probabilities(self, batch: dict[str, Tensor]) -> Tensor:
        trainer, replies = self.trainer, batch["completion_ids"]
        trainer._media, trainer._clip = {name: batch[name] for name in MEDIA}, batch["clip"]
        ids = torch.cat([batch["prompt_ids"], replies], 1)
        mask = torch.cat([batch["prompt_mask"], batch["completion_mask"]], 1)
        return trainer._get_per_token_logps_and_entropies(trainer.model, ids, mask, replies.shape[1])[0]

    def _of_whole_rows(self, batch: dict[str, Tensor]) -> Tensor:
        replies = batch["completion_ids"]
        with self.trainer.accelerator.autocast():
            logits = self.model(
                input_ids=torch.cat([batch["prompt_ids"], replies], 1),
                attention_mask=torch.cat([batch["prompt_mask"], batch["completion_mask"]], 1),
                logits_to_keep=replies.shape[1] + 1,
                **{name: batch[name] for name in MEDIA},
            ).logits[:, :-1]
        return -torch.nn.functional.cross_entropy(logits.float().flatten(0, 1), replies.flatten(), reduction="none")


class Turns(TrainerCallback):
    """Times each step and then its parts, and changes between transformers and vLLM."""

    def __init__(self, trainer: Any, repeats: int):
        self.trainer, self.parts, self.engine = trainer, Parts(trainer), trainer.rollouts
        self.turns = TURNS if self.engine is not None else TURNS[:1]
        self.steps = (repeats + 1) * len(self.turns)
        self.seconds: dict[str, Seconds] = {
            name: {part: [] for part in ("step", *PARTS, "whole")} for name in self.turns
        }
        self._choose(0)

    def _choose(self, step: int) -> None:
        self.turn = self.turns[step % len(self.turns)]
        self.trainer.rollouts = self.engine if self.turn == "vllm" else None
        self.trainer.use_vllm = self.trainer.rollouts is not None

    def on_step_begin(self, *arguments: Any, **more: Any) -> None:
        self.start = time.perf_counter()

    def on_step_end(self, args: Any, state: Any, *arguments: Any, **more: Any) -> None:
        taken = {"step": time.perf_counter() - self.start}
        for part in (*PARTS, "whole"):
            taken[part] = timed(getattr(self.parts, part))
        if state.global_step > len(self.turns):  # the first of each warm up
            for name, seconds in taken.items():
                self.seconds[self.turn][name].append(seconds)
        self._choose(state.global_step)


def timed(part: Callable[[], None]) -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    start = time.perf_counter()
    part()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def make_endless(material: Any) -> None:
    """Have the end token be a placeholder, which is ruled out."""
    tokenizer = material.processor.tokenizer
    pad = tokenizer.pad_token
    tokenizer.eos_token, tokenizer.pad_token = FACE_TOKEN, pad
    material.model.generation_config.eos_token_id = tokenizer.eos_token_id


def figures_of(name: str, seconds: Seconds) -> list[Figure]:
    parts = [sum(one) for one in zip(*(seconds[part] for part in PARTS))]
    return [
        *[Figure(f"{name}_{part}_s", median(taken), "s") for part, taken in seconds.items()],
        Figure(
            f"{name}_step_to_parts",
            median(step / sum_ for step, sum_ in zip(seconds["step"], parts)),
            goal=1.2,
            at_most=True,
        ),
        Figure(
            f"{name}_shared_prompt_times_as_fast",
            median(whole / shared for whole, shared in zip(seconds["whole"], seconds["backward"])),
        ),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--questions", type=int, default=2, help="in each step")
    parser.add_argument("--generations", type=int, default=8, help="replies to each question")
    parser.add_argument("--tokens", type=int, default=64, help="of each reply")
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--llm", type=Path, help="folder of another language model; default: the embedded one")
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line")
    arguments = parser.parse_args()
    logging.set_verbosity_error()
    logging.disable_progress_bar()

    torch.manual_seed(0)
    steps = 2 * (arguments.repeats + 1)
    material = make_material(4 * steps * arguments.questions, arguments.questions, arguments.llm or fetch("llm"))
    make_endless(material)
    with tempfile.TemporaryDirectory() as folder:
        recipe = GRPORecipe.model_construct(
            output=Path(folder),
            rewards=REWARDS,
            batch_size=arguments.questions,
            generations=arguments.generations,
            wanted_tokens=arguments.tokens,
            max_tokens=arguments.tokens,
            rollouts="vllm" if vllm_version() else "transformers",
            log_steps=10**9,
            save_steps=10**9,
            max_steps=steps,
        )
        trainer = make_trainer(recipe, material, questions(material))
        turns = Turns(trainer, arguments.repeats)
        trainer.args.max_steps = turns.steps
        trainer.add_callback(turns)
        trainer.train()
        if turns.engine is not None:
            turns.engine.close()
    lengths = {len(reply) for reply in turns.parts.scored[3]}
    if lengths != {arguments.tokens}:
        raise SystemExit(f"Replies have {sorted(lengths)} tokens, not {arguments.tokens}.")

    replies = arguments.questions * arguments.generations
    figures = [Figure("replies", replies), Figure("tokens_per_reply", arguments.tokens)]
    for name, seconds in turns.seconds.items():
        tokens = replies * arguments.tokens / median(seconds["generation"])
        figures += [*figures_of(name, seconds), Figure(f"{name}_tokens_per_s", tokens, "tokens/s")]
    if turns.engine is not None:
        ours, theirs = (turns.seconds[name] for name in ("vllm", "transformers"))
        for part in ("generation", "step"):
            ratio = median(slow / quick for slow, quick in zip(theirs[part], ours[part]))
            figures.append(Figure(f"vllm_{part}_times_as_fast", ratio))
    show("grpo", figures, arguments.json)


if __name__ == "__main__":
    main()
