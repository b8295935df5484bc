"""Asks a predictor about every sample and writes a JSON line of each; goes on where an interrupted run broke off.

Batches are fixed by the place of a sample in the list, and a batch is written at once. So a run that was killed
computes the batch that it broke in again, as it was, and ends with the lines of an unbroken one.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

from emollm.ahead import ahead
from emollm.batch import check_writable
from emollm.errors import BadArgumentError, EmoLLMError, WeightsError
from emollm.eval import provenance
from emollm.eval.cards import BenchmarkCard
from emollm.eval.keep import (
    Shard,
    check_settings,
    finished,
    only_run,
    phases_of,
    record_file,
    sample_file,
    settings_of,
)
from emollm.eval.lines import line_of
from emollm.eval.predict import CannotAnswerError, Predictor, Thinker
from emollm.eval.schema import Line, Sample
from emollm.reasoning.prompts import DEFAULT_QUESTION

BATCH_SIZE = 16
AHEAD = 2  # batches that are prepared while one is answered
OnProgress = Callable[[int, int], None]  # samples done, samples in all


@dataclass(frozen=True)
class _Ready:
    """What a predictor made of a sample ahead, or the line of one that will not be answered."""

    seconds: float
    prepared: Any = None
    line: Line | None = None


def run(
    samples: Sequence[Sample],
    predictor: Predictor,
    card: BenchmarkCard,
    out: Path,
    *,
    think: bool = True,
    batch_size: int = BATCH_SIZE,
    shard: Shard | None = None,
    on_progress: OnProgress | None = None,
) -> list[Line]:
    """Answer every sample and write ``samples.jsonl`` and ``settings.json`` into ``out``.

    Lines stand in the order of the samples, but samples with ``thought_of`` come after all others.

    Args:
        samples: all samples; of a shard, those of :func:`emollm.eval.keep.shard_of`.
        shard: writes ``samples.1of4.jsonl`` and so on instead, which :func:`emollm.eval.keep.join` puts together.
        on_progress: called before the first batch and after each one.

    Raises:
        BadArgumentError: two samples have one id, or ``out`` cannot be written, is in use, or holds a run with other
            samples or settings. WeightsError, and whatever :meth:`Predictor.answer` raises: they hit every sample.
    """
    check_writable(out)
    for id, count in Counter(sample.id for sample in samples).items():
        if count > 1:
            raise BadArgumentError(f"{count} samples have the id {id}.")
    think = think and isinstance(predictor, Thinker)
    phases = [_batches(phase, batch_size) for phase in phases_of(samples)]
    batches = [batch for phase in phases for batch in phase]
    file, record = sample_file(out, shard), record_file(out, shard)
    with only_run(file):
        check_settings(record, file, settings_of(samples, predictor, card, think, batch_size))
        lines = finished(file, batches)
        asker = _Asker(predictor, card, think, lines)
        report = on_progress or (lambda done, total: None)
        report(len(lines), len(samples))
        with file.open("ab") as sink:
            for phase in phases:
                waiting = [batch for batch in phase if batch[0].id not in asker.lines]
                with closing(ahead(chain(*waiting), asker.prepare, AHEAD * batch_size)) as coming:
                    for batch in waiting:
                        done = asker.answer(batch, [ready.result() for _, ready in islice(coming, len(batch))])
                        sink.write("".join(f"{line.model_dump_json()}\n" for line in done).encode())
                        sink.flush()
                        os.fsync(sink.fileno())
                        report(len(asker.lines), len(samples))
    return list(asker.lines.values())


class _Asker:
    """Makes lines out of samples. ``lines``: those made so far, by id."""

    def __init__(self, predictor: Predictor, card: BenchmarkCard, think: bool, lines: Sequence[Line]):
        self.predictor, self.card, self.think = predictor, card, think
        self.lines = {line.id: line for line in lines}
        self.commit = provenance.commit_tag()

    def prepare(self, sample: Sample) -> _Ready:
        started = time.perf_counter()
        line = Line(id=sample.id, status="failed")
        try:
            return _Ready(prepared=self._prepare(sample), seconds=time.perf_counter() - started)
        except CannotAnswerError as error:
            line.status, line.error = "skipped", str(error)
        except WeightsError:
            raise
        except EmoLLMError as error:
            line.error = str(error).replace(str(sample.clip), sample.clip.name)
        except Exception as error:
            said = (str(error).strip().splitlines() or [""])[0].replace(str(sample.clip), sample.clip.name)
            line.error = f"Unexpected {type(error).__name__}{f' ({said})' if said else ''}."
        line.seconds = round(time.perf_counter() - started, 4)
        return _Ready(line.seconds, line=line)

    def _prepare(self, sample: Sample) -> Any:
        question = sample.question or self.card.question or DEFAULT_QUESTION
        if sample.thought_of is None:
            return self.predictor.prepare(sample, question)
        if not (self.think and isinstance(self.predictor, Thinker)):
            raise CannotAnswerError("There is no thought to go on from.")
        base = self.lines.get(sample.thought_of)
        if base is None or base.status != "ok" or base.raw is None:
            raise CannotAnswerError(f"There is no thought of sample {sample.thought_of} to go on from.")
        return self.predictor.prepare_thought(question, base.raw[: base.raw.index("<answer>")])

    def answer(self, batch: Sequence[Sample], ready: Sequence[_Ready]) -> list[Line]:
        asked = [one.prepared for one in ready if one.line is None]
        started = time.perf_counter()
        replies = self.predictor.answer(asked, self.think) if asked else []
        share = (time.perf_counter() - started) / max(len(asked), 1)
        if len(replies) != len(asked):
            raise ValueError(f"{self.predictor.name} gave {len(replies)} replies to {len(asked)} samples")
        left = iter(replies)
        done = [
            one.line or line_of(self.card, sample.id, next(left), self.think, one.seconds + share)
            for sample, one in zip(batch, ready)
        ]
        for line in done:
            line.commit = self.commit
        self.lines.update({line.id: line for line in done})
        return done


def _batches(samples: Sequence[Sample], size: int) -> list[Sequence[Sample]]:
    return [samples[start : start + size] for start in range(0, len(samples), size)]
