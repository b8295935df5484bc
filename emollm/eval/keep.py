"""The files of a run: which lines are done, with which settings they were made, and shards put together."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from emollm.errors import BadArgumentError
from emollm.eval.cards import BenchmarkCard
from emollm.eval.predict import Predictor
from emollm.eval.samples import shard as every
from emollm.eval.schema import Line, Sample


@dataclass(frozen=True)
class Shard:
    """Number ``number`` of ``count`` parts of a run, counted from 1."""

    number: int
    count: int

    @property
    def suffix(self) -> str:
        return f".{self.number}of{self.count}"


def sample_file(out: Path, shard: Shard | None = None) -> Path:
    return out / f"samples{shard.suffix if shard else ''}.jsonl"


def record_file(out: Path, shard: Shard | None = None) -> Path:
    return out / f"settings{shard.suffix if shard else ''}.json"


def shard_of(samples: Sequence[Sample], shard: Shard) -> list[Sample]:
    """The samples of one shard; one that goes on from a thought stays with the sample that thinks it."""
    first, following = phases_of(samples)
    own = every(first, shard.number, shard.count)
    ids = {sample.id for sample in own}
    return [*own, *(sample for sample in following if sample.thought_of in ids)]


def join(samples: Sequence[Sample], out: Path, count: int) -> list[Line] | None:
    """Put the shards in ``out`` together into ``samples.jsonl``; None while some are missing or unfinished.

    Args:
        samples: those of all shards.

    Raises:
        BadArgumentError: shards were run with different settings.
    """
    shards = [Shard(number, count) for number in range(1, count + 1)]
    found: dict[str, Line] = {}
    settings: dict[str, Any] | None = None
    for shard in shards:
        own = shard_of(samples, shard)
        singly = [[sample] for phase in phases_of(own) for sample in phase]
        lines = finished(sample_file(out, shard), singly, cut=False)
        if len(lines) < len(own) or not record_file(out, shard).exists():
            return None
        found |= {line.id: line for line in lines}
        theirs = _read_settings(record_file(out, shard)) | {"samples": _digest(samples)}
        if settings is not None and theirs != settings:
            raise BadArgumentError(f"The shards in {out} differ in their settings: {_differing(settings, theirs)}.")
        settings = theirs
    joined = [found[sample.id] for phase in phases_of(samples) for sample in phase]
    _replace(record_file(out, None), json.dumps(settings, indent=2))
    _replace(sample_file(out, None), "".join(f"{line.model_dump_json()}\n" for line in joined))
    return joined


def settings_of(
    samples: Sequence[Sample], predictor: Predictor, card: BenchmarkCard, think: bool, batch_size: int
) -> dict[str, Any]:
    """Everything that decides the lines of a run: it goes on only where all of this is the same."""
    return {
        "benchmark": card.model_dump(mode="json", exclude={"title", "metrics", "protocol", "published"}),
        "predictor": {"name": predictor.name, **predictor.describe()},
        "think": think,
        "batch_size": batch_size,
        "samples": _digest(samples),
    }


def phases_of(samples: Sequence[Sample]) -> tuple[list[Sample], list[Sample]]:
    """Samples that stand alone, and those that need a thought of one of these."""
    first = [sample for sample in samples if sample.thought_of is None]
    return first, [sample for sample in samples if sample.thought_of is not None]


def finished(file: Path, batches: Sequence[Sequence[Sample]], cut: bool = True) -> list[Line]:
    """Lines of the whole batches in a file; with ``cut`` it is cut there. A torn line ends what counts."""
    try:
        written = file.read_bytes().split(b"\n")[:-1]  # what follows the last line end is torn, or nothing
    except FileNotFoundError:
        return []
    lines: list[Line] = []
    for sample, text in zip((sample for batch in batches for sample in batch), written):
        try:
            line = Line.model_validate_json(text)
        except ValueError:
            break
        if line.id != sample.id:
            break
        lines.append(line)
    whole = 0
    for batch in batches:
        if whole + len(batch) > len(lines):
            break
        whole += len(batch)
    if cut:
        with file.open("rb+") as opened:
            opened.truncate(sum(len(text) + 1 for text in written[:whole]))
    return lines[:whole]


def check_settings(record: Path, file: Path, settings: dict[str, Any]) -> None:
    """Note the settings of a new run. Raises BadArgumentError where lines were made with others."""
    if record.exists() or file.exists():
        before = _read_settings(record)
        if before != settings:
            differing = _differing(before, settings)
            raise BadArgumentError(
                f"{record.parent} holds a run with other settings ({differing}); name another folder."
            )
    _replace(record, json.dumps(settings, indent=2))


def _read_settings(record: Path) -> dict[str, Any]:
    try:
        settings = json.loads(record.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return settings if isinstance(settings, dict) else {}


def _differing(before: dict[str, Any], now: dict[str, Any]) -> str:
    """Names of the settings that differ, those inside a group by their own names."""
    names = []
    for name in sorted({*before, *now}):
        old, new = before.get(name), now.get(name)
        if isinstance(old, dict) and isinstance(new, dict):
            names += [f"{name}.{key}" for key in sorted({*old, *new}) if old.get(key) != new.get(key)]
        elif old != new:
            names.append(name)
    return ", ".join(names)


def _digest(samples: Sequence[Sample]) -> str:
    """A clip counts by its name and size, so that a data set may be moved between two halves of a run."""
    digest = sha256()
    for sample in samples:
        size = sample.clip.stat().st_size if sample.clip.is_file() else None
        digest.update(f"{sample.model_dump_json(exclude={'clip'})} {sample.clip.name} {size}\n".encode())
    return digest.hexdigest()


def _replace(file: Path, text: str) -> None:
    part = file.with_name(f"{file.name}.part")
    part.write_text(text, encoding="utf-8")
    part.replace(file)


@contextmanager
def only_run(file: Path) -> Iterator[None]:
    """Keep other processes from writing the same lines. Raises BadArgumentError while one does."""
    lock = FileLock(file.with_name(f".{file.name}.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise BadArgumentError(f"Another run is writing into {file.parent}.") from None
    try:
        yield
    finally:
        lock.release()
