"""The first half of ``emollm data grow``: the model writes candidates about every clip, a JSON line a clip.

Batches are fixed by the place of a clip in the list, and written at once. So a run that was killed writes the batch
that it broke in again, as it was, and ends with the lines of an unbroken one.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from pydantic import BaseModel

from emollm.ahead import ahead
from emollm.data.clip_states import ClipEncoder, ClipStates
from emollm.data.media_checks import OnProgress
from emollm.data.questions import question_for
from emollm.data.schema import Record
from emollm.errors import EmoLLMError
from emollm.model.processing_emollm import Placeholders
from emollm.reasoning.parse import parse_answer
from emollm.reasoning.prompts import clip_message
from emollm.serve.engine import EncodedClip, Engine, Request
from emollm.train.grow_recipe import GrowRecipe

AHEAD = 2  # batches that are perceived while one is answered


class Candidate(BaseModel):
    """One reply, tags included, and the model's probability of the label that it gives, 0 where it gives none."""

    text: str
    confidence: float = 0.0


class Written(BaseModel):
    """What the model wrote about one clip, or in one sentence why the clip cannot be read."""

    id: str
    question: str = ""
    candidates: list[Candidate] = []
    error: str | None = None


def write_candidates(
    recipe: GrowRecipe,
    records: Sequence[Record],
    folder: Path,
    engine: Engine,
    encoder: ClipEncoder,
    file: Path,
    on_progress: OnProgress | None = None,
) -> list[Written]:
    """Ask the model about each clip and write ``file``, going on behind the batches that are there.

    Args:
        folder: what the paths of the records are relative to.
        on_progress: called before the first batch and after each one, with the clips that are done and those in all.

    Raises:
        WeightsError, and what the engine raises: they hit every clip. One that cannot be read has a line of its own.
    """
    size = recipe.batch_size
    written = _finished(file, [records[start : start + size] for start in range(0, len(records), size)])
    report = on_progress or (lambda done, total: None)
    report(len(written), len(records))
    coming = ahead(records[len(written) :], lambda record: encoder.attempt(record, folder), AHEAD * size)
    with file.open("ab") as sink, closing(coming):
        while batch := [(record, ready.result()) for record, ready in islice(coming, size)]:
            done = _explain(recipe, engine, batch)
            sink.write("".join(f"{one.model_dump_json()}\n" for one in done).encode())
            sink.flush()
            os.fsync(sink.fileno())
            written += done
            report(len(written), len(records))
    return written


def _finished(file: Path, batches: Sequence[Sequence[Record]]) -> list[Written]:
    """The clips of whole batches that are in a file, which is cut behind them."""
    if not file.exists():
        return []
    lines = file.read_bytes().split(b"\n")[:-1]  # what follows the last line end is torn, or nothing
    found: list[Written] = []
    for batch in batches:
        try:
            ones = [Written.model_validate_json(text) for text in lines[len(found) : len(found) + len(batch)]]
        except ValueError:
            break
        if [one.id for one in ones] != [record.id for record in batch]:
            break
        found += ones
    with file.open("rb+") as opened:
        opened.truncate(sum(len(text) + 1 for text in lines[: len(found)]))
    return found


def _explain(
    recipe: GrowRecipe, engine: Engine, batch: Sequence[tuple[Record, ClipStates | EmoLLMError]]
) -> list[Written]:
    """What is asked and drawn about a clip depends on the seed and the clip's id, not on its batch."""
    written: list[Written] = []
    requests: list[Request] = []
    for record, states in batch:
        if isinstance(states, EmoLLMError):
            written.append(Written(id=record.id, error=str(states)))
            continue
        random = np.random.default_rng(_number(recipe.seed, record.id, "question"))
        written.append(Written(id=record.id, question=question_for("emotion", random, varied=True)))
        message, clip = clip_message(written[-1].question, states.said), encoded_clip(states)
        temperature = recipe.temperature if recipe.candidates > 1 else 0.0
        for number in range(recipe.candidates):
            seed = _number(recipe.seed, record.id, number)
            requests.append(Request([message], clip, temperature=temperature, seed=seed))
    replies = iter(engine.generate_batch(requests, think=True) if requests else [])
    for one in written:
        for reply in islice(replies, 0 if one.error else recipe.candidates):
            share = reply.distribution.get(parse_answer(reply.text).label or "", 0.0)
            one.candidates.append(Candidate(text=reply.text, confidence=round(share, 6)))
    return written


def _number(*decided_by: object) -> int:
    """A seed below 2**63."""
    digest = hashlib.sha256("/".join(map(str, decided_by)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def encoded_clip(states: ClipStates) -> EncodedClip:
    """A clip's kept states as engines take them."""
    shown = np.flatnonzero(~np.isnan(states.face).any(-1)).tolist()
    placeholders = Placeholders(shown, len(states.sound), states.window_s, states.duration_s > 0)
    tensors = {}
    if shown:
        tensors["face_states"] = torch.from_numpy(states.face)[None]
        tensors["face_window_s"] = torch.tensor([placeholders.face_window_s])
    if len(states.sound):
        tensors["audio_states"] = torch.from_numpy(states.sound)[None]
        tensors["audio_prosody"] = torch.from_numpy(states.prosody)[None]
    return EncodedClip(placeholders, tensors)
