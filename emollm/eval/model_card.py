"""The model card of the default model, made of measured files, so that no figure in it is typed by hand.

``python -m emollm.eval.model_card`` writes ``emollm/checkpoints/tiny/README.md`` from ``training.json`` beside it
(made by ``python -m emollm.train.collect``) and the committed results in ``eval/results``. With ``--check`` it writes
nothing and ends with 1 where the file there is another.
"""

from __future__ import annotations

import argparse
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

from emollm.data.alter import CONDITIONS
from emollm.emotions import EXPRESSIONS
from emollm.errors import EmoLLMError
from emollm.eval.benchmarked import MODEL, Measured, read_results
from emollm.eval.limits import limits
from emollm.eval.measure import Score
from emollm.eval.pages.markup import shown, templates
from emollm.eval.provenance import CHECKOUT
from emollm.eval.record import Result
from emollm.eval.trained import Training, read_training
from emollm.facs import AU_CODES

FOLDER = Path(__file__).parents[1] / "checkpoints" / "tiny"
CARD, TRAINING = "README.md", "training.json"
RESULTS = CHECKOUT / "eval" / "results"
#: Benchmarks of the card, which says so where one was not run; what else was run follows.
BENCHMARKS = ("ferplus", "emodb", "renders", "grounding", "faithfulness", "contradiction", "refusal")
NOT_MEASURED = "not measured"


def model_card(training: Training, results: list[Result]) -> str:
    """The card as Markdown. Results that are older than the weights are left out, and named."""
    older = [result for result in results if datetime.fromisoformat(result.date) < training.trained]
    current = [result for result in results if result not in older]
    runs = {(result.benchmark, result.settings.get("think") is not False): result for result in current}
    names = dict.fromkeys([*BENCHMARKS, *(name for name, _ in runs)])
    benchmarks = {name: Measured(name, runs.get((name, True)), runs.get((name, False))) for name in names}
    page = templates().overlay(autoescape=False)
    page.filters |= {"measured": measured, "recipe": recipe_text, "percent": percent, "plain": plain, "count": count}
    text = page.get_template("model_card.md.jinja").render(
        model=MODEL,
        training=training,
        benchmarks=benchmarks.values(),
        current=current,
        older=older,
        weights=sorted({result.describe.get("checkpoint_sha256", "unknown")[:9] for result in current}),
        limits=limits(training, benchmarks),
        labels={"units": len(AU_CODES), "expressions": len(EXPRESSIONS)},
        units=AU_CODES,
        conditions=list(CONDITIONS),
    )
    return text.rstrip("\n") + "\n"


def measured(score: Score | None) -> str:
    """``83.1 (81.9–84.4)``, in per cent but for those that are no shares."""
    if score is None:
        return NOT_MEASURED
    return "nothing to count" if score.value is None else shown(score)


def percent(value: float | None) -> str:
    return NOT_MEASURED if value is None else f"{100 * value:.1f}"


def plain(value: float | None) -> str:
    return NOT_MEASURED if value is None else f"{value:.2f}"


def count(value: int | None) -> str:
    return NOT_MEASURED if value is None else f"{value:,}"


def recipe_text(recipe: dict[str, Any]) -> str:
    """YAML of a recipe without the keys that it leaves empty."""
    given = {key: value for key, value in recipe.items() if value is not None and value != [] and value != {}}
    return yaml.safe_dump(given, sort_keys=False, default_flow_style=None, width=110).rstrip("\n")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; end with 1 where the card differs")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="of training.json and the card")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the committed results")
    given = parser.parse_args(arguments)
    try:
        text = model_card(read_training(given.folder / TRAINING), read_results(given.results))
    except EmoLLMError as error:
        print(error, file=sys.stderr)
        return 2
    card = given.folder / CARD
    if not given.check:
        card.write_text(text, encoding="utf-8")
        print(f"Wrote {card}.")
        return 0
    if card.exists() and card.read_text(encoding="utf-8") == text:
        return 0
    print(f"{card} is not what its files give; write it again: python -m emollm.eval.model_card.", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
