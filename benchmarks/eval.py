"""Samples a second of a whole evaluation run against the engine's own bound, measured in the same run.

    python benchmarks/eval.py [--samples 64] [--batch-size 16] [--model FOLDER] [--repeats 3] [--no-think] [--json]

The bound is ``generate_batch`` alone, on the same batches, prepared and encoded beforehand. What a run adds is
reading, face finding, voice, the towers (all in the background), parsing, verification and writing. The samples are
pieces of two seconds of the example clip, made for the occasion.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

from common import Figure, show

from emollm import EmoLLM
from emollm.eval.cards import BenchmarkCard
from emollm.eval.predict import EmoLLMPredictor, cut
from emollm.eval.probes.clips import mux
from emollm.eval.run import run
from emollm.eval.schema import Sample
from emollm.media.clip import read_clip
from emollm.model.checkpoint import default_model
from emollm.reasoning.prompts import DEFAULT_QUESTION
from emollm.weights import fetch

SECONDS = 2.0
CARD = BenchmarkCard(name="pieces", title="Pieces of a clip", task="emotion", data=[], metrics=[])


def make_samples(count: int, folder: Path) -> list[Sample]:
    """Pieces of the example clip that begin at even distances."""
    clip = read_clip(fetch("example_clip"))
    step = (clip.duration_s - SECONDS) / max(count - 1, 1)
    samples = []
    for number in range(count):
        part = cut(clip, number * step, number * step + SECONDS)
        path = folder / f"{number}.mp4"
        mux(path, [frame.image for frame in part.frames()], part.waveform)
        samples.append(Sample(id=path.stem, clip=path))
    return samples


def timed(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=64)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--model", type=Path, help="folder of a merged checkpoint; default: the embedded model")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--no-think", action="store_true")
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line")
    arguments = parser.parse_args()

    think, size = not arguments.no_think, arguments.batch_size
    predictor = EmoLLMPredictor(EmoLLM.from_pretrained(arguments.model or default_model()))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        samples = make_samples(arguments.samples, folder)
        requests = [predictor.prepare(sample, DEFAULT_QUESTION).request for sample in samples]
        engine = predictor.model.engine
        engine.generate_batch(requests[:size], think)  # warm up

        def bound() -> None:
            for start in range(0, len(requests), size):
                engine.generate_batch(requests[start : start + size], think)

        turns = []
        for number in range(arguments.repeats):  # the contenders take turns in going first
            out = folder / f"run-{number}"

            def whole(out: Path = out) -> None:
                run(samples, predictor, CARD, out, think=think, batch_size=size)

            if number % 2:
                alone_s = timed(bound)
                run_s = timed(whole)
            else:
                run_s = timed(whole)
                alone_s = timed(bound)
            turns.append((run_s, alone_s))

        prepare_s = timed(lambda: [predictor.prepare(sample, DEFAULT_QUESTION) for sample in samples])

    show(
        "eval",
        [
            Figure("samples", len(samples)),
            Figure("batch_size", size),
            Figure("run_per_s", len(samples) / median(run_s for run_s, _ in turns), "1/s"),
            Figure("bound_per_s", len(samples) / median(alone_s for _, alone_s in turns), "1/s"),
            Figure("prepare_alone_per_s", len(samples) / prepare_s, "1/s"),
            Figure("ratio_to_bound", median(alone_s / run_s for run_s, alone_s in turns), goal=0.85),
        ],
        arguments.json,
    )


if __name__ == "__main__":
    main()
