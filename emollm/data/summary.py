"""What is in a file of training records, in numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from emollm.data.schema import Record


def labels_of(records: Sequence[Record]) -> Counter[str]:
    """Records per emotion."""
    return Counter(record.labels.emotion or "(no emotion)" for record in records)


def speakers(records: Sequence[Record]) -> str:
    """How many people, ``?`` where none is known."""
    known = {record.speaker for record in records} - {None}
    return str(len(known)) if known else "?"


def origins(records: Sequence[Record]) -> Counter[str]:
    """Labels by where they come from, such as ``emotion human``."""
    return Counter(f"{name} {origin}" for record in records for name, origin in record.label_origin.items())
