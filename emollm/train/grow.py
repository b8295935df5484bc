"""``emollm data grow``: a trained model explains clips, and what holds against the measurement is kept to train on.

The third stage of Facial-R1 (https://arxiv.org/abs/2511.10254v1), with a filter that also holds every claim against
what is measured. The model writes candidates (slow, goes on where it was broken off), then they are judged (quick,
done anew each time: other demands need no other candidates).
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from emollm import __version__
from emollm.batch import check_writable
from emollm.data.clip_states import ClipEncoder, ClipStates
from emollm.data.media_checks import OnProgress
from emollm.data.readers import Problem
from emollm.data.schema import MARKS, Record, Turn, first_turn, media_path, read_file, write_file
from emollm.engines import check_engine, is_url
from emollm.errors import BadArgumentError, EmoLLMError
from emollm.eval.keep import check_settings, only_run
from emollm.eval.provenance import commit_tag
from emollm.serve.engine import Engine
from emollm.train.grow_filter import Verdict, best_of, judge_all, weak_labels
from emollm.train.grow_recipe import GrowRecipe, read_clips
from emollm.train.grow_write import Written, write_candidates

DRAWN_BY = ("candidates", "temperature", "seed")  # keys of a recipe that decide the candidates


@dataclass
class Grown:
    """What came of a run.

    Attributes:
        records: those that passed, in the order of the clips.
        joined: those of the recipe's ``join``, which stand before them in the file.
        problems: clips that cannot be read.
        clips, candidates: how many there were.
        rejected: reason -> how many candidates were rejected for it.
    """

    records: list[Record] = field(default_factory=list)
    joined: list[Record] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    clips: int = 0
    candidates: int = 0
    rejected: Counter[str] = field(default_factory=Counter)


def grow(recipe: GrowRecipe, *, engine: Engine | None = None, on_progress: OnProgress | None = None) -> Grown:
    """Let the model explain the clips of a recipe, and keep what passes :mod:`emollm.train.grow_filter`.

    Of several candidates that pass, the one with the highest score is kept, the first of equals. The score is the mean
    of: its agreement (the share of the clip's candidates that name its label), the model's confidence in the label,
    and, where there is anything to name, its support rate, the share of the clear AUs that it names, and the share of
    the AUs given for an emotion that fit it.

    Writes into the recipe's output folder: ``records.jsonl``, for ``emollm train sft``, whole or not at all;
    ``candidates.jsonl`` and ``settings.json``, from which a run goes on; ``rejected.jsonl``, each with its reason; and
    ``report.json``, the counts.

    Args:
        engine: runs the model; None loads the recipe's.
        on_progress: called with the clips that are done and those in all.

    Raises:
        BadArgumentError: there is no clip; unlabelled clips get one candidate, which nothing can agree with; the
            engine is a server; the folder cannot be written, is in use, or holds a run with other settings.
        WeightsError: the model cannot be loaded.
    """
    records, folder = read_clips(recipe.clips)
    unlabelled = sum(not weak_labels(record.labels) for record in records)
    if recipe.candidates == 1 and unlabelled:
        raise BadArgumentError(
            f"{unlabelled} clips have no label, and one candidate has nothing to agree with; ask for several."
        )
    out = recipe.output / "records.jsonl"
    joined = [_moved(record, recipe.join.parent, out) for record in read_file(recipe.join)] if recipe.join else []
    check_writable(recipe.output)
    encoder = ClipEncoder(recipe.model)
    engine = engine or _load(recipe.engine, encoder.folder)
    described = engine.describe()
    file = recipe.output / "candidates.jsonl"
    with only_run(file):
        check_settings(recipe.output / "settings.json", file, _settings(recipe, records, folder, described))
        written = write_candidates(recipe, records, folder, engine, encoder, file, on_progress)
        by = _written_by(recipe, described)
        grown = _sift(recipe, records, folder, encoder, written, by)
        grown.joined = joined
        out.unlink(missing_ok=True)
        if joined or grown.records:
            write_file(out, [*joined, *grown.records])
        _report(grown, recipe, by)
    return grown


def _load(name: str, folder: Path) -> Engine:
    check_engine(name)
    if is_url(name):
        raise BadArgumentError("The model has to run here to grow data; a server cannot do it.")
    from emollm.serve.load import load_engine

    return load_engine(name, folder)


def _settings(
    recipe: GrowRecipe, records: Sequence[Record], folder: Path, described: dict[str, str]
) -> dict[str, Any]:
    """Everything that decides the candidates. A clip counts by its name and size, so that a set may be moved."""
    digest = hashlib.sha256()
    for record in records:
        path = folder / record.media[0]
        about = [record.id, path.name, path.stat().st_size if path.is_file() else None, record.transcript]
        digest.update(json.dumps([*about, record.start_s, record.end_s, record.face_crop]).encode())
    drawn_by = recipe.model_dump(include={*DRAWN_BY, "batch_size"})
    return {"recipe": drawn_by, "model": described, "clips": digest.hexdigest()}


def _written_by(recipe: GrowRecipe, described: dict[str, str]) -> dict[str, str]:
    return {
        "model": str(recipe.model or "emollm-tiny"),
        **{name: described[name] for name in ("checkpoint_sha256", "engine", "dtype") if name in described},
        "emollm": __version__,
        "commit": commit_tag() or "none",
        **{name: str(getattr(recipe, name)) for name in DRAWN_BY},
    }


def _sift(
    recipe: GrowRecipe,
    records: Sequence[Record],
    folder: Path,
    encoder: ClipEncoder,
    written: Sequence[Written],
    by: dict[str, str],
) -> Grown:
    """Judge all candidates; the rejected go into ``rejected.jsonl``."""
    grown, rejected = Grown(clips=len(records)), []
    for (record, states), one in zip(encoder.all(records, folder), written, strict=True):
        if one.error is not None or isinstance(states, EmoLLMError):
            grown.problems.append(Problem(record.id, one.error or str(states)))
            continue
        texts = [candidate.text for candidate in one.candidates]
        sure = [candidate.confidence for candidate in one.candidates]
        verdicts = judge_all(texts, sure, record, states, recipe.demands)
        grown.candidates += len(verdicts)
        for number, verdict in enumerate(verdicts):
            if verdict.reason is not None:
                grown.rejected[verdict.reason] += 1
                about = {"id": record.id, "candidate": number, "reason": verdict.reason, "detail": verdict.detail}
                rejected.append(json.dumps({**about, "text": texts[number]}, ensure_ascii=False))
        if best := best_of(verdicts):
            moved = _moved(record, folder, recipe.output / "records.jsonl")
            grown.records.append(_record(moved, states, one.question, best, by))
    (recipe.output / "rejected.jsonl").write_text("".join(f"{line}\n" for line in rejected), encoding="utf-8")
    return grown


def _moved(record: Record, folder: Path, out: Path) -> Record:
    """A record of a file in ``folder`` as it stands in the file ``out``."""
    kind = next(name for name in MARKS.values() if getattr(record, name))
    return record.model_copy(update={kind: [media_path(folder / record.media[0], out)]})


def _record(record: Record, states: ClipStates, question: str, best: Verdict, by: dict[str, str]) -> Record:
    """A dialogue about the clip of ``record``. Its words are ``pseudo``, and so is its emotion where none was
    labelled."""
    mark = next(mark for mark, name in MARKS.items() if getattr(record, name))
    reply = f"<think>\n{best.parsed.thought}\n</think>\n<answer>{best.parsed.answer}</answer>"
    return record.model_copy(
        update={
            "id": f"{record.id}#grown",
            "messages": [first_turn(mark, question, states.said), Turn(role="assistant", content=reply)],
            "think": True,
            "labels": record.labels.model_copy(update={"emotion": best.parsed.label}),
            "label_origin": {"emotion": "pseudo", **record.label_origin, "messages": "pseudo"},
            "without": None,
            "facts": None,
            "scores": best.scores,
            "written_by": by,
        }
    )


def _report(grown: Grown, recipe: GrowRecipe, by: dict[str, str]) -> None:
    counts = {
        "clips": grown.clips,
        "kept": len(grown.records),
        "unreadable": {problem.id: problem.text for problem in grown.problems},
        "candidates": grown.candidates,
        "rejected": dict(grown.rejected.most_common()),
        "demands": asdict(recipe.demands),
        "written_by": by,
    }
    (recipe.output / "report.json").write_text(json.dumps(counts, indent=2), encoding="utf-8")
