"""Train the face tower: expressions from votes, Action Units from renders, both heads on the same frames.

``python -m emollm.train.face RECIPE`` (see ``train/tiny/face.yaml``). Resumes from its last checkpoint by itself.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict
from sklearn.metrics import accuracy_score, recall_score
from torch import Tensor, nn
from transformers import Trainer, TrainingArguments, set_seed
from transformers.trainer_utils import EvalPrediction

from emollm.data.faces import Faces, prepare_faces
from emollm.data.pseudo import add_pseudo_units
from emollm.emotions import EXPRESSIONS, VALENCE_AROUSAL
from emollm.face.detect import MIRRORED, FaceLandmarker
from emollm.facs import MAX_INTENSITY
from emollm.model.configuration_emollm import FaceEncoderConfig
from emollm.model.face_encoder import FaceEncoder, FaceEncoderOutput
from emollm.train.backbone import start_from_backbone
from emollm.train.calibrate import refit_units, shift_units, weigh_prior
from emollm.train.machine import note_machine
from emollm.train.recipe import last_checkpoint, load_recipe
from emollm.weights import fetch

CALIBRATED_ON = 12_000  # training renders by which the AU head is set, at most


class FaceRecipe(BaseModel):
    """Keys of a face-tower recipe; ``train/tiny/face.yaml`` explains each."""

    model_config = ConfigDict(extra="forbid")

    output: Path
    sources: dict[str, Path]
    cache: Path
    start_from: Path | None = None
    backbone: bool = False
    tower: dict[str, Any] = {}
    epochs: float = 16
    batch_size: int = 128
    learning_rate: float = 2e-3
    weight_decay: float = 0.05
    au_weight: float = 1.0
    va_weight: float = 0.5
    pseudo_aus: bool = False
    render_share: float | None = None
    mixup: float = 0.0
    adversary_weight: float = 0.0
    prior_strength: float = 0.0
    seed: int = 0
    max_steps: int = -1


class FaceCollator:
    """Rows of :class:`Faces` to a batch; training batches are augmented, validation batches are not.

    Augmentation: flip, rotation, zoom, shift, loss of resolution, noise, an occluding patch, the unaligned picture
    instead of the aligned one, and blendshapes left out, so that the tower learns to read pixels alone too; with
    ``mixup``, the parameter of its beta distribution, pairs of faces with votes are blended (Zhang et al. 2018,
    https://arxiv.org/abs/1710.09412). Renders are not: their labels are exact, and those of a blend would not be.
    All of it happens on ``device``, where the crops are kept.
    """

    def __init__(
        self,
        faces: Faces,
        size: int,
        augment: bool,
        whole_share: float = 0.35,
        no_shapes_share: float = 0.25,
        mixup: float = 0.0,
        device: str | torch.device = "cpu",
    ):
        self.faces, self.size, self.augment, self.mixup = faces, size, augment, mixup
        self.whole_share, self.no_shapes_share = whole_share, no_shapes_share
        self.device = torch.device(device)
        self.aligned, self.whole = (torch.from_numpy(crops).to(device) for crops in (faces.aligned, faces.whole))
        self.va = torch.tensor([VALENCE_AROUSAL[e] for e in EXPRESSIONS], device=device)
        coded = sorted(set(faces.person[faces.origin == "exact"]) - {""})
        self.people = {name: number for number, name in enumerate(coded)}

    def __call__(self, rows: list[int]) -> dict[str, Tensor]:
        index, device = np.asarray(rows), self.device
        places = torch.from_numpy(index).to(device)
        shapes, expression, aus = (
            torch.from_numpy(values[index]).to(device)
            for values in (self.faces.blendshapes, self.faces.expression, self.faces.aus)
        )
        exact = torch.from_numpy(self.faces.origin[index] == "exact").to(device)
        pixels = self.aligned[places].float()
        if self.augment:
            n = len(index)
            use_whole = torch.rand(n, device=device) < self.whole_share
            pixels = torch.where(use_whole[:, None, None], self.whole[places].float(), pixels)
            without = torch.where(use_whole, 0.7, self.no_shapes_share)
            shapes = torch.where((torch.rand(n, device=device) < without)[:, None], float("nan"), shapes)
            flip = torch.rand(n, device=device) < 0.5
            pixels = torch.where(flip[:, None, None], pixels.flip(-1), pixels)
            shapes = torch.where(flip[:, None], shapes[:, MIRRORED], shapes)
            shapes = shapes + 0.02 * torch.randn_like(shapes)
        pixels = self._resample(pixels.unsqueeze(1))
        if self.augment and self.mixup:
            partner, share = self._pairs(expression)
            pixels, shapes, expression, aus = (
                torch.lerp(values[partner], values, share.view(-1, *[1] * (values.dim() - 1)))
                for values in (pixels, shapes, expression, aus)
            )
        grey = pixels.squeeze(1).clamp(0, 255).to(torch.uint8)
        return {
            "face_pixels": grey.unsqueeze(-1).expand(-1, -1, -1, 3).contiguous(),
            "blendshapes": shapes,
            "expression": expression,
            "aus": aus
            if self.augment
            else torch.where(exact[:, None], aus, float("nan")),  # pseudo-labels score nothing
            "va": expression @ self.va,
            "person": torch.tensor([self.people.get(name, -1) for name in self.faces.person[index]]).to(device),
        }

    def _pairs(self, expression: Tensor) -> tuple[Tensor, Tensor]:
        """Each row's partner, which has votes too (itself where it has none), and the row's own share in the blend."""
        partner = torch.arange(len(expression), device=self.device)
        voted = torch.nonzero(~expression.isnan().any(-1)).flatten()
        partner[voted] = voted[torch.randperm(len(voted), device=self.device)]
        share = torch.distributions.Beta(self.mixup, self.mixup).sample((len(expression),)).to(self.device)
        return partner, torch.maximum(share, 1 - share)

    def _resample(self, pixels: Tensor) -> Tensor:
        """``(N, 1, 56, 56)`` -> ``(N, 1, size, size)``, with random geometry and damage when augmenting."""
        if not self.augment:
            return F.interpolate(pixels, size=(self.size, self.size), mode="area")
        n, device = len(pixels), self.device
        angle = torch.empty(n, device=device).uniform_(-0.2, 0.2)
        zoom = torch.empty(n, device=device).uniform_(0.82, 1.12)
        shift = torch.empty(n, 2, device=device).uniform_(-0.12, 0.12)
        cos, sin = angle.cos() * zoom, angle.sin() * zoom
        theta = torch.stack([torch.stack([cos, -sin, shift[:, 0]], 1), torch.stack([sin, cos, shift[:, 1]], 1)], 1)
        grid = F.affine_grid(theta, [n, 1, self.size, self.size], align_corners=False)
        pixels = F.grid_sample(pixels, grid, padding_mode="border", align_corners=False)
        small = int(self.size * float(torch.empty(()).uniform_(0.3, 0.7)))
        coarse = F.interpolate(F.interpolate(pixels, (small, small), mode="area"), pixels.shape[-2:], mode="bilinear")
        pixels = torch.where((torch.rand(n, device=device) < 0.3).view(-1, 1, 1, 1), coarse, pixels)
        noisy = torch.rand(n, 1, 1, 1, device=device) < 0.3
        pixels = pixels + noisy * torch.rand(n, 1, 1, 1, device=device) * 12 * torch.randn_like(pixels)
        patch = self._patches(n) & (torch.rand(n, device=device) < 0.25).view(-1, 1, 1)
        grey = torch.rand(n, 1, 1, 1, device=device) * 255
        return torch.where(patch.unsqueeze(1), grey, pixels)

    def _patches(self, number: int) -> Tensor:
        """``(N, size, size)`` bool: a rectangle in each picture, of up to two fifths of its sides."""
        start = torch.randint(0, self.size * 7 // 8, (2, number, 1), device=self.device)
        length = torch.randint(self.size // 8, self.size * 2 // 5, (2, number, 1), device=self.device)
        place = torch.arange(self.size, device=self.device)
        down, across = (start <= place) & (place < start + length)
        return down[:, :, None] & across[:, None, :]


class _Reversed(torch.autograd.Function):
    """Identity whose gradient is turned round (Ganin & Lempitsky 2015, https://arxiv.org/abs/1409.7495)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return -grads[0]


class FaceObjective(nn.Module):
    """The tower with its losses; a label that is NaN costs nothing.

    Expressions: cross-entropy against the vote shares (Barsoum et al. 2016). AUs: cross-entropy against intensity / 5,
    whose least is where the squared error's is, but which does not fade where the head is sure and wrong.
    Valence and arousal: Huber loss against the votes' mean coordinates, a derived label, not a human rating.
    With an ``adversary_weight``, a classifier tells the ``people`` of the renders apart by the hidden state, and the
    tower learns to leave nothing to tell them by (identity-adversarial training, as in Zhang et al. 2018,
    https://arxiv.org/abs/1803.02801).
    """

    def __init__(
        self, tower: FaceEncoder, au_weight: float, va_weight: float, adversary_weight: float = 0.0, people: int = 0
    ):
        super().__init__()
        self.tower, self.au_weight, self.va_weight = tower, au_weight, va_weight
        self.adversary_weight = adversary_weight
        self.adversary = nn.Linear(tower.config.hidden_size, people) if adversary_weight else None

    def forward(
        self,
        face_pixels: Tensor,
        blendshapes: Tensor,
        expression: Tensor,
        aus: Tensor,
        va: Tensor,
        person: Tensor,
    ) -> dict[str, Tensor]:
        out = self.tower(face_pixels, blendshapes)
        logits, units, coordinates = out.expression_logits, out.action_units, out.valence_arousal
        assert logits is not None
        assert units is not None
        assert coordinates is not None
        voted, coded = ~expression.isnan().any(-1), ~aus.isnan()
        loss = logits.new_zeros(())
        if voted.any():
            loss = loss + F.cross_entropy(logits[voted].float(), expression[voted])
            loss = loss + self.va_weight * F.smooth_l1_loss(coordinates[voted].float(), va[voted], beta=0.2)
        if coded.any():
            guess = (units[coded].float() / MAX_INTENSITY).clamp(1e-4, 1 - 1e-4)
            error = -torch.lerp((1 - guess).log(), guess.log(), aus[coded] / MAX_INTENSITY).mean()
            loss = loss + self.au_weight * error
        known = person >= 0
        if self.adversary is not None and self.training and known.any():
            hidden = out.features[known, : self.tower.config.hidden_size]
            told = self.adversary(_Reversed.apply(hidden.float()))
            loss = loss + self.adversary_weight * F.cross_entropy(told, person[known])
        return {"loss": loss, "logits": logits.float(), "aus": units.float()}


def face_metrics(prediction: EvalPrediction) -> dict[str, float]:
    """WAR and UAR of the majority vote; AU mean absolute error and F1 at intensity >= 1 over frames that carry AUs."""
    logits, units = prediction.predictions  # type: ignore[misc]
    expression, aus = prediction.label_ids  # type: ignore[misc]
    voted, coded = ~np.isnan(expression).any(-1), ~np.isnan(aus).any(-1)
    result = {}
    if voted.any():
        truth, guess = expression[voted].argmax(-1), logits[voted].argmax(-1)
        result["war"] = float(accuracy_score(truth, guess))
        result["uar"] = float(recall_score(truth, guess, average="macro", zero_division=0))
    if coded.any():
        present, claimed = aus[coded] >= 1.0, units[coded] >= 1.0
        hits = (present & claimed).sum(0)
        f1 = 2 * hits / np.maximum(present.sum(0) + claimed.sum(0), 1)
        result["au_f1"] = float(f1[present.any(0)].mean())
        result["au_mae"] = float(np.abs(aus[coded] - units[coded]).mean())
    return result


def draw_weights(faces: Faces, render_share: float) -> Tensor:
    """``(N,)`` weights by which training faces are drawn: renders make up ``render_share``; among real faces an
    expression counts by the square root of its frequency, between fair to accuracy and fair to rare expressions."""
    real = ~np.isnan(faces.expression).any(-1)
    label = np.where(real, np.nan_to_num(faces.expression).argmax(-1), -1)
    frequency = np.bincount(label[real], minlength=len(EXPRESSIONS))
    weights = np.where(real, 1 / np.sqrt(np.maximum(frequency[label], 1)), 0.0)
    weights[real] *= (1 - render_share) / weights[real].sum()
    weights[~real] = render_share / max((~real).sum(), 1)
    return torch.from_numpy(weights)


class _FaceTrainer(Trainer):
    """Trainer that draws faces by weight, if given, and whose evaluation batches are not augmented."""

    def __init__(self, *args: Any, eval_collator: FaceCollator, weights: Tensor | None, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self._eval_collator, self._weights = eval_collator, weights

    def _get_train_sampler(self, train_dataset: Any = None) -> torch.utils.data.Sampler | None:
        if self._weights is None:
            return super()._get_train_sampler(train_dataset)
        generator = torch.Generator().manual_seed(self.args.seed)
        return torch.utils.data.WeightedRandomSampler(self._weights.tolist(), len(self._weights), generator=generator)

    def get_eval_dataloader(self, eval_dataset: Any = None) -> torch.utils.data.DataLoader:
        rows = eval_dataset if eval_dataset is not None else self.eval_dataset
        loader = torch.utils.data.DataLoader(rows, 512, collate_fn=self._eval_collator)  # type: ignore[arg-type]
        # Unprepared, accelerate cuts every batch to the remainder of the training loader: a tenth of the rows.
        return self.accelerator.prepare(loader)


def load_faces(recipe: FaceRecipe) -> Faces:
    """All sources of the recipe, each prepared once and cached as ``cache/<source>.npz``.

    A source is called by its kind (a key of :data:`emollm.data.faces.READERS`), with more behind a hyphen where there
    are several of one kind: ``renders-anny``.
    """
    parts = []
    for source, path in recipe.sources.items():
        cached = recipe.cache / f"{source}.npz"
        if not cached.exists():
            with FaceLandmarker(fetch("face_landmarker"), max_faces=1) as landmarker:
                prepare_faces(source.split("-")[0], path, landmarker).save(cached)
        parts.append(Faces.load(cached))
    faces = Faces.concatenate(parts)
    return add_pseudo_units(faces, recipe.seed) if recipe.pseudo_aus else faces


def train_face(recipe: FaceRecipe) -> dict[str, float]:
    """Train by the recipe, save the tower that did best on validation, return its validation scores."""
    set_seed(recipe.seed)
    faces = load_faces(recipe)
    tower = (
        FaceEncoder.from_pretrained(recipe.start_from, dtype=torch.float32, **recipe.tower)
        if recipe.start_from
        else FaceEncoder(FaceEncoderConfig(**recipe.tower))
    )
    size = tower.config.image_size
    rows = np.arange(len(faces))
    learned = rows[~faces.valid]
    device = "cuda" if torch.cuda.is_available() else "cpu"
    collator = FaceCollator(faces, size, augment=True, mixup=recipe.mixup, device=device)
    plain = FaceCollator(faces, size, augment=False, device=device)
    if recipe.backbone:
        some = np.random.default_rng(recipe.seed).choice(learned, min(512, len(learned)), replace=False)
        file = fetch("face_backbone") / "mobilenet.safetensors"
        start_from_backbone(tower, file, plain(some.tolist())["face_pixels"].cpu())
    tower.to(memory_format=torch.channels_last)  # type: ignore[call-arg]
    arguments = TrainingArguments(
        output_dir=str(recipe.output / "checkpoints"),
        num_train_epochs=recipe.epochs,
        max_steps=recipe.max_steps,
        per_device_train_batch_size=recipe.batch_size,
        learning_rate=recipe.learning_rate,
        weight_decay=recipe.weight_decay,
        lr_scheduler_type="cosine",
        warmup_steps=200,
        max_grad_norm=1.0,
        bf16=True,
        use_cpu=device == "cpu",
        dataloader_pin_memory=False,  # the collator's batches are where they are needed
        eval_strategy="epoch",
        save_strategy="epoch",
        save_total_limit=2,
        load_best_model_at_end=True,
        metric_for_best_model="selection",
        label_names=["expression", "aus"],
        remove_unused_columns=False,
        logging_steps=50,
        report_to=[],
        seed=recipe.seed,
    )
    weights = None if recipe.render_share is None else draw_weights(faces.subset(~faces.valid), recipe.render_share)
    trainer = _FaceTrainer(
        model=FaceObjective(tower, recipe.au_weight, recipe.va_weight, recipe.adversary_weight, len(collator.people)),
        args=arguments,
        data_collator=collator,
        eval_collator=plain,
        weights=weights,
        train_dataset=learned.tolist(),
        eval_dataset=rows[faces.valid].tolist(),
        compute_metrics=_with_selection,
    )
    trainer.train(resume_from_checkpoint=last_checkpoint(recipe.output / "checkpoints"))
    (recipe.output / "log.json").write_text(json.dumps(trainer.state.log_history))
    tower.cpu()
    calibrate(tower, faces.subset(~faces.valid), recipe.prior_strength)
    tower.save_pretrained(recipe.output)
    note_machine(recipe.output)
    scores = score_faces(tower, faces.subset(faces.valid))
    (recipe.output / "scores.json").write_text(json.dumps(scores, indent=1))
    return scores


def calibrate(tower: FaceEncoder, faces: Faces, prior_strength: float) -> None:
    """Set the heads by training faces: expressions by votes, where there are any, AUs by exact labels."""
    voted = ~np.isnan(faces.expression).any(-1)
    if voted.any() and prior_strength:
        weigh_prior(tower, faces.subset(voted), prior_strength)
    coded = np.flatnonzero(faces.origin == "exact")
    if len(coded):
        renders = faces.subset(coded[:: -(-len(coded) // CALIBRATED_ON)])
        refit_units(tower, hidden_states(tower, renders), torch.from_numpy(renders.aus))
        shift_units(tower, predict_faces(tower, renders)[1], renders.aus)


def hidden_states(tower: FaceEncoder, faces: Faces) -> Tensor:
    """``(N, hidden_size)`` fused states of faces, not augmented."""
    return torch.cat([out["features"][:, : tower.config.hidden_size] for out in _outputs(tower, faces)])


def predict_faces(tower: FaceEncoder, faces: Faces) -> tuple[np.ndarray, np.ndarray]:
    """``(N, 8)`` expression logits and ``(N, 17)`` AU intensities of faces, not augmented."""
    outputs = _outputs(tower, faces)
    logits, units = ([out[key].numpy() for out in outputs] for key in ("expression_logits", "action_units"))
    return np.concatenate(logits), np.concatenate(units)


@torch.no_grad()
def _outputs(tower: FaceEncoder, faces: Faces) -> list[FaceEncoderOutput]:
    tower.eval()
    collate = FaceCollator(faces, tower.config.image_size, augment=False)
    outputs = []
    for rows in np.array_split(np.arange(len(faces)), max(1, len(faces) // 256)):
        batch = collate(rows.tolist())
        outputs.append(tower(batch["face_pixels"], batch["blendshapes"]))
    return outputs


def score_faces(tower: FaceEncoder, faces: Faces) -> dict[str, float]:
    """:func:`face_metrics` of a tower over all of ``faces``."""
    exact = np.where((faces.origin == "exact")[:, None], faces.aus, np.nan)  # pseudo-labels score nothing
    prediction = EvalPrediction(predict_faces(tower, faces), (faces.expression, exact))  # type: ignore[arg-type]
    return {**face_metrics(prediction), "faces": len(faces)}


def _with_selection(prediction: EvalPrediction) -> dict[str, float]:
    scores = face_metrics(prediction)
    return {**scores, "selection": float(np.mean([scores[key] for key in ("war", "uar", "au_f1") if key in scores]))}


if __name__ == "__main__":
    print(train_face(load_recipe(FaceRecipe, sys.argv[1], sys.argv[2:])))
