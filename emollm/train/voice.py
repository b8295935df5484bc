"""Train the voice head on cached states of the frozen audio tower: emotion, valence and arousal of a whole voice.

``emollm train voice RECIPE`` (see ``train/tiny/voice.yaml``); with ``folds=true`` it measures instead: every speaker
in turn is left out and heard by a head trained on all others.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict
from rich.progress import track as progress
from safetensors.torch import save_file
from sklearn.metrics import accuracy_score, recall_score
from torch import Tensor

from emollm.data.alter import CONDITIONS
from emollm.data.voices import RECORDED, Ear, Voices, prepare_emodb
from emollm.emotions import EMOTIONS, VALENCE_AROUSAL
from emollm.model.audio_encoder import LayersVoiceHead, VoiceHead, voice_head
from emollm.model.checkpoint import voice_note
from emollm.train.machine import note_machine
from emollm.train.recipe import load_recipe
from emollm.weights import fetch


class VoiceRecipe(BaseModel):
    """Keys of a voice recipe; ``train/tiny/voice.yaml`` explains each."""

    model_config = ConfigDict(extra="forbid")

    output: Path
    emodb: Path
    cache: Path
    takes: int = 4
    conditions: bool = False
    voice_layers: list[int] = []
    audio_context_s: float | None = None
    epochs: int = 40
    batch_size: int = 64
    learning_rate: float = 1e-3
    weight_decay: float = 0.1
    hidden_size: int = 128
    folds: bool = False
    seed: int = 0


def load_voices(recipe: VoiceRecipe) -> Voices:
    """The corpus as tower states, prepared once and cached."""
    cached = recipe.cache / "emodb.npz"
    if not cached.exists():
        ear = Ear.load(fetch("audio_encoder"), recipe.voice_layers, recipe.audio_context_s)
        prepare_emodb(recipe.emodb, ear, recipe.takes, recipe.seed, recipe.conditions).save(cached)
    return Voices.load(cached)


class Heard:
    """The corpus as tensors. Of the altered takes the first ``takes - 1`` are trained on."""

    def __init__(self, voices: Voices, takes: int):
        self.voices = voices
        self.states = torch.from_numpy(np.nan_to_num(voices.states))
        self.present = torch.from_numpy(~np.isnan(voices.states).any(-1))
        self.prosody = torch.from_numpy(voices.vector)
        self.label = torch.tensor([EMOTIONS.index(emotion) for emotion in voices.emotion])
        self.studied = (voices.take >= 0) & (voices.take < takes)

    def inputs(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return self.states[rows], self.present[rows], self.prosody[rows]


def train_voice(recipe: VoiceRecipe) -> dict[str, float]:
    """Train by the recipe and save ``voice_head.safetensors``, or measure by folds.

    Nothing is chosen here, epochs are fixed. A head trained on the training speakers is heard by the validation
    speakers; the one that is saved learned from both, and is heard by the test speakers. ``log.json`` has the seconds
    that it took, encoding included where the cache was made in this run.

    Returns:
        WAR and UAR on the validation and the test speakers, or what :func:`leave_one_speaker_out` measures.
    """
    start = perf_counter()
    voices = load_voices(recipe)
    heard = Heard(voices, recipe.takes)
    recipe.output.mkdir(parents=True, exist_ok=True)
    if recipe.folds:
        scores = leave_one_speaker_out(heard, recipe)
        (recipe.output / "folds.json").write_text(json.dumps(scores, indent=1))
        return scores
    scores = {}
    for split, learn in (("valid", ["train"]), ("test", ["train", "valid"])):
        head = fit(heard, heard.studied & np.isin(voices.split, learn), recipe)
        rows = np.flatnonzero((voices.split == split) & (voices.take == RECORDED))
        for key, value in _scores(heard.label[rows].numpy(), probabilities(head, heard, rows).argmax(-1)).items():
            scores[f"{split}_{key}"] = value
    note = voice_note(recipe.hidden_size, recipe.voice_layers, recipe.audio_context_s)
    save_file(head.state_dict(), recipe.output / "voice_head.safetensors", metadata=note)
    (recipe.output / "scores.json").write_text(json.dumps(scores, indent=1))
    (recipe.output / "log.json").write_text(json.dumps([{"train_runtime": round(perf_counter() - start, 3)}]))
    note_machine(recipe.output, gpu=False)
    return scores


def fit(heard: Heard, chosen: np.ndarray, recipe: VoiceRecipe) -> VoiceHead | LayersVoiceHead:
    """A head trained on the ``chosen`` ``(N,)`` takes; emotions count alike, however many takes they have."""
    torch.manual_seed(recipe.seed)
    rows = torch.from_numpy(np.flatnonzero(chosen))
    width = 2 * (1 + len(recipe.voice_layers))
    head = voice_head(heard.states.shape[-1] // width, recipe.hidden_size, len(recipe.voice_layers))
    if isinstance(head, LayersVoiceHead):
        head.standardise(heard.states[rows], heard.present[rows])
    label, corners = heard.label, torch.tensor([VALENCE_AROUSAL[emotion] for emotion in EMOTIONS])
    count = torch.bincount(label[rows], minlength=len(EMOTIONS))
    weight = torch.where(count > 0, len(rows) / (count > 0).sum() / count.clamp(min=1), 0.0)
    optimiser = torch.optim.AdamW(head.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    steps = recipe.epochs * -(-len(rows) // recipe.batch_size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, recipe.learning_rate, total_steps=steps, pct_start=0.1)
    head.train()
    for _ in range(recipe.epochs):
        for batch in rows[torch.randperm(len(rows))].split(recipe.batch_size):
            _, logits, va = head(*heard.inputs(batch))
            loss = F.cross_entropy(logits, label[batch], label_smoothing=0.1, reduction="none")
            far = F.smooth_l1_loss(va, corners[label[batch]], beta=0.2, reduction="none").sum(-1)
            loss = ((loss + far) * weight[label[batch]]).mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    return head.eval()


@torch.no_grad()
def probabilities(head: VoiceHead | LayersVoiceHead, heard: Heard, rows: np.ndarray) -> np.ndarray:
    """``(len(rows), 9)`` of :data:`EMOTIONS`; those that the corpus does not have are ruled out."""
    logits = head(*heard.inputs(torch.from_numpy(rows)))[1]
    logits[:, torch.bincount(heard.label, minlength=len(EMOTIONS)) == 0] = -torch.inf
    return logits.softmax(-1).numpy()


def leave_one_speaker_out(heard: Heard, recipe: VoiceRecipe) -> dict[str, float]:
    """WAR and UAR over all recordings, each heard by a head that knows all speakers but its own.

    The intervals (95 %) draw whole speakers. Where the cache holds takes under conditions they are measured too, by
    the same heads.
    """
    voices, guess = heard.voices, np.full(len(heard.voices), -1)
    for speaker in progress(np.unique(voices.speaker), description="speakers"):
        head = fit(heard, heard.studied & (voices.speaker != speaker), recipe)
        rows = np.flatnonzero((voices.speaker == speaker) & (voices.take <= RECORDED))
        guess[rows] = probabilities(head, heard, rows).argmax(-1)
    scores: dict[str, float] = {}
    for name, rows in _by_condition(voices):
        truth, said = heard.label[rows].numpy(), guess[rows]
        scores |= {f"{name}{key}": value for key, value in _scores(truth, said).items()}
        if not name:
            scores |= _intervals(truth, said, voices.speaker[rows])
    return scores


def _intervals(truth: np.ndarray, said: np.ndarray, speaker: np.ndarray) -> dict[str, float]:
    from emollm.eval.metrics.intervals import bootstrap

    ends: dict[str, float] = {}
    for key in ("war", "uar"):

        def metric(rows: np.ndarray, key: str = key) -> float:
            return _scores(truth[rows], said[rows])[key]

        spread = bootstrap(metric, len(truth), clusters=speaker.tolist())
        ends |= {f"{key}_low": spread.low, f"{key}_high": spread.high}
    return ends


def _by_condition(voices: Voices) -> Iterator[tuple[str, np.ndarray]]:
    """Prefix of the score and rows: the recordings, then each condition that was encoded."""
    for take, name in enumerate(["", *(f"{condition}_" for condition in CONDITIONS)]):
        rows = np.flatnonzero(voices.take == -take)
        if len(rows):
            yield name, rows


def _scores(truth: np.ndarray, said: np.ndarray) -> dict[str, float]:
    uar = recall_score(truth, said, average="macro", labels=np.unique(truth), zero_division=0)
    return {"war": float(accuracy_score(truth, said)), "uar": float(uar)}


if __name__ == "__main__":
    print(train_voice(load_recipe(VoiceRecipe, sys.argv[1], sys.argv[2:])))
