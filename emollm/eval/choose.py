"""From the name of a model to who answers."""

from __future__ import annotations

from pathlib import Path

from emollm.engines import is_url
from emollm.eval import baselines
from emollm.eval.cards import BenchmarkCard
from emollm.eval.predict import EmoLLMPredictor, Predictor


def load_predictor(
    model: str | None, card: BenchmarkCard, root: Path, *, engine: str = "auto", progress: bool = True
) -> Predictor:
    """The predictor of a name.

    Args:
        model: None for the default model, a folder, a hub id (it has a slash), or the name of a baseline; its name on
            the server if ``engine`` is a URL.
        root: data of baselines that are trained.

    Raises:
        BadArgumentError: no such baseline or engine. WeightsError: the model cannot be loaded. EngineError: what the
            engine needs is not there, or a server fails.
    """
    if model is not None and "/" not in model and not Path(model).is_dir() and not is_url(engine):
        baseline: Predictor = baselines.load(model, card, root)
        return baseline
    from emollm.api import EmoLLM

    return EmoLLMPredictor(EmoLLM.from_pretrained(model, engine=engine, progress=progress))
