"""Data cards: one YAML file a data set says where to get it, on which terms, how it lies on disk, what labels mean.

A set that fits one of the layouts below needs a card and no code. Cards are found by bare name or by path.
"""

from __future__ import annotations

import sysconfig
from pathlib import Path
from typing import Annotated, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from emollm.errors import BadArgumentError

Origin = Literal["human", "exact", "pseudo"]
Card = TypeVar("Card", bound=BaseModel)


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid")


class FolderLayout(_Part):
    """Clips whose path says everything: ``pattern`` is a regular expression over the path below the set's folder.

    Its named groups are the row's fields; ``emotion`` (raw label) and ``id`` (default: the path) have a meaning here,
    any other may be used by splits, folds and groups. Files that do not match are not part of the set.
    """

    kind: Literal["folder"]
    pattern: str


class TableLayout(_Part):
    """A file of rows (CSV, TSV, Excel or JSON lines, by its ending) with the path of each clip.

    Attributes:
        files: annotation files below the set's folder; the name of each becomes the row's field ``file``.
        clip: path template below the set's folder, ``{column}`` filled from the row, such as ``clips/{id}.mp4``.
        columns: field -> column: ``id``, ``emotion``, ``emotions`` (several, split at ``separator``), ``valence``,
            ``arousal``, ``sentiment``, ``text`` (reference explanation), ``transcript``, ``start_s``, ``end_s``, ...
        aus: AU code -> column with its intensity or occurrence.
        names: column names of a file without a header line.
    """

    kind: Literal["table"]
    files: dict[str, str]
    clip: str
    columns: dict[str, str] = Field(default_factory=dict)
    aus: dict[str, str] = Field(default_factory=dict)
    separator: str = ","
    names: list[str] | None = None
    encoding: str = "utf-8"


class ParquetLayout(_Part):
    """Pictures inside a parquet file.

    Attributes:
        votes: column of counts, in the order of ``vote_labels``.
        aus: AU code -> column with its intensity.
    """

    kind: Literal["parquet"]
    file: str
    image: str
    id: str
    columns: dict[str, str] = Field(default_factory=dict)
    votes: str | None = None
    vote_labels: list[str] = Field(default_factory=list)
    aus: dict[str, str] = Field(default_factory=dict)


class FrameLayout(_Part):
    """Videos labelled frame by frame, with the frames as pictures.

    Attributes:
        labels: regular expression over the paths of label files below the set's folder, named groups as fields.
        image: path template of one frame's picture; ``{frame}`` is its number, e.g. ``{subject}/{frame:05d}.jpg``.
        columns: as in :class:`TableLayout`, of a label file with a header. Without a header ``names`` gives them.
        first: number of the first frame, where a label file has no column for it (field ``frame``).
        aus: AU code -> column.
        au_group: the named group that holds an AU number, where each AU has a file of its own (DISFA).
        every: take every n-th frame.
    """

    kind: Literal["frames"]
    labels: str
    image: str
    columns: dict[str, str] = Field(default_factory=dict)
    names: list[str] | None = None
    first: int = 1
    aus: dict[str, str] = Field(default_factory=dict)
    au_group: str | None = None
    every: int = 1


class LineLayout(_Part):
    """Text files of labels in a form of their own, one row a line (IEMOCAP, RAF-DB, RAF-AU, BAH).

    Attributes:
        files: regular expression over the paths of label files below the set's folder, named groups as fields.
        line: regular expression that finds the row in a line, named groups as fields, with the names that
            ``columns`` of :class:`TableLayout` has. Lines without a match are no rows.
        clip: path template below the set's folder, ``{field}`` filled from the row.
        separator: what stands between several values of ``emotions`` or ``aus`` (AU numbers that are present, as in
            ``1+4+L10``, where L and R say the side; all others are absent).
    """

    kind: Literal["lines"]
    files: str
    line: str
    clip: str
    separator: str = ","
    encoding: str = "utf-8"


