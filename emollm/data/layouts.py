"""How data sets lie on disk: each layout of a data card is read into one list of plain rows.

Nothing is checked here but that the files a card names can be read; what is wrong with a row is found in
:mod:`emollm.data.readers`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from emollm.data.cards import DataCard, FolderLayout, FrameLayout, LineLayout, ParquetLayout, TableLayout
from emollm.data.tables import Raw, read_lines, read_table, text_of
from emollm.errors import BadArgumentError


@dataclass
class Found:
    """One row as it lies on disk, all of it text.

    Attributes:
        clip: path of the clip below the set's folder; of a picture inside a parquet file, its id.
        fields: named groups of the path, or the card's columns; ``file`` is the name of the annotation file.
        aus: AU code -> what the set says of it.
        votes: raters by label, in the order of the card's ``vote_labels``.
        picture: number of the row in its parquet file.
    """

    clip: str
    fields: Raw
    aus: Raw = field(default_factory=dict)
    votes: list[float] | None = None
    picture: int | None = None


class _Filled(str):
    """A value in a path template, where ``{name.stem}`` is the value without its ending."""

    @property
    def stem(self) -> str:
        return Path(self).stem


def find_rows(card: DataCard, folder: Path) -> list[Found]:
    """The rows of a set, in the order of its files.

    Raises:
        BadArgumentError: an annotation file is missing or unreadable, or lacks a column that the card names.
    """
    return list(_READERS[type(card.layout)](card.layout, folder))


def _folder(layout: FolderLayout, folder: Path) -> Iterator[Found]:
    for path, groups in _matching(layout.pattern, folder):
        yield Found(path, groups)


def _table(layout: TableLayout, folder: Path) -> Iterator[Found]:
    for name, file in layout.files.items():
        for raw in read_table(folder / file, layout.names, layout.encoding, layout.separator):
            raw = {"file": name, **raw}
            fields = {"file": name, **{key: _fill(column, raw, file) for key, column in layout.columns.items()}}
            aus = {code: _fill(column, raw, file) for code, column in layout.aus.items()}
            yield Found(_template(layout.clip, {**fields, **raw}, file), fields, aus)


def _parquet(layout: ParquetLayout, folder: Path) -> Iterator[Found]:
    parquet = _open_parquet(folder / layout.file)
    columns = [name for name in parquet.schema_arrow.names if name != layout.image]
    for name in filter(None, (layout.image, layout.votes)):
        if name not in parquet.schema_arrow.names:
            raise _no_column(name, layout.file)
    for number, row in enumerate(parquet.read(columns=columns).to_pylist()):
        raw = {key: text_of(value, ",") for key, value in row.items() if key != layout.votes}
        fields = {key: _fill(column, raw, layout.file) for key, column in layout.columns.items()}
        fields["id"] = _fill(layout.id, raw, layout.file)
        votes = None
        if layout.votes:
            votes = [float(count or 0) for count in row[layout.votes] or []]
        aus = {code: _fill(column, raw, layout.file) for code, column in layout.aus.items()}
        yield Found(fields["id"], fields, aus, votes, number)


def _frames(layout: FrameLayout, folder: Path) -> Iterator[Found]:
    """Rows of every ``every``-th frame; label files of one video that hold an AU each are put together."""
    found: dict[str, Found] = {}
    for path, groups in _matching(layout.labels, folder):
        number = groups.pop(layout.au_group, "") if layout.au_group else ""
        for index, raw in enumerate(read_table(folder / path, layout.names)):
            fields = {**groups, **{key: _fill(column, raw, path) for key, column in layout.columns.items()}}
            fields.setdefault("frame", str(layout.first + index))
            if not re.fullmatch(r"\d+(\.0*)?", fields["frame"]):
                raise BadArgumentError(f"{Path(path).name} numbers a frame '{fields['frame']}', which is no number.")
            frame = int(float(fields["frame"]))
            if (frame - layout.first) % layout.every:
                continue
            aus = {code: _fill(column, raw, path) for code, column in layout.aus.items()}
            if layout.au_group:
                aus[f"AU{int(re.sub(r'[^0-9]', '', number) or 0)}"] = fields.pop("intensity", "")
            image = _template(layout.image, {**fields, "frame": frame}, path)
            found.setdefault(image, Found(image, fields)).aus.update(aus)
    return iter(found.values())


def _lines(layout: LineLayout, folder: Path) -> Iterator[Found]:
    line = _compiled(layout.line)
    for path, groups in _matching(layout.files, folder):
        for text in read_lines(folder / path, layout.encoding):
            if match := line.search(text):
                fields = groups | _groups(match)
                yield Found(_template(layout.clip, fields, path), fields)


_READERS: dict[type, Callable[[Any, Path], Iterator[Found]]] = {
    FolderLayout: _folder,
    TableLayout: _table,
    ParquetLayout: _parquet,
    FrameLayout: _frames,
    LineLayout: _lines,
}


def _matching(pattern: str, folder: Path) -> Iterator[tuple[str, Raw]]:
    """Paths below a folder that a regular expression matches as a whole, sorted, and the groups that took part."""
    compiled = _compiled(pattern)
    for path in sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*")):
        if (match := compiled.fullmatch(path)) and (folder / path).is_file():
            yield path, _groups(match)


def _compiled(pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except re.error as error:
        raise BadArgumentError(f"The pattern '{pattern}' is no regular expression ({error}).") from error


def _groups(match: re.Match[str]) -> Raw:
    return {key: value.strip() for key, value in match.groupdict().items() if value is not None}


def _fill(column: str, raw: Raw, file: str) -> str:
    """The value of a column, or of several in a template such as ``{dialogue}-{utterance}``."""
    if "{" in column:
        return _template(column, raw, file)
    if column not in raw:
        raise _no_column(column, file)
    return raw[column]


def _template(template: str, values: dict[str, Any], file: str) -> str:
    filled = {key: _Filled(value) if isinstance(value, str) else value for key, value in values.items()}
    try:
        return template.format_map(filled)
    except KeyError as error:
        raise _no_column(str(error.args[0]), file) from error
    except (ValueError, AttributeError, IndexError) as error:
        raise BadArgumentError(f"The template '{template}' cannot be filled from {Path(file).name}.") from error


def _no_column(column: str, file: str) -> BadArgumentError:
    return BadArgumentError(f"The card names a column '{column}', which {Path(file).name} does not have.")


def _open_parquet(path: Path) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.ParquetFile(path)
    except FileNotFoundError as error:
        raise BadArgumentError(f"The file {path.name} is missing.") from error
    except (OSError, pa.ArrowException) as error:
        raise BadArgumentError(f"The file {path.name} is no readable parquet file.") from error


def unpack_pictures(layout: ParquetLayout, folder: Path, targets: dict[int, Path]) -> set[int]:
    """Write pictures of a parquet file as files, each once: row number -> where to.

    A file is there whole or not at all, whatever happens meanwhile. Returns the rows that hold no picture.
    """
    missing = {number: path for number, path in targets.items() if not path.is_file()}
    empty = set()
    if missing:
        for number, data in enumerate(_column(_open_parquet(folder / layout.file), layout.image)):
            path = missing.get(number)
            if path and data:
                path.parent.mkdir(parents=True, exist_ok=True)
                part = path.with_name(f"{path.name}.{os.getpid()}.part")
                part.write_bytes(data)
                part.replace(path)
            elif path:
                empty.add(number)
    return empty


def _column(parquet: Any, name: str) -> Iterable[bytes]:
    for batch in parquet.iter_batches(batch_size=256, columns=[name]):
        yield from batch.column(0).to_pylist()
