"""A data-efficient schedule: questions from which nothing is to be learned for now sit out a few passes.

The idea is FaVChat's data-efficient GRPO (Zhao et al. 2025, https://arxiv.org/abs/2503.09158): estimate what each
sample is still worth, and let it count in full, count less, or retire. That a question without spread of rewards
mostly has none in the next pass either was measured by GRESO (Zheng et al. 2025, https://arxiv.org/abs/2506.02177).
The formulas are our own, and need nothing but the rewards of a group. Every step is made of as many questions and
replies as without a schedule; which questions they are is all that differs, so both can be held against each other.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from emollm.errors import BadArgumentError

FILE = "schedule.json"


class ScheduleRecipe(BaseModel):
    """When a question rests and how much it counts.

    Attributes:
        retire_below: a question rests once its utility (0-1) is less than this.
        rest: passes over the questions that it sits out.
        memory: share of the utility before in that after one more visit; the first visit stands alone.
        full_above: utility from which a group counts in full; below it, in proportion. Without this, groups that
            hardly differ would teach as much as others, as GRPO scales the rewards of each group to one spread.
    """

    model_config = ConfigDict(extra="forbid")

    retire_below: float = Field(default=0.05, ge=0, lt=1)
    rest: int = Field(default=2, ge=1)
    memory: float = Field(default=0.5, ge=0, lt=1)
    full_above: float = Field(default=0.15, gt=0, le=1)


def earned(rewards: Tensor, weights: Tensor) -> Tensor:
    """``(B, G)`` mean reward of each reply in [-1, 1] by weight.

    Args:
        rewards: ``(B, G, K)``, NaN where a reward does not apply.
        weights: ``(K,)``.
    """
    applied = weights * ~rewards.isnan()
    return ((rewards.nan_to_num() * weights).sum(-1) / applied.sum(-1)).nan_to_num()


def utility(totals: Tensor) -> Tensor:
    """``(B,)`` what ``(B, G)`` totals in [-1, 1] of each group's replies can teach, in [0, 1].

    The geometric mean of spread (standard deviation) and headroom (how far the mean is below the best reply, halved).
    Groups that are right, or wrong, throughout have neither; a rare success counts more than a rare failure.

    >>> utility(torch.tensor([[1.0, 1.0], [-1.0, -1.0], [1.0, -1.0]])).tolist()
    [0.0, 0.0, 0.7071067690849304]
    """
    headroom = (totals.amax(-1) - totals.mean(-1)) / 2
    return (totals.std(-1, correction=0) * headroom.clamp(min=0)).sqrt()


class Schedule(TrainerCallback):
    """Which questions are asked next, and how much each group counts; saved with every checkpoint.

    Args:
        questions: how many there are; they are asked in order, over and over.
        start: the checkpoint that the run goes on from.

    Attributes:
        known: utility of each question, None before its first visit.
        rests: passes that each question still sits out.
        place: of the question that is next.
        solved, hopeless: how often a question was sent to rest with more, or less, than half of what it could earn.
        chosen: questions of this step.

    Raises:
        BadArgumentError: the checkpoint is of a run without a schedule, or of one over other questions.
    """

    def __init__(self, recipe: ScheduleRecipe, questions: int, start: Path | None = None):
        self.recipe = recipe
        self.known: list[float | None] = [None] * questions
        self.rests, self.place, self.solved, self.hopeless = [0] * questions, 0, 0, 0
        self.chosen: list[int] = []
        if start is not None:
            self._load(start)

    def choose(self, count: int) -> list[int]:
        """The next ``count`` different questions. Each one that rests and is passed over has one pass less to rest.

        Raises:
            ValueError: there are fewer questions.
        """
        if count > len(self.known):
            raise ValueError(f"{count} different questions cannot be chosen from {len(self.known)}")
        self.chosen = []
        while len(self.chosen) < count:
            if self.place not in self.chosen:
                if self.rests[self.place]:
                    self.rests[self.place] -= 1
                else:
                    self.chosen.append(self.place)
            self.place = (self.place + 1) % len(self.known)
        return self.chosen

    def learn(self, rewards: Tensor, weights: Tensor) -> Tensor:
        """Take note of the groups of this step, and say how much each counts, ``(B,)`` in [0, 1].

        Args:
            rewards: ``(B, G, K)`` of the questions chosen last, in that order; NaN where a reward does not apply.
            weights: ``(K,)`` of the rewards.
        """
        totals, recipe, counts = earned(rewards.double(), weights.double()), self.recipe, []
        for question, value, mean in zip(self.chosen, utility(totals).tolist(), totals.mean(-1).tolist(), strict=True):
            before = self.known[question]
            after = value if before is None else recipe.memory * before + (1 - recipe.memory) * value
            self.known[question] = after
            counts.append(min(1.0, after / recipe.full_above))
            if after < recipe.retire_below:
                self.rests[question] = recipe.rest
                self.solved, self.hopeless = self.solved + (mean > 0), self.hopeless + (mean <= 0)
        return torch.tensor(counts)

    def figures(self) -> dict[str, float]:
        """For the log: questions at rest now, how often one was sent to rest (solved, hopeless), mean utility of all
        that were ever asked."""
        seen = [value for value in self.known if value is not None]
        return {
            "resting": float(sum(rest > 0 for rest in self.rests)),
            "solved": float(self.solved),
            "hopeless": float(self.hopeless),
            "utility": sum(seen) / max(len(seen), 1),
        }

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Write the state into the checkpoint; must be called before what marks the checkpoint as whole."""
        if state.is_world_process_zero:
            names = ("known", "rests", "place", "solved", "hopeless")
            folder = Path(str(args.output_dir)) / f"checkpoint-{state.global_step}"
            (folder / FILE).write_text(json.dumps({name: getattr(self, name) for name in names}))

    def _load(self, checkpoint: Path) -> None:
        try:
            state = json.loads((checkpoint / FILE).read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise BadArgumentError("The run was begun without a schedule; name another output.") from None
        if len(state["known"]) != len(self.known):
            raise BadArgumentError("The run's schedule is of other questions; name another output.")
        vars(self).update(state)