class SplitBy(_Part):
    """How to split a set that comes without splits: values of ``field`` (``id``: single rows) dealt out by share."""

    field: str = "speaker"
    shares: dict[str, Annotated[float, Field(gt=0)]] = Field(
        default_factory=lambda: {"train": 0.8, "valid": 0.1, "test": 0.1}, min_length=1
    )


Layout = Annotated[FolderLayout | TableLayout | ParquetLayout | FrameLayout | LineLayout, Field(discriminator="kind")]


class DataCard(_Part):
    """One data set.

    Attributes:
        folder: name of its folder below ``--root``.
        labels: raw label -> label of the set in plain English (``W: anger``). Rows with other labels are reported
            by name; labels mapped to null are left out without a word (FER+'s ``unknown``).
        label_origin: who says so: people, the way of making, or another model.
        splits: name -> field -> accepted values, e.g. ``test: {speaker: ["15", "16"]}``. A row belongs to the first
            split that accepts it.
        split_by: how ``emollm data prepare`` splits a set without ``splits``; by person where none is given.
        folds: field that numbers the folds, or whose values are the folds (``speaker``).
        groups: field -> what it says of a person; used in opt-in subgroup reports only.
        au_present: smallest AU value that counts as present.
        ranges: ``valence`` or ``arousal`` -> lowest and highest raw value, where that is not [-1, 1]; samples hold
            them mapped to [-1, 1].
        face_crop: its pictures are cut-out faces.
    """

    name: str
    title: str
    paper: str
    get: str
    licence: str
    terms: str
    modalities: list[Literal["face", "voice", "text"]]
    folder: str
    layout: Layout
    labels: dict[str, str | None] = Field(default_factory=dict)
    label_origin: Origin = "human"
    splits: dict[str, dict[str, list[str]]] = Field(default_factory=dict)
    split_by: SplitBy | None = None
    folds: str | None = None
    groups: dict[str, str] = Field(default_factory=dict)
    au_present: float = 1.0
    ranges: dict[str, tuple[float, float]] = Field(default_factory=dict)
    face_crop: bool = False
    notes: list[str] = Field(default_factory=list)


def find_card(room: str, name: str | Path) -> Path:
    """The YAML file of a card or recipe: a path, or a name in the folder ``room`` (``data``, ``eval``, ``train``).

    Raises:
        BadArgumentError: there is none; names those that exist.
    """
    path = Path(name)
    if path.suffix in (".yaml", ".yml"):
        if path.is_file():
            return path
        raise BadArgumentError(f"There is no file {name}.")
    found = card_folder(room) / f"{name}.yaml"
    if found.is_file():
        return found
    thing = "recipe" if room == "train" else "card"
    raise BadArgumentError(f"There is no {thing} '{name}'; there are {', '.join(card_names(room)) or 'none'}.")


def card_folder(room: str) -> Path:
    """Where the cards of a room lie: beside the package in a checkout, under ``share/emollm`` when installed."""
    beside = Path(__file__).parents[2] / room
    return beside if any(beside.glob("**/*.yaml")) else Path(sysconfig.get_path("data")) / "share" / "emollm" / room


def card_names(room: str) -> list[str]:
    folder = card_folder(room)
    depth = "*/*.yaml" if room == "train" else "*.yaml"  # recipes lie in tiny/ and large/
    return sorted(path.relative_to(folder).with_suffix("").as_posix() for path in folder.glob(depth))


def load_data_card(name: str | Path) -> DataCard:
    """Read a data card. Raises BadArgumentError in one sentence where it does not fit."""
    return load_card(DataCard, find_card("data", name))


def load_card(kind: type[Card], path: Path) -> Card:
    """Read a YAML card of one kind."""
    try:
        return kind.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (yaml.YAMLError, ValidationError, UnicodeDecodeError) as error:
        reason = "it is no readable YAML"
        if isinstance(error, ValidationError):
            first = error.errors()[0]
            reason = f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}"
        raise BadArgumentError(f"The card {path.name} cannot be used: {reason}.") from error
