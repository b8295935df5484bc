"""Rendered still faces with exact AU intensities: a recipe in, one parquet of pictures and labels out.

An AU at intensity 5 is its ARKit action (``facs.ARKIT_TO_AU``) at weight 1, times the head's gain, on both sides, and
0-5 is linear in the weight; the label is the mean of the two sides as drawn. AU25 has no action of its own: it is
measured on the mesh as the height of the opening between the lips. So the labels are exact for the mesh, while how
strong a 5 looks is the sculptor's choice, not a FACS coder's.
"""

import json
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from rich.progress import track

from emollm.data.head import Array, Head, load_head
from emollm.data.paint import Looks
from emollm.data.render import Renderer, Scene, encode
from emollm.errors import BadArgumentError
from emollm.facs import ARKIT_TO_AU, AU_CODES, MAX_INTENSITY, PROTOTYPES

# Lip opening, as a share of the distance between the outer eye corners, that counts as AU25 at 5: half a yawn.
WIDE_OPEN = 0.2

_ACTION_OF = {au: action for action, au in ARKIT_TO_AU.items()}
# The muscles cannot do both, or the mesh would pass through itself: the first of a pair silences the second.
_EXCLUDES = {"AU45": ("AU5", "AU7"), "AU24": ("AU25", "AU26"), "AU12": ("AU15",)}
# Movements without a label here that real faces also make; a reader must not take them for one of the 17.
_DISTRACTORS = ("mouthFunnel", "mouthPucker", "jawLeft", "jawRight", "mouthLeft", "mouthRight", "cheekPuff")


class HeadRecipe(BaseModel):
    """Which head is drawn: its kind, file, parts and gains (see :func:`emollm.data.head.load_head`)."""

    model_config = ConfigDict(extra="forbid")
    kind: Literal["ict"] = "ict"
    path: Path | None = None
    parts: dict[str, list[tuple[int, int]]] = {}
    gains: dict[str, float] = {}


class Recipe(BaseModel):
    """Everything that decides the pictures; the same recipe and head give the same bytes."""

    model_config = ConfigDict(extra="forbid")
    head: HeadRecipe
    seed: int = Field(0, ge=0)
    identities: int = Field(400, ge=2)
    images_per_identity: int = Field(15, ge=1)
    valid_share: float = Field(0.1, gt=0, lt=1)
    size: int = Field(192, ge=48, le=1024)
    neutral_share: float = Field(0.08, ge=0, le=1)
    prototype_share: float = Field(0.5, ge=0, le=1)
    identity_spread: float = Field(0.9, ge=0)


def load_recipe(path: Path) -> Recipe:
    """Read a recipe (YAML).

    Raises:
        BadArgumentError: missing, not YAML, or a key or value that is not one.
    """
    try:
        return Recipe.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except OSError:
        raise BadArgumentError(f"no recipe at {path}") from None
    except yaml.YAMLError:
        raise BadArgumentError(f"{path} is not valid YAML") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the recipe"
        raise BadArgumentError(f"{path}: {where}: {first['msg']}") from None


def synthesize(recipe: Path | Recipe, out: Path, head: Path | None = None, workers: int | None = None) -> Path:
    """Draw the recipe's pictures into one parquet file, which appears only when it is whole.

    Columns: ``image`` (JPEG bytes, size x size RGB), ``au_AU1`` ... in the order of ``facs.AU_CODES`` (0-5), ``head``,
    ``identity``, ``split`` ("train"/"valid", by identity), ``seed`` (with the identity, it draws the picture again),
    ``yaw``, ``pitch``, ``roll`` (degrees), ``label_origin`` ("exact"). The recipe is kept in the schema's metadata.

    Args:
        recipe: the recipe or its path.
        out: the file to write.
        head: the head's file, instead of the recipe's.
        workers: processes; one per core unless given. The result does not depend on it.

    Raises:
        BadArgumentError: a recipe, head or output path that cannot be used.
    """
    plan = recipe if isinstance(recipe, Recipe) else load_recipe(recipe)
    source = head or plan.head.path
    if source is None:
        raise BadArgumentError("the recipe names no head: give the path of your blendshape head (.npz)")
    load_head(source, plan.head.parts, plan.head.gains)  # fail here, in one sentence, rather than in every worker
    schema = _schema(plan)
    part = out.with_name(f".{out.name}.{os.getpid()}.part")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with pq.ParquetWriter(part, schema) as writer:
            for rows in _draw_all(plan, source, workers or os.cpu_count() or 1):
                writer.write_table(pa.Table.from_pylist(rows, schema))
        os.replace(part, out)
    except OSError as error:
        raise BadArgumentError(f"cannot write {out}: {error.strerror}") from None
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)
    return out


@dataclass(frozen=True)
class Expression:
    """Weights 0-1 of a head's expressions."""

    weights: dict[str, float]

    def intensities(self, head: Head, gap: float) -> dict[str, float]:
        """AU intensities 0-5 as drawn; ``gap`` is the lip opening beyond the mean face's at rest."""
        aus = {"AU25": float(np.clip(gap / WIDE_OPEN, 0, 1)) * MAX_INTENSITY}
        for au, action in _ACTION_OF.items():
            sides = [self.weights.get(name, 0.0) for name in head.sides(action)]
            aus[au] = sum(sides) / max(len(sides), 1) * MAX_INTENSITY
        return {code: aus[code] for code in AU_CODES}


