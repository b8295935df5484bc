"""Scoring a finished run: what it writes into the run's folder, ``index.html`` to read among it."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emollm.data.cards import load_data_card
from emollm.errors import BadArgumentError
from emollm.eval import provenance
from emollm.eval.cards import BenchmarkCard
from emollm.eval.record import ASKED, RESULT, Result, Run, read_run
from emollm.eval.schema import Line, Sample
from emollm.eval.score import fit_temperature, score

if TYPE_CHECKING:
    from emollm.data.readers import Problem
    from emollm.eval.metrics.judge import Judge
    from emollm.eval.metrics.wheels import Wheels


def write_results(
    out: Path,
    card: BenchmarkCard,
    samples: Sequence[Sample],
    lines: Sequence[Line],
    settings: dict[str, Any],
    problems: Sequence[Problem | str],
    *,
    model: str,
    engine: str = "transformers",
    describe: dict[str, str] | None = None,
    split: str | None = None,
    seed: int = 0,
    seconds: float | None = None,
    command: str | None = None,
    abstain_below: float | None = None,
    calibrated_on: Path | None = None,
    groups: Sequence[str] = (),
    judges: Sequence[Judge] = (),
    wheels: Wheels | None = None,
) -> Result:
    """Score a run and write ``result.json``, ``asked.jsonl`` and ``index.html`` into its folder.

    Args:
        out: the run's folder, where ``samples.jsonl`` lies already.
        lines: in any order; one for each sample.
        settings: JSON-able; shown and stored, decides nothing.
        problems: what the data reader could not use.
        seed: of the bootstrap draws.
        seconds: wall time of the run; None takes the sum of the lines' own.
        command: None takes this process's command line.
        abstain_below: report what is left when answers less sure than this are withheld.
        calibrated_on: folder of a run of the same model on other samples; a confidence temperature is fitted on it.
        groups: fields of the samples' groups for the subgroup report.
        judges: for a card whose metrics name ``judge``, see :mod:`emollm.eval.metrics.judge`.
        wheels: the published emotion wheels, for hit rate and EW on these too.

    Raises:
        BadArgumentError: ``calibrated_on`` is no run, is of another model or of the same samples; no such group field;
            the card names an unknown metric; nothing to abstain by.
        ValueError: samples and lines do not belong together.
    """
    from emollm.eval.pages.run_page import run_page

    described = describe or {}
    data = [load_data_card(name) for name in card.data]
    present = max((one.au_present for one in data), default=1.0)
    temperature, fitted_on = 1.0, None
    if calibrated_on is not None:
        other = _calibration_run(calibrated_on, model, described, samples)
        temperature = fit_temperature(card, other.samples, other.lines)
        fitted_on = " ".join(filter(None, (other.result.benchmark, other.result.split)))
    took = sum(line.seconds for line in lines) if seconds is None else seconds
    commit, dirty = provenance.commit()
    result = Result(
        benchmark=card.name,
        model=model,
        engine=engine,
        card=card,
        describe=described,
        settings=settings,
        command=shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]) if command is None else command,
        commit=commit,
        dirty=dirty,
        reply_commits=sorted({line.commit for line in lines if line.commit}),
        versions=provenance.versions(),
        hardware=provenance.hardware(),
        seed=seed,
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        split=split,
        n=len(samples),
        label_origin=sorted({one.label_origin for one in data}),
        au_present=present,
        calibrated_on=fitted_on,
        scores=score(
            card,
            samples,
            lines,
            au_present=present,
            abstain_below=abstain_below,
            temperature=temperature,
            groups=groups,
            judges=judges,
            wheels=wheels,
            seed=seed,
        ),
        failures={line.id: line.error or "no reason given" for line in lines if line.status == "failed"},
        problems=[problem if isinstance(problem, str) else f"{problem.id}: {problem.text}" for problem in problems],
        seconds=round(took, 3),
        samples_per_second=round(len(samples) / took, 4) if took > 0 else None,
    )
    out.mkdir(parents=True, exist_ok=True)
    (out / ASKED).write_text("".join(sample.model_dump_json() + "\n" for sample in samples), encoding="utf-8")
    (out / RESULT).write_text(result.model_dump_json(indent=1) + "\n", encoding="utf-8")
    (out / "index.html").write_text(run_page(Run(result, list(samples), list(lines))), encoding="utf-8")
    return result


def _calibration_run(folder: Path, model: str, described: dict[str, str], samples: Sequence[Sample]) -> Run:
    other = read_run(folder)
    if other.result.model != model or other.result.describe != described:
        raise BadArgumentError(f"{folder} cannot be calibrated on: it is a run of another model.")
    asked = {(sample.id, sample.clip) for sample in samples}
    if any((sample.id, sample.clip) in asked for sample in other.samples):
        raise BadArgumentError(f"{folder} cannot be calibrated on: it has samples that are scored here.")
    return other
