"""What training did to the rewards of the same questions: of those that were asked more than once.

A log's means rise and fall with what is asked at a step; these differences do not.
"""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
from pydantic import BaseModel, ConfigDict

from emollm.eval.metrics.intervals import bootstrap


class Change(BaseModel):
    """One reward's mean over ``questions``, when they were asked for the first time and for the last.

    Attributes:
        low: of the difference, with ``high`` its 95 % bootstrap interval over questions.
    """

    model_config = ConfigDict(extra="forbid")

    reward: str
    questions: int
    first: float
    last: float
    low: float
    high: float


def changes(run: Path) -> list[Change]:
    """Of the folder of a GRPO run, reward by reward, as its ``replies/`` tell them.

    A reward without two groups of one question is left out, and so are replies of runs that did not note the question.
    """
    rewards = [
        (name, line["question"], int(file.name.split("-")[0]), value)  # step-process.jsonl
        for file in (run / "replies").glob("*.jsonl")
        for line in map(json.loads, file.read_text(encoding="utf-8").splitlines())
        if "question" in line
        for name, value in line["rewards"].items()
    ]
    columns = ["reward", "question", "step"]
    groups = pd.DataFrame(rewards, columns=[*columns, "value"]).groupby(columns)["value"].mean()
    ends = groups.groupby(columns[:2]).agg(["first", "last", "size"])
    return [_change(str(name), both) for name, both in ends[ends["size"] > 1].groupby("reward")]


def _change(reward: str, ends: pd.DataFrame) -> Change:
    differences = (ends["last"] - ends["first"]).to_numpy()
    sure = bootstrap(lambda rows: float(differences[rows].mean()), len(ends))
    first, last = ends["first"].mean(), ends["last"].mean()
    return Change(reward=reward, questions=len(ends), first=first, last=last, low=sure.low, high=sure.high)
