"""What a face tower scores on held-out faces, one prepared source after the other, with 95 % bootstrap intervals.

``python -m emollm.train.face_scores TOWER CACHE.npz ... [--json]``: the rows of each file that its validation split
holds. For AUs that were trained on one kind of head, give the file of another kind.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from sklearn.metrics import accuracy_score, f1_score, recall_score

from emollm.data.faces import Faces
from emollm.emotions import EXPRESSIONS
from emollm.eval.metrics.intervals import Metric, bootstrap
from emollm.facs import AU_CODES, PRESENT
from emollm.model.face_encoder import FaceEncoder
from emollm.train.face import predict_faces


def face_scores(tower: FaceEncoder, faces: Faces, seed: int = 0) -> dict[str, Any]:
    """Scores of all of ``faces``; pseudo-labels score nothing.

    Where there are votes: WAR, UAR and recall per expression of those that there are, by the majority vote. Where
    there are exact AUs: macro F1 at intensity >= 1, mean absolute error, F1 and Pearson r per AU.
    """
    logits, units = predict_faces(tower, faces)
    voted, coded = ~np.isnan(faces.expression).any(-1), faces.origin == "exact"
    scores: dict[str, Any] = {"faces": len(faces)}
    if voted.any():
        truth, guess = faces.expression[voted].argmax(-1), logits[voted].argmax(-1)
        scores["war"] = _interval(lambda rows: float(accuracy_score(truth[rows], guess[rows])), len(truth), seed)
        scores["uar"] = _interval(
            lambda rows: float(
                recall_score(truth[rows], guess[rows], labels=np.unique(truth[rows]), average="macro", zero_division=0)
            ),
            len(truth),
            seed,
        )
        scores["per_class"] = {
            EXPRESSIONS[label]: {
                "recall": round(float((guess[truth == label] == label).mean()), 4),
                "count": int((truth == label).sum()),
            }
            for label in np.unique(truth)
        }
    if coded.any():
        exact, measured = faces.aus[coded], units[coded]
        present, claimed = exact >= PRESENT, measured >= PRESENT
        there = present.any(0)

        def macro(rows: np.ndarray) -> float:
            kept = there & present[rows].any(0)
            return float(f1_score(present[rows][:, kept], claimed[rows][:, kept], average="macro", zero_division=0))

        scores["au_f1"] = _interval(macro, len(exact), seed)
        scores["au_mae"] = float(np.abs(exact - measured).mean())
        each = f1_score(present, claimed, average=None, zero_division=0)
        scores["per_au"] = {
            code: {
                "f1": round(float(each[i]), 3),
                "r": round(float(np.corrcoef(exact[:, i], measured[:, i])[0, 1]), 3),
            }
            for i, code in enumerate(AU_CODES)
            if there[i]
        }
    return scores


def _interval(metric: Metric, samples: int, seed: int) -> list[float]:
    found = bootstrap(metric, samples, seed)
    return [round(value, 4) for value in (found.value, found.low, found.high)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tower", type=Path)
    parser.add_argument("caches", type=Path, nargs="+")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    tower = FaceEncoder.from_pretrained(arguments.tower, dtype=torch.float32)
    found = {}
    for cache in arguments.caches:
        faces = Faces.load(cache)
        found[cache.stem] = face_scores(tower, faces.subset(faces.valid))
    if arguments.json:
        print(json.dumps(found))
        return
    table = Table("source", "faces", "WAR", "UAR", "AU F1", "AU error")
    for name, scores in found.items():
        cells = [_cell(scores.get(key)) for key in ("war", "uar", "au_f1")]
        table.add_row(name, str(scores["faces"]), *cells, f"{scores['au_mae']:.2f}" if "au_mae" in scores else "")
    console = Console()
    console.print(table)
    for name, scores in found.items():
        if "per_au" in scores:
            each = (f"{code} F1 {one['f1']:.2f} r {one['r']:.2f}" for code, one in scores["per_au"].items())
            console.print(f"{name}: {', '.join(each)}")


def _cell(interval: list[float] | None) -> str:
    return "" if interval is None else "{:.1%} ({:.1%}-{:.1%})".format(*interval)


if __name__ == "__main__":
    main()