def choose_aus(rng: np.random.Generator, neutral_share: float, prototype_share: float) -> dict[str, float]:
    """Intensities 0-5 to aim at: nothing, a prototype with some of its AUs missing, or any 0-5 AUs together."""
    if rng.random() < neutral_share:
        return {}
    if rng.random() < prototype_share:
        prototypes = [codes for codes in PROTOTYPES.values() if codes]
        codes = [code for code in prototypes[rng.integers(len(prototypes))] if rng.random() > 0.2]
        strength = rng.uniform(1.0, 5.0)
        wanted = {code: min(strength * rng.uniform(0.6, 1.3), MAX_INTENSITY) for code in codes}
        if rng.random() < 0.15:
            wanted["AU45"] = rng.uniform(0.5, 5)
    else:
        codes = rng.choice(AU_CODES, size=rng.integers(0, 6), replace=False).tolist()
        wanted = {code: rng.uniform(0.3, 5) for code in codes}
    for first, silenced in _EXCLUDES.items():
        if wanted.get(first, 0) >= 1:
            wanted = {code: value for code, value in wanted.items() if code not in silenced}
    return wanted


def express(head: Head, aus: dict[str, float], rng: np.random.Generator) -> Expression:
    """Weights that show these AUs on this head, a little uneven between the sides, with glances and distractors."""
    weights: dict[str, float] = {}

    def move(action: str, weight: float, uneven: float = 0.12) -> None:
        for name in head.sides(action):
            weights[name] = float(np.clip(weight * (1 + rng.normal(0, uneven)), 0, 1))

    for au, intensity in aus.items():
        if au in _ACTION_OF:
            one_sided = au == "AU14" and rng.random() < 0.3  # contempt is typically seen on one side
            move(_ACTION_OF[au], intensity / MAX_INTENSITY, uneven=0.6 if one_sided else 0.12)
    if "AU25" in aus:
        move("mouthLowerDown", aus["AU25"] / MAX_INTENSITY, uneven=0.08)
        if "AU26" not in aus:  # lips hardly part without the jaw
            move("jawOpen", min(0.06 * aus["AU25"], 0.25) * rng.random())
    elif "AU26" in aus and rng.random() < 0.25:  # the jaw drops behind closed lips
        move("mouthClose", weights.get("jawOpen", 0.0), uneven=0.0)
    across, up = rng.normal(0, 0.25, 2)
    for side, inward in (("L", across), ("R", -across)):
        glance = {"In": inward, "Out": -inward, "Up": up, "Down": -up}
        for way, amount in glance.items():
            if f"eyeLook{way}_{side}" in head.expressions:
                weights[f"eyeLook{way}_{side}"] = float(np.clip(amount, 0, 0.8))
    if aus and rng.random() < 0.12:
        move(str(rng.choice(_DISTRACTORS)), rng.uniform(0.1, 0.7))
    return Expression(weights)


_renderer: Renderer | None = None  # one a worker process: loading the head costs more than drawing a picture


def _start_worker(path: Path, head: HeadRecipe) -> None:
    global _renderer
    _renderer = Renderer(load_head(path, head.parts, head.gains))


def _draw_all(recipe: Recipe, source: Path, workers: int) -> Iterator[list[dict[str, Any]]]:
    context = get_context("spawn")
    with ProcessPoolExecutor(workers, context, _start_worker, (source, recipe.head)) as pool:
        done = pool.map(partial(draw_identity, recipe), range(recipe.identities))
        try:
            yield from track(done, "Rendering faces", total=recipe.identities)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def draw_identity(recipe: Recipe, identity: int, renderer: Renderer | None = None) -> list[dict[str, Any]]:
    """All rows of one person. The last ``valid_share`` of the identities are for validation."""
    renderer = renderer or _renderer
    assert renderer is not None, "no head loaded"
    head = renderer.head
    training = recipe.identities - max(1, round(recipe.identities * recipe.valid_share))
    rng = np.random.default_rng([recipe.seed, identity])
    modes = len(head.identities)
    person = head.person(rng.normal(0, recipe.identity_spread, modes).astype(np.float32))
    looks = Looks.random(rng)
    return [
        {
            "head": recipe.head.kind,
            "identity": identity,
            "split": "train" if identity < training else "valid",
            **draw_image(renderer, person, looks, recipe, [recipe.seed, identity, index]),
        }
        for index in range(recipe.images_per_identity)
    ]


def draw_image(renderer: Renderer, person: Array, looks: Looks, recipe: Recipe, seed: list[int]) -> dict[str, Any]:
    """One picture and what it shows."""
    rng = np.random.default_rng(seed)
    head = renderer.head
    expression = express(head, choose_aus(rng, recipe.neutral_share, recipe.prototype_share), rng)
    vertices = head.pose(person, expression.weights)
    aus = expression.intensities(head, head.lip_gap(vertices) - head.lip_gap(head.neutral))
    scene = Scene.random(rng)
    image = renderer.draw(vertices, aus, looks, scene, recipe.size)
    pose = {"yaw": scene.pose.yaw, "pitch": scene.pose.pitch, "roll": scene.pose.roll}
    labels = {f"au_{code}": intensity for code, intensity in aus.items()}
    return {"image": encode(image, scene.quality), **labels, **pose, "seed": seed[-1], "label_origin": "exact"}


def _schema(recipe: Recipe) -> pa.Schema:
    columns = [("image", pa.binary())]
    columns += [(f"au_{code}", pa.float32()) for code in AU_CODES]
    columns += [("head", pa.string()), ("identity", pa.int32()), ("split", pa.string()), ("seed", pa.int32())]
    columns += [(name, pa.float32()) for name in ("yaw", "pitch", "roll")] + [("label_origin", pa.string())]
    kept = recipe.model_dump(mode="json", exclude={"head": {"path"}})
    return pa.schema(columns, metadata={"recipe": json.dumps(kept)})
