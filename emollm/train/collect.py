"""Write ``training.json`` of the shipped model: recipes as they ran, what they took, and what the towers score.

``python -m emollm.train.collect``, after the runs of the five recipes: it reads the folders that the recipes name.
``--change STAGE.KEY=VALUE`` repeats what a recipe was overridden with; ``--variant ABOUT TOWER CACHE.npz`` scores
another face tower, for comparison.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel
from safetensors.torch import load_file

from emollm.data.faces import Faces
from emollm.data.voices import RECORDED, Voices
from emollm.errors import BadArgumentError
from emollm.eval import provenance
from emollm.eval.trained import FaceScores, Source, Stage, StageName, Training, Variant
from emollm.model.checkpoint import SHIPPED
from emollm.model.face_encoder import FaceEncoder
from emollm.train.face import FaceRecipe
from emollm.train.face_scores import face_scores
from emollm.train.machine import MACHINE
from emollm.train.recipe import last_checkpoint, load_recipe
from emollm.train.sft import SFTRecipe
from emollm.train.voice import VoiceRecipe

KINDS: dict[StageName, type[BaseModel]] = {
    "face_start": FaceRecipe,
    "face": FaceRecipe,
    "voice": VoiceRecipe,
    "sft_start": SFTRecipe,
    "sft": SFTRecipe,
}


def collect_training(
    face_start: FaceRecipe,
    face: FaceRecipe,
    voice: VoiceRecipe,
    sft_start: SFTRecipe,
    sft: SFTRecipe,
    variants: Sequence[tuple[str, Path, Path]] = (),
) -> Training:
    """What the runs left in their folders; what is missing there stays None.

    Args:
        face_start, face: the run that the face tower began in, and the one that went on from it and ships.
        sft_start, sft: likewise, of the language model and its adapters.
        variants: what to call it, face tower, prepared faces.

    Raises:
        BadArgumentError: the face tower or the trained parts of the language model are not there.
    """
    shipped = [sft.output / "adapters.safetensors", face.output / "config.json"]
    if not all(file.exists() for file in shipped):
        raise BadArgumentError(f"The runs in {face.output} and {sft.output} are not finished.")
    tower = FaceEncoder.from_pretrained(face.output, dtype=torch.float32)
    prepared = {source: face.cache / f"{source}.npz" for source in face.sources}
    sources, scores = {}, {}
    for name, cache in prepared.items():
        if cache.exists():
            faces = Faces.load(cache)
            known = set(faces.person) - {""}
            held_out = int(faces.valid.sum())
            sources[name] = Source(train=len(faces) - held_out, valid=held_out, people=len(known) or None)
            scores[name] = _scores(tower, faces)
    commit, dirty = provenance.commit()
    hardware = provenance.hardware()
    return Training(
        trained=datetime.fromtimestamp(max(file.stat().st_mtime for file in shipped), UTC).replace(microsecond=0),
        commit=commit,
        dirty=dirty,
        hardware=hardware,
        versions=provenance.versions(),
        parameters={"face_tower": sum(p.numel() for p in tower.parameters()), **_parameters(sft.output)},
        image_size=tower.config.image_size,
        stages={
            "face_start": _stage(face_start, face_start.output, face_start.seed, hardware),
            "face": _stage(face, face.output, face.seed, hardware),
            "voice": _stage(voice, voice.output, voice.seed, hardware),
            "sft_start": _stage(sft_start, sft_start.output, sft_start.seed, hardware),
            "sft": _stage(sft, sft.output, sft.seed, hardware),
        },
        sources=sources,
        recordings=_recordings(voice.cache / "emodb.npz"),
        face=scores,
        variants=[
            Variant(
                about=about,
                source=cache.stem,
                scores=_scores(FaceEncoder.from_pretrained(folder, dtype=torch.float32), Faces.load(cache)),
            )
            for about, folder, cache in variants
        ],
        voice=_json(voice.output / "scores.json"),
        folds=_json(voice.output / "folds.json"),
    )


def _scores(tower: FaceEncoder, faces: Faces) -> FaceScores:
    return FaceScores.model_validate(face_scores(tower, faces.subset(faces.valid)))


def _stage(recipe: BaseModel, folder: Path, seed: int, here: dict[str, str]) -> Stage:
    stage = Stage(recipe=recipe.model_dump(mode="json"), seed=seed, hardware=_json(folder / MACHINE))
    last = last_checkpoint(folder / "checkpoints")
    if last is not None:
        state = _json(Path(last) / "trainer_state.json") or {}
        stage.steps = state.get("global_step")
        stage.chosen_step = state.get("best_global_step")
    log = [line["train_runtime"] for line in _json(folder / "log.json") or [] if "train_runtime" in line]
    unbroken = len(list((folder / "tensorboard").glob("events.*"))) <= 1  # a run that goes on begins another file
    if log and unbroken:
        stage.hours, stage.hours_from = log[-1] / 3600, "log"
    elif (hours := _hours_between(folder / "checkpoints", stage.steps)) is not None:
        stage.hours, stage.hours_from = hours, "checkpoints"
    if stage.hours is not None:
        machine = stage.hardware or here
        if "gpu" in machine:
            stage.gpu_minutes = round(stage.hours * 60, 2)
        else:
            stage.core_hours = round(stage.hours * int(machine["cores"]), 3)
        stage.hours = round(stage.hours, 3)
    return stage


def _hours_between(folder: Path, steps: int | None) -> float | None:
    """Time of the whole run at the speed between the first and the last of its checkpoints that are kept."""
    files = {int(file.parent.name.split("-")[1]): file for file in folder.glob("checkpoint-*/trainer_state.json")}
    if steps is None or len(files) < 2:
        return None
    first, last = min(files), max(files)
    seconds = files[last].stat().st_mtime - files[first].stat().st_mtime
    return seconds / (last - first) * steps / 3600 if seconds > 0 else None


def _parameters(run: Path) -> dict[str, int]:
    found = {"voice_head": 0, "adapters": 0, "lora": 0}
    for file in (run / "adapters.safetensors", run / "lora" / "adapter_model.safetensors"):
        for key, tensor in load_file(file).items():
            name = "voice_head" if key.startswith("voice_head.") else "adapters"
            found["lora" if file.parent.name == "lora" else name] += tensor.numel()
    return found


def _recordings(cache: Path) -> dict[str, int] | None:
    if not cache.exists():
        return None
    voices = Voices.load(cache)
    splits = voices.split[voices.take == RECORDED].tolist()
    return {split: splits.count(split) for split in ("train", "valid", "test")}


def _json(file: Path) -> Any:
    return json.loads(file.read_text(encoding="utf-8")) if file.exists() else None


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for stage in KINDS:
        parser.add_argument(f"--{stage}", type=Path, default=Path("train/tiny") / f"{stage}.yaml", help="its recipe")
    parser.add_argument("--change", action="append", default=[], metavar="STAGE.KEY=VALUE")
    parser.add_argument("--variant", action="append", default=[], nargs=3, metavar=("ABOUT", "TOWER", "CACHE"))
    parser.add_argument("--out", type=Path, default=SHIPPED / "training.json")
    given = parser.parse_args(arguments)
    recipes: dict[str, Any] = {}
    for stage, kind in KINDS.items():
        changes = [change.removeprefix(f"{stage}.") for change in given.change if change.startswith(f"{stage}.")]
        recipes[stage] = load_recipe(kind, getattr(given, stage), changes)
    variants = [(about, Path(tower), Path(cache)) for about, tower, cache in given.variant]
    collect_training(**recipes, variants=variants).save(given.out)
    print(f"Wrote {given.out}.")


if __name__ == "__main__":
    main()
