"""Face tower, audio tower and adapters on their own: the same modules inside transformers, inside vLLM, and alone."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutputWithPooling

from emollm.errors import WeightsError
from emollm.model.adapters import TokenAdapter, summarise
from emollm.model.audio_encoder import CHUNK_SECONDS, PROSODY_SIZE, audio_tower, encode_chunks, pool_layers, voice_head
from emollm.model.configuration_emollm import SUMMARY_TOKENS, EmoLLMConfig
from emollm.model.course import read_course
from emollm.model.face_encoder import FaceEncoder
from emollm.model.symbols import ReadingSymbols, face_symbols, stated_symbols, voice_symbols


@dataclass
class TowerOutput(BaseModelOutputWithPooling):
    """Output of ``get_face_features`` / ``get_audio_features``.

    Attributes:
        last_hidden_state: tower states to pass back as ``face_states`` / ``audio_states`` (the clip encoded once).
        pooler_output: ``(number of placeholders, text_size)`` tokens, items in order: windows, summaries, reading
            symbols.
        readings: ``(I, W, R)`` what the face heads read in each window, ``(I, R)`` what the voice head read.
        present: ``(I, W)`` bool, windows that hold something.
    """

    readings: Tensor | None = None
    present: Tensor | None = None


class TowerMixin:
    """Towers, voice head and adapters of an ``nn.Module``, under the names that they have in a checkpoint."""

    config: Any

    def add_towers(self, config: EmoLLMConfig) -> None:
        """Make the modules."""
        audio_size, text_size = config.audio_config.d_model, config.text_config.hidden_size
        self.face_tower = FaceEncoder(config.face_config)
        self.audio_tower = audio_tower(config.audio_config)
        self.voice_head = voice_head(audio_size, config.voice_size, len(config.voice_layers))
        self.face_adapter = TokenAdapter(
            config.face_config.feature_size, config.face_config.num_readings, config.adapter_size, text_size
        )
        self.audio_adapter = TokenAdapter(
            2 * audio_size + config.voice_size + config.num_voice_readings,
            config.num_voice_readings,
            config.adapter_size,
            text_size,
        )
        self.prosody_adapter = nn.Linear(PROSODY_SIZE, text_size)
        self.reading_symbols = ReadingSymbols(text_size)

    def get_face_features(
        self,
        face_pixels: Tensor | None = None,
        face_blendshapes: Tensor | None = None,
        face_window: Tensor | None = None,
        face_window_s: Tensor | None = None,
        face_states: Tensor | None = None,
    ) -> TowerOutput:
        """Encode faces.

        Args:
            face_pixels: ``(I, T, S, S, 3)`` uint8 crops.
            face_blendshapes: ``(I, T, 52)``, NaN rows where there are none.
            face_window: ``(I, T)`` index of the clip window that the frame belongs to, -1 for padding and poor frames.
            face_window_s: ``(I,)`` window length in seconds, 0 for a still picture, which has fewer reading symbols.
            face_states: ``(I, W, feature_size)`` instead of the first three: states of an earlier call, NaN where no
                window is.
        """
        if face_states is None:
            if face_pixels is None or face_blendshapes is None or face_window is None:
                raise ValueError("faces need face_pixels, face_blendshapes and face_window, or face_states")
            face_states = self._face_states(face_pixels, face_blendshapes, face_window)
        if face_window_s is None:
            raise ValueError("faces need face_window_s")
        present = ~face_states.isnan().any(-1)
        states = torch.nan_to_num(face_states)
        tokens = self._tokens(self.face_adapter, states, summarise(states, present))
        readings = states[..., -self.config.face_config.num_readings :]
        ids = face_symbols(read_course(readings, present, face_window_s), face_window_s)
        placed = _flatten(tokens, self.reading_symbols.faces(ids), present, stated_symbols(face_window_s))
        return TowerOutput(face_states, placed, readings=readings, present=present)  # type: ignore[arg-type]

    def _face_states(self, pixels: Tensor, blendshapes: Tensor, window: Tensor) -> Tensor:
        """Mean frame feature of each window, ``(I, W, feature_size)``, NaN where a window has no frame."""
        items, size = window.shape[0], self.config.face_config.feature_size
        windows = max(int(window.max()) + 1, 1) if window.numel() else 1
        states = torch.full((items, windows, size), float("nan"), device=window.device)
        used = window >= 0
        if not used.any():
            return states
        features = self.face_tower(pixels[used], blendshapes[used]).features.float()
        item = torch.arange(items, device=window.device)[:, None].expand_as(window)[used]
        slot = item * windows + window[used]
        total = torch.zeros(items * windows, size, device=window.device).index_add(0, slot, features)
        count = torch.zeros(items * windows, device=window.device).index_add(0, slot, torch.ones_like(slot).float())
        mean = total / count.clamp(min=1)[:, None]
        return torch.where((count > 0)[:, None], mean, states.flatten(0, 1)).unflatten(0, (items, windows))

    def get_audio_features(
        self,
        input_features: Tensor | None = None,
        audio_seconds: Tensor | None = None,
        audio_window_s: Tensor | None = None,
        audio_prosody: Tensor | None = None,
        audio_states: Tensor | None = None,
    ) -> TowerOutput:
        """Encode voices.

        Args:
            input_features: ``(I, C, mels, 3000)`` log-mel of the 30 s chunks; those behind the end are padding.
            audio_seconds: ``(I,)`` length of the sound, 0 where there is none.
            audio_window_s: ``(I,)`` window length in seconds.
            audio_prosody: ``(I, 8)`` standardised prosody.
            audio_states: ``(I, W, audio_state_size)`` instead of the first three: states of an earlier call, NaN where
                is none. The tower's last layer comes first, then ``voice_layers``, which only the voice head hears.
        """
        if audio_states is None:
            if input_features is None or audio_seconds is None or audio_window_s is None:
                raise ValueError("sound needs input_features, audio_seconds and audio_window_s, or audio_states")
            audio_states = self._audio_states(input_features, audio_seconds, audio_window_s)
        if audio_prosody is None:
            raise ValueError("sound needs audio_prosody")
        present = ~audio_states.isnan().any(-1)
        states = torch.nan_to_num(audio_states)
        hidden, logits, va = self.voice_head(states, present, audio_prosody)
        readings = torch.cat([logits.softmax(-1), va], dim=-1)
        whole = torch.cat([hidden, readings], dim=-1)[:, None]
        states = states[..., : 2 * self.config.audio_config.d_model]
        summary = summarise(states, present)
        windows = torch.cat([states, torch.zeros_like(whole.expand(-1, states.shape[1], -1))], dim=-1)
        summaries = torch.cat([summary, whole.expand(-1, SUMMARY_TOKENS, -1).to(summary.dtype)], dim=-1)
        tokens = self._tokens(self.audio_adapter, windows, summaries)
        prosody = self.prosody_adapter(audio_prosody.to(tokens.dtype))[:, None]
        tokens = torch.cat([tokens[:, :-SUMMARY_TOKENS], tokens[:, -SUMMARY_TOKENS:] + prosody], dim=1)
        symbols = self.reading_symbols.voices(voice_symbols(logits, audio_prosody))
        placed = _flatten(tokens, symbols, present, torch.ones_like(symbols[..., 0], dtype=torch.bool))
        return TowerOutput(audio_states, placed, readings=readings, present=present)  # type: ignore[arg-type]

    def _audio_states(self, input_features: Tensor, seconds: Tensor, window_s: Tensor) -> Tensor:
        """Mean and deviation of encoder frames in each window, one layer after another, ``(I, W, audio_state_size)``,
        NaN behind the end of the sound."""
        items, chunks = input_features.shape[:2]
        count = torch.ceil(seconds / window_s - 1e-4).long()
        windows = max(int(count.max()), 1)
        left = seconds[:, None] - torch.arange(chunks, device=seconds.device)[None] * CHUNK_SECONDS
        wanted = left > 0
        layers, size = self.config.voice_layers, self.config.audio_state_size // 2
        frames = self.config.audio_config.max_source_positions
        hidden = torch.zeros(items, chunks, frames, size, device=seconds.device)
        if wanted.any():
            mel = input_features[wanted].to(next(self.audio_tower.parameters()).dtype)
            hidden[wanted] = encode_chunks(self.audio_tower, mel, left[wanted], layers, self.config.audio_context_s)
        frame_rate = frames / CHUNK_SECONDS
        states = pool_layers(hidden.flatten(1, 2), seconds, window_s, windows, frame_rate, 1 + len(layers))
        inside = torch.arange(windows, device=seconds.device)[None] < count[:, None]
        return torch.where(inside[..., None], states, float("nan"))

    @staticmethod
    def _tokens(adapter: TokenAdapter, states: Tensor, summary: Tensor) -> Tensor:
        """``(I, W + 3, text_size)``: a token per window, then the summaries."""
        kinds = torch.zeros(states.shape[:2], dtype=torch.long, device=states.device)
        summary_kinds = torch.arange(1, 1 + SUMMARY_TOKENS, device=states.device).expand(states.shape[0], -1)
        return adapter(torch.cat([states, summary], dim=1), torch.cat([kinds, summary_kinds], dim=1))


def _flatten(tokens: Tensor, symbols: Tensor, present: Tensor, stated: Tensor) -> Tensor:
    """Tokens that have a placeholder: present windows, then summaries and symbols of the items that have any window.

    tokens: ``(I, W + 3, text_size)``, symbols: ``(I, S, text_size)``, of which ``stated`` ``(I, S)`` are wanted.
    """
    seen = present.any(1, keepdim=True)
    placed = torch.cat([present, seen.expand(-1, SUMMARY_TOKENS), seen & stated], dim=1)
    return torch.cat([tokens, symbols.to(tokens.dtype)], dim=1)[placed]


class MediaTowers(TowerMixin, nn.Module):
    """The towers without a language model, for a process that reads faces and voices but does not generate."""

    def __init__(self, config: EmoLLMConfig):
        super().__init__()
        self.config = config
        self.add_towers(config)


def load_towers(folder: Path) -> MediaTowers:
    """The towers of a checkpoint folder, in float32 on the CPU; the language model is never read.

    Raises:
        WeightsError: the folder holds no EmoLLM checkpoint, or one without these parts.
    """
    try:
        towers = MediaTowers(EmoLLMConfig.from_pretrained(folder)).eval()
        names = towers.state_dict().keys()
        state: dict[str, Tensor] = {}
        for file in _weight_files(folder):
            with safe_open(file, framework="pt") as opened:
                keys = {key.removeprefix("model."): key for key in list(opened.keys())}
                state |= {name: opened.get_tensor(keys[name]) for name in names & keys.keys()}
        towers.load_state_dict(state)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise WeightsError(f"{folder} holds no EmoLLM checkpoint that can be loaded.") from error
    return towers.float()


def _weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a checkpoint, one or several with an index."""
    index = folder / "model.safetensors.index.json"
    if not index.exists():
        return [folder / "model.safetensors"]
    return [folder / name for name in sorted(set(json.loads(index.read_text())["weight_map"].values()))]
