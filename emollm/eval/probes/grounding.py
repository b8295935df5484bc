"""Grounding: are the Action Units that an answer names there, and does it name those that are?

On real faces "there" is what the face tower measures, since nobody has coded them by hand: the figures say whether the
text follows the measurement, not whether the measurement is right. Rendered faces of people that were never trained on
have exact labels.
"""

from __future__ import annotations

import hashlib
import json
from operator import methodcaller
from pathlib import Path

import numpy as np

from emollm.data.cards import find_card
from emollm.data.head import load_head
from emollm.data.render import Renderer
from emollm.data.synthesize import draw_identity, load_recipe
from emollm.eval.cards import BenchmarkCard
from emollm.eval.probes import said
from emollm.eval.probes.clips import make_once
from emollm.eval.probes.material import Material, draw, round_robin, stem
from emollm.eval.probes.outcome import Figure, Run, Verdict
from emollm.eval.schema import Sample, Truth
from emollm.facs import AU_CODES, BLINK
from emollm.reasoning.parse import Claim
from emollm.reasoning.verify import NOTEWORTHY, PRESENT, TOLERANCE, verify

COUNT = 120  # pictures, unless the card says otherwise
RENDER_SEED = 20_000  # of no training recipe, so that every identity is new


def build(card: BenchmarkCard, material: Material) -> list[Sample]:
    """A third each: FER+ faces of all expressions, London portraits, renders."""
    each = (card.samples or COUNT) // 3
    faces = material.faces()
    samples = [
        Sample(id=stem(row), clip=row.clip, face_crop=True, groups={"source": "ferplus"})
        for row in draw(faces, round_robin(sorted(faces), each), np.random.default_rng(0))
    ]
    portraits = [row for pair in material.portraits() for row in pair][:each]
    samples += [Sample(id=f"london-{stem(row)}", clip=row.clip, groups={"source": "london"}) for row in portraits]
    samples += _renders(material, each)
    return samples


def _renders(material: Material, count: int) -> list[Sample]:
    """One picture each of ``count`` people; the intensities drawn are kept beside the pictures."""
    recipe = load_recipe(find_card("train", "tiny/renders"))
    recipe = recipe.model_copy(update={"seed": RENDER_SEED, "images_per_identity": 1})
    digest = hashlib.sha256(recipe.model_dump_json().encode()).hexdigest()[:8]  # pictures by another recipe stay apart
    pictures = material.clips / f"renders-{digest}"
    head = material.head()

    def draw_all(table: Path) -> None:
        renderer = Renderer(load_head(head, recipe.head.parts, recipe.head.gains))
        drawn = {}
        for identity in range(count):
            (row,) = draw_identity(recipe, identity, renderer)
            make_once(pictures / f"{identity:03}.jpg", methodcaller("write_bytes", row["image"]))
            drawn[f"{identity:03}"] = {code: round(float(row[f"au_{code}"]), 3) for code in AU_CODES}
        table.write_text(json.dumps(drawn))

    table = make_once(pictures / f"{count}.json", draw_all)
    return [
        Sample(
            id=f"render-{name}",
            clip=pictures / f"{name}.jpg",
            truth=Truth(aus=aus),
            groups={"source": "renders", "label_origin": "exact"},
        )
        for name, aus in json.loads(table.read_text()).items()
    ]


def score(run: Run) -> list[Figure]:
    figures = []
    sources = (("ferplus", "FER+ faces"), ("london", "London portraits"), ("renders", "renders"))
    for source, title in sources:
        ids = [sample.id for sample in _from(run, source)]
        borne_out = {id: _borne_out(run, id) for id in ids}
        noticed = {id: _noticed(run, id) for id in ids}
        figures += [
            run.ratio(
                f"support precision: {title}",
                f"of the Action Units named, those that the measurement bears out (at {PRESENT:g} or more, and within "
                f"{TOLERANCE:g} of the intensity named)",
                {id: counts for id, counts in borne_out.items() if counts is not None},
            ),
            run.ratio(
                f"support recall: {title}",
                f"of the Action Units measured at {NOTEWORTHY:g} or more, blinks apart, those that are named",
                {id: counts for id, counts in noticed.items() if counts is not None},
            ),
        ]
    return figures + _exact(run)


def _from(run: Run, source: str) -> list[Sample]:
    return [sample for sample in run.samples.values() if sample.groups["source"] == source]


def _exact(run: Run) -> list[Figure]:
    counts, judged = {}, {}
    for sample in _from(run, "renders"):
        there = {code for code, value in (sample.truth.aus or {}).items() if value >= PRESENT}
        named = said.units(run.replies[sample.id])
        counts[sample.id] = (len(there & named), len(named), len(there))
        judged[sample.id] = Verdict(there == named, f"Drawn: {_listed(there)}; named: {_listed(named)}.")
    return [
        run.ratio(
            "renders: F1",
            f"F1 of the Action Units named on rendered faces; exact labels: those drawn at {PRESENT:g} or more",
            {id: (2 * right, named + true) for id, (right, named, true) in counts.items()},
        ),
        run.ratio(
            "renders: precision", "of those named, the share drawn", {i: (c[0], c[1]) for i, c in counts.items()}
        ),
        run.ratio("renders: recall", "of those drawn, the share named", {i: (c[0], c[2]) for i, c in counts.items()}),
        run.share("renders: exactly right", "rendered faces whose named Action Units are those drawn", judged),
    ]


def _borne_out(run: Run, id: str) -> tuple[float, float] | None:
    """Claims that hold, and claims; None where nothing was measured."""
    measured = run.line(id).measured
    if measured is None or not measured.aus:
        return None
    peaks = np.array([[measured.aus.get(code, np.nan) for code in AU_CODES]])
    claims = [Claim(claim.code, claim.intensity) for claim in said.claims(run.replies[id])]
    verdict, _ = verify(claims, np.zeros((1, 2)), peaks)  # a still picture is one window
    return len(verdict.supported), len(verdict.claimed)


def _noticed(run: Run, id: str) -> tuple[float, float] | None:
    measured = run.line(id).measured
    if measured is None or not measured.aus:
        return None
    there = {code for code, value in measured.aus.items() if value >= NOTEWORTHY and code != BLINK}
    return len(there & said.units(run.replies[id])), len(there)


def _listed(codes: set[str]) -> str:
    return ", ".join(sorted(codes, key=lambda code: int(code[2:]))) or "none"
