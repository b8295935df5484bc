"""``emollm eval``: run a benchmark, list the benchmarks, compare two runs, make the page of all results."""

from __future__ import annotations

import re
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from typer.core import TyperGroup

from emollm.engines import check_engine
from emollm.errors import BadArgumentError
from emollm.eval.display import answering, name_some, show_comparison, show_result
from emollm.show import sentence

if TYPE_CHECKING:
    from emollm.data.readers import Problem
    from emollm.eval.cards import BenchmarkCard
    from emollm.eval.keep import Shard
    from emollm.eval.metrics.judge import Judge
    from emollm.eval.schema import Line, Sample


class _Group(TyperGroup):
    """Takes ``emollm eval ferplus`` for ``emollm eval run ferplus``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] != "--help" and args[0] not in self.commands:
            args = ["run", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(cls=_Group, no_args_is_help=True, help="Measure a model on a benchmark: emollm eval BENCHMARK.")

RootOption = Annotated[Path, typer.Option(help="The folder that holds the folders of data sets.")]


def _engine(value: str) -> str:
    check_engine(value)
    return value


EngineOption = Annotated[
    str,
    typer.Option(
        callback=_engine,
        metavar="auto|transformers|vllm|URL",
        help="What runs the model; a URL such as http://localhost:8000/v1 is an OpenAI-compatible server.",
    ),
]
DebugOption = Annotated[bool, typer.Option("--debug", help="Show tracebacks and what libraries print.")]


@app.command("run")
def run_benchmark(
    benchmark: Annotated[str, typer.Argument(help="A name from 'emollm eval list', or a card of your own (YAML).")],
    model: Annotated[
        str | None, typer.Option(help="A folder, a hub id, or the name of a baseline. Default: the embedded model.")
    ] = None,
    root: RootOption = Path("datasets"),
    out: Annotated[
        Path | None,
        typer.Option(help="Folder of the run. Default: runs/eval/BENCHMARK/MODEL."),
    ] = None,
    split: Annotated[str | None, typer.Option(help="Instead of the benchmark's own split.")] = None,
    fold: Annotated[str | None, typer.Option(help="One fold of the data set, such as a speaker.")] = None,
    shard: Annotated[
        str | None, typer.Option(metavar="I/N", help="Only part I of N; the last one to finish joins and scores them.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many samples, chosen by --seed.")] = None,
    seed: Annotated[int, typer.Option(help="Of --limit and of the bootstrap intervals.")] = 0,
    think: Annotated[bool, typer.Option("--think/--no-think", help="Reason before answering.")] = True,
    batch_size: Annotated[int, typer.Option(min=1, help="Samples answered at once.")] = 16,
    engine: EngineOption = "auto",
    abstain_below: Annotated[
        float | None, typer.Option(min=0, max=1, help="Also report what is left without answers less sure than this.")
    ] = None,
    calibrated_on: Annotated[
        Path | None, typer.Option(help="Folder of a run on other samples, to fit a confidence temperature on.")
    ] = None,
    judge: Annotated[
        str | None, typer.Option(metavar="URL", help="Server of a judge model, up to /v1. Off by default.")
    ] = None,
    judge_model: Annotated[str | None, typer.Option(help="Exact name of the judge model.")] = None,
    wheels: Annotated[
        Path | None, typer.Option(help="Folder of the published emotion wheels, to score open answers on these too.")
    ] = None,
    groups: Annotated[
        str | None, typer.Option(help="Fields to report by, such as speaker,sex, where the data set has them.")
    ] = None,
    debug: DebugOption = False,
) -> None:
    """Run a benchmark, and write samples.jsonl, result.json and index.html. The word 'run' may be left out.

    The same command goes on where an interrupted run stopped.
    """
    from emollm.eval.cards import load_benchmark
    from emollm.eval.choose import load_predictor
    from emollm.eval.keep import join, shard_of
    from emollm.eval.results import write_results
    from emollm.eval.run import run

    notes, started = Console(file=sys.stderr), time.perf_counter()
    part = _shard(shard)
    card = load_benchmark(benchmark)
    if (judge is None) != (judge_model is None):
        raise BadArgumentError("A judge needs both --judge and --judge-model.")
    official = None
    if wheels is not None:
        from emollm.eval.metrics.wheels import Wheels

        official = Wheels.load(wheels)
    card, samples, problems = _samples(card, root, split, fold, limit, seed, notes)
    with notes.status("Loading the model") if notes.is_terminal else nullcontext():
        predictor = load_predictor(model, card, root, engine=engine)
    out = out or Path("runs", "eval", card.name, _slug(predictor.name) + ("" if think else "-no-think"))
    kept: list[int] = []
    with answering(notes, kept) as on_progress:
        lines: list[Line] | None = run(
            samples if part is None else shard_of(samples, part),
            predictor,
            card,
            out,
            think=think,
            batch_size=batch_size,
            shard=part,
            on_progress=on_progress,
        )
    seconds = time.perf_counter() - started
    if part is not None:
        lines = join(samples, out, part.count)
    if lines is None:
        sentence(notes, f"Part {shard} is done; the others are still missing in {out}.")
        return
    described = predictor.describe()
    result = write_results(
        out,
        card,
        samples,
        lines,
        {"think": think, "batch_size": batch_size, "limit": limit, "fold": fold, "shard": shard, "root": str(root)},
        problems,
        model=predictor.name,
        engine=described.get("engine", "none"),
        describe=described,
        split=split or card.split,
        seed=seed,
        seconds=None if part is not None or kept[0] else seconds,
        abstain_below=abstain_below,
        calibrated_on=calibrated_on,
        groups=[field.strip() for field in groups.split(",")] if groups else [],
        judges=[] if judge is None else _judges(card, judge, str(judge_model)),
        wheels=official,
    )
    show_result(result, lines, out, Console(file=sys.stdout), notes)


@app.command("list")
def list_benchmarks(root: RootOption = Path("datasets")) -> None:
    """List the benchmarks, and whether their data are there."""
    from emollm.data.cards import card_names, load_data_card
    from emollm.eval.cards import load_benchmark

    table = Table(box=None, pad_edge=False)
    for column in ("benchmark", "what", "task", "data"):
        table.add_column(column, overflow="fold")
    for name in card_names("eval"):
        card = load_benchmark(name)
        missing = [data for data in card.data if not (root / load_data_card(data).folder).is_dir()]
        table.add_row(
            name, card.title, card.task.replace("_", " "), f"missing: {', '.join(missing)}" if missing else "here"
        )
    Console(file=sys.stdout).print(table)


@app.command("compare")
def compare_runs(
    a: Annotated[Path, typer.Argument(help="Folder of a run.")],
    b: Annotated[Path, typer.Argument(help="Folder of another run on the same samples.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print the comparison as JSON.")] = False,
) -> None:
    """Compare two runs on the same samples: is the difference more than chance?"""
    from emollm.eval.compare import compare

    found, console = compare(a, b), Console(file=sys.stdout)
    if as_json:
        print(found.model_dump_json(indent=2))
        return
    show_comparison(found, console)


@app.command("page")
def make_page(
    runs: Annotated[
        list[Path] | None, typer.Argument(metavar="RUN", help="Folders of runs whose results are taken in first.")
    ] = None,
    results: Annotated[Path, typer.Option(help="Folder of the kept results.")] = Path("eval", "results"),
    readme: Annotated[Path | None, typer.Option(help="A Markdown file with marks for the short table.")] = None,
) -> None:
    """Make the tables of all kept results."""
    from emollm.eval.pages.page import keep, results_page

    for run in runs or []:
        keep(run / "result.json", results)
    written = results_page(results, readme=readme)
    sentence(Console(file=sys.stdout), f"Written: {', '.join(map(str, written))}.")


@app.command("export")
def export_benchmark(
    benchmark: Annotated[str, typer.Argument(help="A name from 'emollm eval list', or a card of your own (YAML).")],
    out: Annotated[Path, typer.Option(help="Folder to write the task into, for lmms-eval's --include_path.")],
    root: RootOption = Path("datasets"),
    split: Annotated[str | None, typer.Option(help="Instead of the benchmark's own split.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first samples.")] = None,
) -> None:
    """Write a benchmark as a task of lmms-eval."""
    from emollm.eval.cards import load_benchmark
    from emollm.eval.lmms import export_tasks

    written = export_tasks(load_benchmark(benchmark), root, out, split=split, limit=limit)
    sentence(Console(file=sys.stdout), f"Written: {written}.")


def _samples(
    card: BenchmarkCard, root: Path, split: str | None, fold: str | None, limit: int | None, seed: int, notes: Console
) -> tuple[BenchmarkCard, list[Sample], list[Problem]]:
    """The samples to ask about, and one sentence for everything that could not be used.

    A probe's samples belong together in pairs, so its limit is how many it makes.
    """
    from emollm.eval.samples import benchmark_samples, subsample
    from emollm.weights import cache_dir

    if limit is not None and card.probe:
        card = card.model_copy(update={"samples": min(limit, card.samples or limit)})
    with notes.status("Reading the data") if notes.is_terminal else nullcontext():
        found = benchmark_samples(card, root, split, fold, unpack=cache_dir() / "eval")
    samples = found.samples if limit is None or card.probe else subsample(found.samples, limit, seed)
    named = [f"{problem.id}: {problem.text}" for problem in found.problems]
    name_some(notes, "The data set has {} that cannot be used", "row", named)
    return card, samples, found.problems


def _shard(text: str | None) -> Shard | None:
    from emollm.eval.keep import Shard

    if text is None:
        return None
    numbers = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", text)
    if numbers is None or not 1 <= int(numbers[1]) <= int(numbers[2]):
        raise BadArgumentError(f"'{text}' is no part such as 1/4.")
    return Shard(int(numbers[1]), int(numbers[2]))


def _judges(card: BenchmarkCard, url: str, model: str) -> list[Judge]:
    """A judge for each question that the benchmark's protocol puts to one."""
    from emollm.eval.metrics.judge import PROMPTS, HttpJudge
    from emollm.weights import cache_dir

    asked = {name: prompt for name, prompt in PROMPTS.items() if name.startswith(f"{card.name}_")}
    if not asked:
        raise BadArgumentError(f"{card.name} has nothing for a judge to judge.")
    return [HttpJudge(name, url, model, prompt, cache_dir() / "judge") for name, prompt in asked.items()]


def _slug(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", Path(name).name) or "model"
