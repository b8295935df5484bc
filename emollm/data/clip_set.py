"""The clips of a recipe: mp4 files, their training records, and a table of tracks."""

import os
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from emollm.data.clips import ClipRecipe, Drawn, draw_clip, plan_clip, read_tracks, tracks_json
from emollm.data.prepare import dialogue
from emollm.data.recipe import Recipe, draw_person
from emollm.data.render import Renderer
from emollm.data.schema import AuSpan, Labels, Record, media_path, write_file
from emollm.data.workers import Work, make_each
from emollm.facs import AU_CODES
from emollm.reasoning.spans import au_spans


def make_clips(
    recipe: Recipe, clips: ClipRecipe, out: Path, head: Path | None, folder: Path, workers: int | None
) -> None:
    """Write records to ``out`` and clips and tracks beside it; ``folder`` keeps what is done."""
    sounds = clips.sound_files()
    shown = out.with_name(f"{out.stem}.clips")
    shown.mkdir(parents=True, exist_ok=True)
    names = [f"{person:05}-{number:02}" for person in range(recipe.identities) for number in range(clips.per_identity)]
    files = [folder / f"{name}.json" for name in names]
    make_each(_filming, (recipe, clips, head, sounds, shown), files, workers, "Rendering clips")
    records, tracks = [], []
    for item, (name, file) in enumerate(zip(names, files)):
        drawn = read_tracks(file.read_text(encoding="utf-8"))
        person = item // clips.per_identity
        records.append(clip_record(recipe, name, person, drawn, media_path(shown / f"{name}.mp4", out)))
        tracks.append(track_table(name, drawn))
    part = folder / "whole"
    pq.write_table(pa.concat_tables(tracks), part)
    os.replace(part, out.with_name(f"{out.stem}.tracks.parquet"))
    write_file(out, records)


def clip_record(recipe: Recipe, name: str, person: int, drawn: Drawn, path: str) -> Record:
    """The training record of a drawn clip: strongest intensity of every AU, and the spans in which each is held."""
    step = float(drawn.times[1] - drawn.times[0])
    spans = au_spans(np.column_stack([drawn.times, drawn.times + step]), drawn.intensities)
    peaks = dict.fromkeys(AU_CODES, 0.0)
    for span in spans:
        peaks[span.code] = max(peaks[span.code], round(span.intensity, 2))
    held = [
        AuSpan(code=s.code, intensity=round(s.intensity, 2), start_s=round(s.start_s, 2), end_s=round(s.end_s, 2))
        for s in spans
    ]
    labels = Labels(aus=peaks, au_spans=held)
    return Record(
        id=name,
        messages=dialogue(labels, "<video>", ""),
        videos=[path],
        labels=labels,
        label_origin=dict.fromkeys(labels.given(), "exact"),
        split=recipe.split(person),
        speaker=f"{recipe.head.kind}-{person}",
        source=f"synthetic-{recipe.head.kind}",
        licence=recipe.head.licence,
    )


def track_table(name: str, drawn: Drawn) -> pa.Table:
    """One row a frame: clip, time in seconds, AU intensities 0-5, head pose in degrees."""
    columns = {"clip": [name] * len(drawn.times), "time_s": drawn.times}
    columns |= {f"au_{code}": drawn.intensities[:, index] for index, code in enumerate(AU_CODES)}
    columns |= {angle: drawn.poses[:, index] for index, angle in enumerate(("yaw", "pitch", "roll"))}
    return pa.table(columns)


def _filming(recipe: Recipe, clips: ClipRecipe, head: Path | None, sounds: list[Path], shown: Path) -> Work:
    return partial(_write_clip, recipe, clips, Renderer(recipe.head.load(head)), sounds, shown)


def _write_clip(
    recipe: Recipe, clips: ClipRecipe, renderer: Renderer, sounds: list[Path], shown: Path, item: int, file: Path
) -> None:
    identity, number = divmod(item, clips.per_identity)
    person, looks = draw_person(recipe, identity, renderer.head)
    rng = np.random.default_rng([recipe.seed, identity, number, 1])
    course = plan_clip(renderer.head, clips, (recipe.neutral_share, recipe.prototype_share), rng, sounds)
    clip = shown / f"{identity:05}-{number:02}.mp4"
    part = clip.with_suffix(".part")
    drawn = draw_clip(renderer, person, looks, course, recipe.size, part)
    os.replace(part, clip)
    file.write_text(tracks_json(drawn), encoding="utf-8")
