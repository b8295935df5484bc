"""Faces with exact AU intensities: a recipe in, one parquet of pictures and labels out, or records of drawn clips.

What the labels mean is said in :mod:`emollm.data.expressions`, what a clip shows in :mod:`emollm.data.clips`.
"""

import os
import shutil
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from emollm.data.clip_set import make_clips
from emollm.data.expressions import choose_aus, express, show
from emollm.data.head import Array
from emollm.data.looks import Looks
from emollm.data.recipe import Recipe, draw_person, load_recipe
from emollm.data.render import Renderer, encode
from emollm.data.scene import Scene
from emollm.data.workers import Work, make_each, parts_folder
from emollm.errors import BadArgumentError
from emollm.facs import AU_CODES


def synthesize(recipe: Path | Recipe, out: Path, head: Path | None = None, workers: int | None = None) -> Path:
    """Draw the recipe's pictures into one parquet file, or its clips beside a file of records.

    The file appears only when it is whole. What is done is kept in a hidden folder beside it until then, so that the
    same call goes on after a break.

    Pictures: columns ``image`` (JPEG bytes, size x size RGB), ``au_AU1`` ... in the order of ``facs.AU_CODES`` (0-5),
    ``head``, ``identity``, ``split`` ("train"/"valid", by identity), ``seed`` (with the identity, it draws the picture
    again), ``yaw``, ``pitch``, ``roll`` (degrees), ``label_origin`` ("exact"). The recipe is kept in the metadata.

    Clips (a recipe with ``clips``): ``out`` holds training records (JSON lines), the folder ``NAME.clips`` beside it
    the mp4 files, and ``NAME.tracks.parquet`` the AUs and the head's pose for every frame.

    Args:
        recipe: the recipe or its path.
        out: the file to write.
        head: the head's file, instead of the recipe's.
        workers: processes; one per core unless given. The result does not depend on it.

    Raises:
        BadArgumentError: a recipe, head, sound or output path that cannot be used.
    """
    plan = recipe if isinstance(recipe, Recipe) else load_recipe(recipe)
    plan.head.load(head)  # fail here, in one sentence, rather than in every worker
    folder = parts_folder(out, plan.kept())
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if plan.clips:
            make_clips(plan, plan.clips, out, head, folder, workers)
        else:
            _make_pictures(plan, out, head, folder, workers)
    except OSError as error:
        raise BadArgumentError(f"cannot write {out}: {error.strerror}") from None
    with suppress(OSError):
        shutil.rmtree(folder)
    return out


def _make_pictures(recipe: Recipe, out: Path, head: Path | None, folder: Path, workers: int | None) -> None:
    files = [folder / f"{identity:06}.parquet" for identity in range(recipe.identities)]
    make_each(_drawing, (recipe, head), files, workers, "Rendering faces")
    part = folder / "whole"
    with pq.ParquetWriter(part, _schema(recipe)) as writer:
        for file in files:
            writer.write_table(pq.read_table(file))
    os.replace(part, out)


def _drawing(recipe: Recipe, head: Path | None) -> Work:
    return partial(_write_identity, recipe, Renderer(recipe.head.load(head)))


def _write_identity(recipe: Recipe, renderer: Renderer, identity: int, file: Path) -> None:
    schema = _schema(recipe)
    pq.write_table(pa.Table.from_pylist(draw_identity(recipe, identity, renderer), schema), file)


def draw_identity(recipe: Recipe, identity: int, renderer: Renderer) -> list[dict[str, Any]]:
    """All rows of one person."""
    person, looks = draw_person(recipe, identity, renderer.head)
    return [
        {
            "head": recipe.head.kind,
            "identity": identity,
            "split": recipe.split(identity),
            **draw_image(renderer, person, looks, recipe, [recipe.seed, identity, index]),
        }
        for index in range(recipe.images_per_identity)
    ]


def draw_image(renderer: Renderer, person: Array, looks: Looks, recipe: Recipe, seed: list[int]) -> dict[str, Any]:
    """One picture and what it shows."""
    rng = np.random.default_rng(seed)
    expression = express(renderer.head, choose_aus(rng, recipe.neutral_share, recipe.prototype_share), rng)
    vertices, aus, sides = show(renderer.head, person, expression.weights)
    scene = Scene.random(rng)
    image = renderer.draw(vertices, sides, looks, scene, recipe.size)
    pose = {"yaw": scene.pose.yaw, "pitch": scene.pose.pitch, "roll": scene.pose.roll}
    labels = {f"au_{code}": intensity for code, intensity in aus.items()}
    return {"image": encode(image, scene.quality), **labels, **pose, "seed": seed[-1], "label_origin": "exact"}


def _schema(recipe: Recipe) -> pa.Schema:
    columns = [("image", pa.binary())]
    columns += [(f"au_{code}", pa.float32()) for code in AU_CODES]
    columns += [("head", pa.string()), ("identity", pa.int32()), ("split", pa.string()), ("seed", pa.int32())]
    columns += [(name, pa.float32()) for name in ("yaw", "pitch", "roll")] + [("label_origin", pa.string())]
    return pa.schema(columns, metadata={"recipe": recipe.kept()})
