"""Splits for sets that have none of their own: whole people, drawn by a hash, so that every run draws the same."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from emollm.data.cards import DataCard, SplitBy
from emollm.data.readers import PEOPLE, Row


def speaker_of(row: Row) -> str | None:
    """Who is seen or heard in a row, where the set says so."""
    return next((row.fields[who] for who in sorted(PEOPLE) if who in row.fields), None)


def assign_splits(card: DataCard, rows: Sequence[Row]) -> dict[str, str]:
    """Row id -> split: the set's own; else by the card's ``split_by``; else by person, or by clip where none is known.

    The values of that field are put in the order of their hashes and dealt out by share, at least one to each split
    while there are enough. All rows of a value go together.
    """
    if card.splits:
        return {row.id: row.fields["split"] for row in rows}
    rule = card.split_by or SplitBy()
    groups = {row.id: (speaker_of(row) if rule.field == "speaker" else row.fields.get(rule.field)) for row in rows}
    named = {id: group or f"row {id}" for id, group in groups.items()}
    order = sorted(set(named.values()), key=lambda group: hashlib.sha256(f"{card.name}/{group}".encode()).digest())
    splits = _deal(len(order), rule.shares)
    of_group = dict(zip(order, splits, strict=True))
    return {id: of_group[group] for id, group in named.items()}


def _deal(count: int, shares: dict[str, float]) -> list[str]:
    """The split of each of ``count`` groups; the first named split takes what rounding leaves."""
    first, *others = shares
    least = 1 if count >= len(shares) else 0
    dealt = [split for split in others for _ in range(max(least, round(count * shares[split] / sum(shares.values()))))]
    dealt = dealt[: max(count - 1, 0)]
    return dealt + [first] * (count - len(dealt))
