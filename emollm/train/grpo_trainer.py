"""TRL's GRPOTrainer over clips: stock but for the clips' states, which it has to see wherever it runs the model."""

from __future__ import annotations

import json
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from peft import set_peft_model_state_dict
from safetensors.torch import load_file
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from trl import GRPOTrainer
from trl.trainer.utils import split_tensor_dict

from emollm.train.collate import Example
from emollm.train.reward_functions import reply_statistics
from emollm.train.rollouts import VllmRollouts
from emollm.train.schedule import Schedule
from emollm.train.shared_prompt import score

Media = dict[str, Tensor]


class EmoLLMGRPOTrainer(GRPOTrainer):
    """Group-relative policy optimisation (Shao et al. 2024, https://arxiv.org/abs/2402.03300) of EmoLLM's LoRA.

    Rows of the dataset are those of :func:`emollm.train.grpo_questions.questions`. A rollout's states travel with it:
    TRL shuffles and splits along dim 0 whatever :meth:`_generate_and_score_completions` returns, and the model is
    given the rows that it scores. Rollouts are written to ``replies/`` in the output folder, one file a step.

    Args:
        example: a row of the dataset to its :class:`Example`.
        schedule: chooses each step's questions itself, as many as the dataset's order would bring.
        rollouts: writes the replies; None leaves it to transformers. TRL then weighs each reply by how much likelier
            the policy finds it than vLLM did (importance sampling), and logs how far the two differ.
    """

    def __init__(
        self,
        *args: Any,
        example: Callable[[dict[str, str]], Example],
        schedule: Schedule | None = None,
        rollouts: VllmRollouts | None = None,
        **kwargs: Any,
    ):
        super().__init__(*args, **kwargs)
        self.example, self.schedule, self.rollouts = example, schedule, rollouts
        self._clip = torch.tensor([])
        self.use_vllm = rollouts is not None  # set only here, as TRL would start an engine of its own
        self._clips: list[Example] = []
        self._media: Media = {}

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        scheduled = self.schedule is not None and self.model.training  # type: ignore[union-attr]
        if scheduled:
            inputs = self._scheduled(len(inputs))
        device = self.accelerator.device
        self._clips = self._examples(inputs)
        self._media = {name: value.to(device) for name, value in _states(self._clips).items()}
        same = list(map(id, self._clips))
        self._clip = torch.tensor([same.index(one) for one in same], device=device)
        place = torch.arange(len(inputs), device=device)
        scored = {**super()._generate_and_score_completions(inputs), **self._media, "clip": self._clip, "place": place}
        if scheduled:
            scored["advantages"] = scored["advantages"] * self._counts
        return scored

    def _prepare_inputs(self, generation_batch: dict[str, Any]) -> dict[str, Any]:
        """TRL shuffles a step's rollouts before it splits them; groups are put together again, to share prompts."""
        before = self._buffered_inputs
        inputs = super()._prepare_inputs(generation_batch)
        if self._buffered_inputs is before or self._buffered_inputs is None:
            return inputs
        batches: list[dict[str, Any]] = self._buffered_inputs
        order = torch.cat([batch["place"] for batch in batches]).argsort()
        whole = {
            name: torch.cat([batch[name] for batch in batches])[order]
            if isinstance(value, Tensor) and value.ndim
            else value
            for name, value in batches[0].items()
        }
        self._buffered_inputs = split_tensor_dict(whole, len(batches))
        return self._buffered_inputs[self._step % len(batches)]

    def _scheduled(self, rollouts: int) -> list[dict[str, str]]:
        """Rows that this process asks about next; every process keeps the same schedule, by everybody's rewards."""
        assert self.schedule is not None
        generations: int = self.num_generations  # type: ignore[assignment]
        chosen = self.schedule.choose(rollouts * self.accelerator.num_processes // generations)
        rows = [row for row in chosen for _ in range(generations)]
        return [self.train_dataset[row] for row in self._own(rows, rollouts)]  # type: ignore[index]

    def _own(self, every: Any, rollouts: int) -> Any:
        """Of something for each rollout of all processes, the part of this one."""
        first = self.accelerator.process_index * rollouts
        return every[first : first + rollouts]

    def _examples(self, rows: list[dict[str, str]]) -> list[Example]:
        """One a rollout; the rollouts of a group share theirs."""
        known = {row["record"]: row for row in rows}
        examples = {line: self.example(row) for line, row in known.items()}
        return [examples[row["record"]] for row in rows]

    def _generate_single_turn(
        self, prompt_ids: list[list[int]], *args: Any, **kwargs: Any
    ) -> tuple[list, list | None]:
        if self.rollouts is None:
            return super()._generate_single_turn(prompt_ids, *args, **kwargs)
        policy = self.accelerator.unwrap_model(self.model)
        return self.rollouts.generate(policy, self._clips, prompt_ids, self.state.global_step)

    def _tokenize_prompts(self, prompts: list[str]) -> tuple[list[list[int]], None, Media]:
        """The prompts are whole texts, in which every placeholder already stands as often as the clip needs it."""
        return self._tokenizer(prompts, add_special_tokens=False)["input_ids"], None, self._media

    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> Tensor:
        self._media, self._clip = {name: inputs[name] for name in self._media}, inputs["clip"]
        return super()._compute_loss(model, inputs)

    def _get_per_token_logps_and_entropies(
        self, model: Any, input_ids: Tensor, attention_mask: Tensor, replies: int, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """TRL calls the model on one chunk of rows after another; each chunk is given its own states."""
        done = 0

        def with_states(input_ids: Tensor, attention_mask: Tensor, labels: Tensor, **more: Any) -> Any:
            nonlocal done
            rows = slice(done, done + len(input_ids))
            done = rows.stop
            media = {name: value[rows] for name, value in self._media.items()}
            if self.args.gradient_checkpointing:  # leaves no keys and values to share
                return model(input_ids=input_ids, attention_mask=attention_mask, labels=labels, **media, **more)
            clip = self._clip[rows]
            return score(model, input_ids, attention_mask, labels, replies, clip, media, **more)

        return super()._get_per_token_logps_and_entropies(
            with_states, input_ids, attention_mask, replies, *args, **kwargs
        )

    def _calculate_rewards(
        self, inputs: list[dict[str, str]], prompts: list[str], completions: list[str], completion_ids_list: list
    ) -> Tensor:
        """Beside TRL's mean and spread of each reward, what else would show that it is gamed or teaches nothing."""
        rewards = super()._calculate_rewards(inputs, prompts, completions, completion_ids_list)
        training = self.model.training  # type: ignore[union-attr]
        mode, generations = ("train", self.num_generations) if training else ("eval", self.num_generations_eval)
        grouped = rewards.view(-1, generations, rewards.shape[1])
        for name, groups in zip(self.reward_func_names, grouped.unbind(-1)):
            scored = groups[~groups.isnan().any(1)]
            if len(scored):
                same = (scored.amax(1) == scored.amin(1)).float().mean()
                self._metrics[mode][f"rewards/{name}/zero_variance"].append(same.item())
        if self.schedule is not None and training:
            counts = self.schedule.learn(grouped, self.reward_weights.to(rewards.device)).to(rewards.device)
            self._counts = self._own(counts.repeat_interleave(grouped.shape[1]), len(inputs))
            for name, value in (self.schedule.figures() | {"weight": counts.mean().item()}).items():
                self._metrics[mode][f"schedule/{name}"].append(value)
        truth = [row["truth"] for row in inputs]
        tokens = [len(ids) for ids in completion_ids_list]
        for name, value in reply_statistics(completions, tokens, truth).items():
            self._log_metric(f"replies/{name}", value)
        self._write(inputs, completions, rewards)
        return rewards

    def _write(self, inputs: list[dict[str, str]], completions: list[str], rewards: Tensor) -> None:
        """One line a rollout of this process; a step that is done again after a kill writes its file again."""
        folder = Path(str(self.args.output_dir)).parent / "replies"
        folder.mkdir(parents=True, exist_ok=True)
        lines = []
        for row, text, values in zip(inputs, completions, self._own(rewards, len(completions)).tolist()):
            truth = json.loads(row["truth"])
            found = {name: value for name, value in zip(self.reward_func_names, values) if value == value}
            question = {"question": sha256(row["record"].encode()).hexdigest()[:12]}
            told = {key: truth[key] for key in ("think", "emotion", "carrier")}
            lines.append(question | told | {"reply": text, "rewards": found})
        name = f"{self.state.global_step + 1:05d}-{self.accelerator.process_index}.jsonl"
        (folder / name).write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        """TRL keeps the reference as a second adapter, and where it finds two, transformers loads that one only and
        would go on from the start."""
        file = Path(resume_from_checkpoint) / "adapter_model.safetensors"
        set_peft_model_state_dict(model or self.model, load_file(file))


def _states(clips: list[Example]) -> Media:
    """Media arguments of the model, one row a clip."""
    return {
        "face_states": _padded([clip.face for clip in clips]),
        "face_window_s": torch.tensor([clip.placeholders.face_window_s for clip in clips]),
        "audio_states": _padded([clip.sound for clip in clips]),
        "audio_prosody": torch.stack([torch.as_tensor(clip.prosody) for clip in clips]),
    }


def _padded(parts: list[Any]) -> Tensor:
    """``(I, longest, D)`` of arrays ``(any, D)``, at least one row long, NaN behind each part's end."""
    empty = torch.full((1, parts[0].shape[-1]), float("nan"))
    states = [torch.as_tensor(part) if len(part) else empty for part in parts]
    return pad_sequence(states, batch_first=True, padding_value=float("nan"))
