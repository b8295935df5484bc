"""Recipes of ``emollm data grow``, and the clips that they name."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from emollm.data.schema import MARKS, Record, mark_of, read_file
from emollm.errors import BadArgumentError
from emollm.media.clip import find_clips
from emollm.train.grow_filter import Demands


class GrowRecipe(BaseModel):
    """Keys of a recipe; ``train/tiny/grow.yaml`` explains each."""

    model_config = ConfigDict(extra="forbid")

    output: Path
    clips: Path
    join: Path | None = None
    model: Path | None = None
    engine: str = "auto"
    candidates: int = Field(4, ge=1)
    temperature: float = Field(0.8, gt=0)
    seed: int = Field(0, ge=0)
    batch_size: int = Field(8, ge=1)
    agreement: float = Field(Demands.agreement, gt=0, le=1)
    support_rate: float = Field(Demands.support_rate, ge=0, le=1)
    named_share: float = Field(Demands.named_share, ge=0, le=1)
    fit_rate: float = Field(Demands.fit_rate, ge=0, le=1)

    @property
    def demands(self) -> Demands:
        return Demands(self.agreement, self.support_rate, self.named_share, self.fit_rate)


def read_clips(clips: Path) -> tuple[list[Record], Path]:
    """One record for each clip to explain, and the folder that their paths are relative to.

    Args:
        clips: a file of records, of which other splits than ``train`` are left out, or a folder of clips.

    Raises:
        BadArgumentError: there are none.
    """
    if clips.is_dir():
        names = [clip.name for clip in find_clips(clips)]
        named = [{"id": name, "messages": [], MARKS[mark_of(Path(name))]: [name]} for name in names]
        return [Record.model_validate(one) for one in named], clips
    found: dict[tuple, Record] = {}
    for record in read_file(clips):
        if record.split in (None, "train") and record.media:
            found.setdefault((*record.media, record.start_s, record.end_s), record)
    if not found:
        raise BadArgumentError(f"{clips} holds no clip of the split train.")
    return list(found.values()), clips.parent
