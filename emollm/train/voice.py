"""Train the voice head on cached states of the frozen audio tower: emotion, valence and arousal of a whole voice.

``python -m emollm.train.voice RECIPE`` (see ``train/tiny/voice.yaml``).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict
from rich.progress import track as progress
from safetensors.torch import save_file
from sklearn.metrics import accuracy_score, recall_score
from torch import Tensor

from emollm.data.voices import Voices, prepare_emodb
from emollm.emotions import EMOTIONS, VALENCE_AROUSAL
from emollm.model.audio_encoder import VoiceHead
from emollm.train.recipe import load_recipe
from emollm.weights import fetch


class VoiceRecipe(BaseModel):
    """Keys of a voice recipe; ``train/tiny/voice.yaml`` explains each."""

    model_config = ConfigDict(extra="forbid")

    output: Path
    emodb: Path
    cache: Path
    takes: int = 4
    epochs: int = 60
    batch_size: int = 64
    learning_rate: float = 1e-3
    weight_decay: float = 0.1
    hidden_size: int = 128
    seed: int = 0


def load_voices(recipe: VoiceRecipe) -> Voices:
    """The corpus as tower states, prepared once and cached."""
    cached = recipe.cache / "emodb.npz"
    if not cached.exists():
        prepare_emodb(recipe.emodb, fetch("audio_encoder"), recipe.takes, recipe.seed).save(cached)
    return Voices.load(cached)


def train_voice(recipe: VoiceRecipe) -> dict[str, float]:
    """Train by the recipe and save ``voice_head.safetensors``: the epoch with the best UAR on the validation speakers.

    Returns:
        WAR and UAR on the validation speakers, and on the test speakers, who chose nothing.
    """
    torch.manual_seed(recipe.seed)
    voices = load_voices(recipe)
    states, vectors = torch.from_numpy(voices.states), torch.from_numpy(voices.vector)
    label = torch.tensor([EMOTIONS.index(e) for e in voices.emotion])
    target_va = torch.tensor([VALENCE_AROUSAL[e] for e in EMOTIONS])[label]
    head = VoiceHead(states.shape[-1] // 2, recipe.hidden_size)
    optimiser = torch.optim.AdamW(head.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    rows = torch.from_numpy(np.flatnonzero(voices.split == "train"))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, recipe.epochs)
    best: tuple[float, dict[str, Tensor]] = (-1.0, {})
    for _ in progress(range(recipe.epochs), description="voice head"):
        head.train()
        for batch in rows[torch.randperm(len(rows))].split(recipe.batch_size):
            prosody = vectors[batch]
            prosody = prosody * (torch.rand(len(batch), 1) > 0.2)  # it must not lean on prosody alone
            present = ~states[batch].isnan().any(-1)
            _, logits, va = head(torch.nan_to_num(states[batch]), present, prosody)
            loss = F.cross_entropy(logits, label[batch], label_smoothing=0.1)
            loss = loss + F.smooth_l1_loss(va, target_va[batch], beta=0.2)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        schedule.step()
        score = voice_scores(head, states, vectors, label, voices, "valid")["uar"]
        if score > best[0]:
            best = (score, {key: value.clone() for key, value in head.state_dict().items()})
    head.load_state_dict(best[1])
    recipe.output.mkdir(parents=True, exist_ok=True)
    save_file(head.state_dict(), recipe.output / "voice_head.safetensors")
    scores = {
        f"{split}_{key}": value
        for split in ("valid", "test")
        for key, value in voice_scores(head, states, vectors, label, voices, split).items()
    }
    (recipe.output / "scores.json").write_text(json.dumps(scores, indent=1))
    return scores


@torch.no_grad()
def voice_scores(
    head: VoiceHead, states: Tensor, vectors: Tensor, label: Tensor, voices: Voices, split: str
) -> dict[str, float]:
    """WAR and UAR on the unaltered takes of a split, among the labels that the corpus has."""
    head.eval()
    rows = torch.from_numpy(np.flatnonzero((voices.split == split) & (voices.take == 0)))
    present = ~states[rows].isnan().any(-1)
    _, logits, _ = head(torch.nan_to_num(states[rows]), present, vectors[rows])
    truth, guess = label[rows].numpy(), logits.argmax(-1).numpy()
    uar = recall_score(truth, guess, average="macro", labels=np.unique(truth), zero_division=0)
    return {"war": float(accuracy_score(truth, guess)), "uar": float(uar)}


if __name__ == "__main__":
    print(train_voice(load_recipe(VoiceRecipe, sys.argv[1], sys.argv[2:])))
