"""Evidence: the mouth of a smiling portrait is bent to where it is at rest. Is AU12 still claimed?

As a control the brows of the same portrait are moved by as much, which must leave the claim of AU12 alone.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

from emollm.data.readers import Row
from emollm.eval.probes import said
from emollm.eval.probes.clips import make_once, picture_of, save_picture
from emollm.eval.probes.material import Material, stem
from emollm.eval.probes.outcome import Figure, Run, Verdict
from emollm.eval.probes.warp import lifted, shift_px, to_rest, warp
from emollm.eval.schema import Sample, Truth
from emollm.face.detect import FaceLandmarker
from emollm.face.lend import lend_landmarker
from emollm.weights import fetch

EACH = 3  # questions a portrait
SMILE = "AU12"
AT_REST, CONTROL = "mouth at rest", "brows moved"


def build(material: Material, count: int) -> list[Sample]:
    samples = []
    with lend_landmarker(fetch("face_landmarker")) as landmarker:
        for smiling, neutral in material.portraits()[:count]:
            warped = _warped(smiling, neutral, landmarker, material.clips / "warped")
            if warped is None:
                material.problems.append(f"london {smiling.id}: not exactly one face was found, so it was not warped.")
                continue
            base = Sample(
                id=stem(smiling), clip=smiling.clip, truth=Truth(emotion="happiness"), groups={"smile": "yes"}
            )
            changes = zip((AT_REST, CONTROL), warped)
            samples += [base, *(_variant(base, name, clip) for name, clip in changes)]
    return samples


def _variant(base: Sample, name: str, clip: Path) -> Sample:
    changes = {"id": f"{base.id} ({name})", "clip": clip, "base": base.id, "variant": name, "truth": Truth()}
    return base.model_copy(update=changes)


def _warped(smiling: Row, neutral: Row, landmarker: FaceLandmarker, folder: Path) -> tuple[Path, Path] | None:
    """Pictures with the mouth at rest, and with the brows moved instead; None unless both portraits show one face."""
    paths = folder / f"{stem(smiling)}-mouth.png", folder / f"{stem(smiling)}-brows.png"
    if all(path.exists() for path in paths):
        return paths
    picture = picture_of(smiling.clip)
    found, rest = landmarker(picture), landmarker(picture_of(neutral.clip))
    if len(found) != 1 or len(rest) != 1:
        return None
    points = found[0].landmarks
    mouth = to_rest(points, rest[0].landmarks, "mouth")
    brows = lifted(points, "brows", shift_px(points, mouth, "mouth"))
    for path, targets in zip(paths, (mouth, brows)):
        make_once(path, partial(save_picture, picture=warp(picture, points, targets)))
    return paths


def score(run: Run) -> list[Figure]:
    """Over the portraits in whose own reply the smile is claimed."""
    gone, kept, measured = {}, {}, {}
    for base, changed in run.pairs(AT_REST):
        if _claimed(run, base):
            claimed = _claimed(run, changed)
            gone[changed.id] = _verdict(run, changed, not claimed, claimed, base.id)
            if (reading := run.line(changed.id).measured) is not None:
                fell = reading.aus.get(SMILE, 0.0) < 1.0
                measured[changed.id] = Verdict(
                    fell, f"{SMILE} is measured at {reading.aus.get(SMILE, 0.0):.1f}.", base.id
                )
    for base, changed in run.pairs(CONTROL):
        if _claimed(run, base):
            claimed = _claimed(run, changed)
            kept[changed.id] = _verdict(run, changed, claimed, claimed, base.id)
    return [
        run.share(
            "evidence: claim goes with the smile",
            f"smiling portraits with {SMILE} claimed whose reply no longer claims it once the mouth is bent to rest",
            gone,
        ),
        run.share(
            "evidence: claim stays in the control",
            "the same portraits with the brows moved by as much, whose reply still claims it",
            kept,
        ),
        _effect(run, gone, kept),
        run.share(
            "evidence: measurement goes with the smile",
            f"the same portraits with the mouth at rest in which the face tower measures {SMILE} below 1 (this checks "
            "the warp rather than the reply)",
            measured,
        ),
    ]


def _effect(run: Run, gone: dict[str, Verdict], kept: dict[str, Verdict]) -> Figure:
    """By portrait, so that its two warps stay together when portraits are drawn again."""
    lost = {verdict.base: not verdict.good for verdict in kept.values()}
    effect = {
        id: replace(verdict, value=float(verdict.good) - lost[verdict.base])
        for id, verdict in gone.items()
        if verdict.base in lost
    }
    about = "share of claims lost with the mouth at rest less the share lost in the control"
    return replace(run.mean("evidence: effect", about, effect), examples=[])


def _claimed(run: Run, sample: Sample) -> bool:
    return SMILE in said.units(run.replies[sample.id])


def _verdict(run: Run, changed: Sample, good: bool, claimed: bool, base: str) -> Verdict:
    error = run.replies[changed.id].error
    if error:
        return Verdict(False, f"No readable reply ({error}).", base)
    return Verdict(good, f"{SMILE} is {'still' if claimed else 'no longer'} claimed.", base)
