"""Media of a request on their way through vLLM: parsed, checked, packed, and their places in the prompt expanded.

All of this runs in the API process. Whatever form an item came in (an upload as vLLM decoded it, a
:class:`ClipInputs`, an :class:`EncodedClip`), the engine gets the same checked tensors, so that no request can bring
wrong shapes into the engine process.
"""

from __future__ import annotations

import io
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from threading import Lock
from typing import Any

import numpy as np
import torch
from cachetools import LRUCache
from PIL import Image
from torch import Tensor
from transformers import BatchFeature
from vllm.inputs import MultiModalInput
from vllm.multimodal.audio import AudioResampler
from vllm.multimodal.inputs import MultiModalFieldConfig, MultiModalKwargsItems
from vllm.multimodal.media import MediaWithBytes
from vllm.multimodal.parse import MultiModalDataItems, MultiModalDataParser, ProcessorBatchItems
from vllm.multimodal.processing import (
    BaseDummyInputsBuilder,
    BaseMultiModalProcessor,
    BaseProcessingInfo,
    ProcessorInputs,
    PromptReplacement,
    PromptUpdateDetails,
    TimingContext,
)
from vllm.multimodal.processing.processor import (
    MultiModalPromptUpdates,
    PlaceholderFeaturesInfo,
    ResolvedPromptUpdate,
)
from vllm.renderers import TokenizeParams

from emollm.face.detect import BLENDSHAPES
from emollm.media.clip import SAMPLE_RATE
from emollm.model.audio_encoder import PROSODY_SIZE
from emollm.model.configuration_emollm import SUMMARY_TOKENS, EmoLLMConfig
from emollm.model.processing_emollm import (
    AUDIO_TOKEN,
    FACE_TOKEN,
    MAX_WINDOWS,
    WINDOW_SECONDS,
    ClipInputs,
    EmoLLMProcessor,
    Placeholders,
)
from emollm.model.symbols import FACE_SYMBOLS, STILL_SYMBOLS, VOICE_SYMBOLS
from emollm.serve.engine import EncodedClip
from emollm.serve.video_loader import clip_bytes, read_upload
from emollm.voice.prosody import measure_prosody

#: What each modality shows, and what stands for it in a prompt (see the chat template).
MARKS = {"video": FACE_TOKEN + AUDIO_TOKEN, "image": FACE_TOKEN, "audio": AUDIO_TOKEN}
FACE_FIELDS = ("face_pixels", "face_blendshapes", "face_window", "face_window_s", "face_states")
AUDIO_FIELDS = ("input_features", "audio_seconds", "audio_window_s", "audio_prosody", "audio_states")
KEPT_BYTES = 256 << 20  # of clips in packed form
_MAY_BE_NAN = ("face_blendshapes", "face_states", "audio_states")


@dataclass(frozen=True)
class PackedItem:
    """One checked media item: what its placeholders stand for, and every field of the model without the item axis.

    A field that does not apply is empty: those of a missing modality, those of the towers where states are given.
    """

    placeholders: Placeholders
    fields: dict[str, Tensor]


def _nbytes(kept: tuple[ClipInputs, PackedItem]) -> int:
    clip, packed = kept
    return clip_bytes(clip) + sum(value.nbytes for value in packed.fields.values())


class Packer:
    """Turns any accepted form of an item into a :class:`PackedItem`.

    Args:
        config: of the model, which decides shapes.
        processor: packs clips exactly as for transformers.
    """

    def __init__(self, config: EmoLLMConfig, processor: EmoLLMProcessor):
        self.processor = processor
        self._lock = Lock()
        self._packed: LRUCache[Any, tuple[ClipInputs, PackedItem]] = LRUCache(KEPT_BYTES, _nbytes)
        size, mels = config.face_config.image_size, config.audio_config.num_mel_bins
        frames = 2 * config.audio_config.max_source_positions
        # None stands for any length; all lengths of the same letter agree.
        self.shapes: dict[str, tuple[torch.dtype, tuple[int | str, ...]]] = {
            "face_pixels": (torch.uint8, ("T", size, size, 3)),
            "face_blendshapes": (torch.float32, ("T", len(BLENDSHAPES))),
            "face_window": (torch.int64, ("T",)),
            "face_window_s": (torch.float32, ()),
            "face_states": (torch.float32, ("W", config.face_config.feature_size)),
            "input_features": (torch.float32, ("C", mels, frames)),
            "audio_seconds": (torch.float32, ()),
            "audio_window_s": (torch.float32, ()),
            "audio_prosody": (torch.float32, (PROSODY_SIZE,)),
            "audio_states": (torch.float32, ("V", config.audio_state_size)),
        }

    def pack(self, item: Any, modality: str) -> PackedItem:
        """Check and pack one item; of an image only the face counts, of a sound only the voice.

        A clip that was read once for several questions is packed once.

        Raises:
            ValueError: the item is of no accepted form, holds nothing, or its arrays are wrong.
        """
        if isinstance(item, PackedItem):
            return item
        if isinstance(item, EncodedClip):
            placeholders, fields = item.placeholders, {name: value[0] for name, value in item.states.items()}
        else:
            clip = as_clip(item)
            with self._lock:
                known = self._packed.get((id(clip), modality))
            if known is not None:
                return known[1]
            # Kept with the clip itself, so that no other clip can get its id.
            placeholders = Placeholders.of(clip)
            fields = {name: value[0] for name, value in self.processor.pack([clip]).items()}
        if modality == "image":
            placeholders = Placeholders(placeholders.face, 0, placeholders.window_s, placeholders.timed)
        elif modality == "audio":
            placeholders = Placeholders([], placeholders.audio, placeholders.window_s, placeholders.timed)
        if not placeholders.face and not placeholders.audio:
            raise ValueError(f"The {modality} shows no face and holds no voice, so there is nothing to read.")
        packed = PackedItem(placeholders, self.checked(fields, placeholders))
        if not isinstance(item, EncodedClip):
            with self._lock, suppress(ValueError):  # larger than all that may be kept
                self._packed[id(clip), modality] = clip, packed
        return packed

    def checked(self, fields: dict[str, Tensor], placeholders: Placeholders) -> dict[str, Tensor]:
        """Every field, float32 on the CPU; those that are not there empty.

        Raises:
            ValueError: a field has another shape or type, is not finite, or does not fit the placeholders.
        """
        wanted = (*(FACE_FIELDS if placeholders.face else ()), *(AUDIO_FIELDS if placeholders.audio else ()))
        if placeholders.audio and "audio_prosody" not in fields:
            raise ValueError("sound needs audio_prosody")
        if placeholders.face and "face_window_s" not in fields:
            raise ValueError("faces need face_window_s")
        lengths: dict[str, int] = {}
        checked = {}
        for name, (dtype, shape) in self.shapes.items():
            if name not in fields or name not in wanted:
                checked[name] = torch.zeros([0 if isinstance(n, str) else n for n in shape], dtype=dtype)
                continue
            value = fields[name]
            value = value.detach().to("cpu", torch.float32 if value.is_floating_point() else value.dtype)
            if value.dtype != dtype or value.ndim != len(shape):
                raise ValueError(f"{name} must be {dtype} of shape {shape}, not {value.dtype} {tuple(value.shape)}.")
            for found, size in zip(value.shape, shape):
                if found != (lengths.setdefault(size, found) if isinstance(size, str) else size):
                    raise ValueError(f"{name} must have the shape {shape}, not {tuple(value.shape)}.")
            # NaN says that a frame or window is not there; elsewhere it would spread until features were missing.
            if value.isinf().any() or (name not in _MAY_BE_NAN and value.isnan().any()):
                raise ValueError(f"{name} holds numbers that are not finite.")
            checked[name] = value.contiguous()
        self._check_counts(checked, placeholders)
        return checked

    def _check_counts(self, fields: dict[str, Tensor], placeholders: Placeholders) -> None:
        """The engine would die of features and placeholders that differ in number."""
        shown = fields["face_window"][fields["face_window"] >= 0].unique().tolist()
        if fields["face_states"].numel():
            shown = (~fields["face_states"].isnan().any(-1)).nonzero()[:, 0].tolist()
        if shown != placeholders.face or (shown and shown[-1] >= MAX_WINDOWS):
            raise ValueError("The windows that show a face and their states differ in number.")
        if shown and bool(fields["face_window_s"] > 0) != placeholders.timed:
            raise ValueError("A face with times needs windows longer than 0 s, and a picture those of 0 s.")
        heard = 0
        if fields["audio_states"].numel():
            heard = int((~fields["audio_states"].isnan().any(-1)).sum())
        elif fields["input_features"].numel():
            heard = int(torch.ceil(fields["audio_seconds"] / fields["audio_window_s"] - 1e-4))
        if heard != placeholders.audio or heard > MAX_WINDOWS:
            raise ValueError("The windows that hold sound and their states differ in number.")


def as_clip(item: Any) -> ClipInputs:
    """A clip of what vLLM decoded: a video of our loader, a picture, or ``(waveform, rate)``.

    Raises:
        ValueError: it is something else, cannot be read, or holds nothing.
    """
    if isinstance(item, ClipInputs):
        return item
    if isinstance(item, MediaWithBytes) and isinstance(item.media, Image.Image):
        return read_upload(item.original_bytes)
    if isinstance(item, Image.Image):
        file = io.BytesIO()
        item.convert("RGB").save(file, "PNG")
        return read_upload(file.getvalue())
    media = item.media if isinstance(item, MediaWithBytes) else item
    if isinstance(media, tuple) and len(media) == 2:
        if isinstance(media[1], dict) and isinstance(media[1].get("clip"), ClipInputs):
            return media[1]["clip"]
        if isinstance(media[0], np.ndarray) and isinstance(media[1], (int, float)):
            return _voice(media[0], media[1])
    raise ValueError("A clip must be sent as a whole file: a video, a picture or a sound.")


def _voice(samples: np.ndarray, rate: float) -> ClipInputs:
    if samples.ndim == 2:
        samples = samples.mean(int(np.argmin(samples.shape)))
    waveform = AudioResampler(target_sr=SAMPLE_RATE, method="pyav").resample(samples.astype(np.float32), orig_sr=rate)
    waveform = np.ascontiguousarray(waveform, np.float32)
    prosody = measure_prosody(waveform) if waveform.size else None
    if prosody is None:
        raise ValueError("The sound holds no voice.")
    return ClipInputs(len(waveform) / SAMPLE_RATE, None, waveform, prosody)


class PackedItems(ProcessorBatchItems[Any]):
    """The packed items of one modality."""

    def get_item_for_hash(self, index: int) -> object:
        item = self.data[index]
        return {**asdict(item.placeholders), **item.fields}


class EmoLLMDataParser(MultiModalDataParser):
    """Parses every modality to :class:`PackedItems`."""

    def __init__(self, packer: Packer):
        super().__init__()
        self.packer = packer

    def _get_subparsers(self) -> Mapping[str, Any]:
        return {modality: partial(self._parse, modality) for modality in MARKS}

    def _parse(self, modality: str, data: Any) -> PackedItems | None:
        if data is None:
            return None
        items = data if isinstance(data, list) else [data]
        return PackedItems([self.packer.pack(item, modality) for item in items], modality)


class EmoLLMProcessingInfo(BaseProcessingInfo):
    """What vLLM asks about the model's media."""

    def get_hf_config(self) -> EmoLLMConfig:
        return self.ctx.get_hf_config(EmoLLMConfig)

    def get_hf_processor(self, **kwargs: object) -> EmoLLMProcessor:
        return self.ctx.get_hf_processor(EmoLLMProcessor)  # arguments of a request change nothing

    @cached_property
    def packer(self) -> Packer:
        return Packer(self.get_hf_config(), self.get_hf_processor())

    def get_data_parser(self) -> EmoLLMDataParser:
        return EmoLLMDataParser(self.packer)

    def get_default_tok_params(self) -> TokenizeParams:
        return super().get_default_tok_params().with_kwargs(add_special_tokens=False)  # the template has them

    def get_supported_mm_limits(self) -> Mapping[str, int | None]:
        return dict.fromkeys(MARKS)

    def get_mm_max_tokens_per_item(self, seq_len: int, mm_counts: Mapping[str, int]) -> Mapping[str, int]:
        face, voice = (MAX_WINDOWS + SUMMARY_TOKENS + symbols for symbols in (FACE_SYMBOLS, VOICE_SYMBOLS))
        return {"video": face + voice, "image": 1 + SUMMARY_TOKENS + STILL_SYMBOLS, "audio": voice}


class EmoLLMDummyInputsBuilder(BaseDummyInputsBuilder[EmoLLMProcessingInfo]):
    """The largest items, for vLLM to measure memory with."""

    def get_dummy_text(self, mm_counts: Mapping[str, int]) -> str:
        return "\n".join("\n".join([mark] * mm_counts.get(modality, 0)) for modality, mark in MARKS.items())

    def get_dummy_mm_data(self, seq_len: int, mm_counts: Mapping[str, int], mm_options: Any) -> Mapping[str, Any]:
        packer = self.info.packer
        chunks = int(np.ceil(MAX_WINDOWS * WINDOW_SECONDS / 30))

        def largest(modality: str) -> PackedItem:
            windows = 1 if modality == "image" else MAX_WINDOWS
            full = {"T": windows, "C": chunks, "W": 0, "V": 0}
            fields = {
                name: torch.zeros([full[n] if isinstance(n, str) else n for n in shape], dtype=dtype)
                for name, (dtype, shape) in packer.shapes.items()
            }
            fields["face_window"] = torch.arange(windows)
            fields["audio_seconds"] = torch.tensor(MAX_WINDOWS * WINDOW_SECONDS)
            fields["audio_window_s"] = torch.tensor(WINDOW_SECONDS)
            face = list(range(windows)) if modality != "audio" else []
            placeholders = Placeholders(face, MAX_WINDOWS if modality != "image" else 0, timed=modality != "image")
            fields["face_window_s"] = torch.tensor(placeholders.face_window_s)
            return PackedItem(placeholders, packer.checked(fields, placeholders))

        return {modality: [largest(modality)] * count for modality, count in mm_counts.items() if count}


class EmoLLMMultiModalProcessor(BaseMultiModalProcessor[EmoLLMProcessingInfo]):
    """Gives vLLM the packed fields, and expands each clip's place in the prompt as :class:`EmoLLMProcessor` does."""

    def _call_hf_processor(self, hf_data: Mapping[str, Any], hf_kwargs: Mapping[str, object]) -> BatchFeature:
        """Packed items to fields, named after their modality because vLLM wants one modality a field."""
        fields: dict[str, list[Tensor]] = {}
        for modality, key in (("video", "videos"), ("image", "images"), ("audio", "audio")):
            for item in hf_data.get(key, ()):
                for name, value in item.fields.items():
                    fields.setdefault(f"{modality}_{name}", []).append(value)
        return BatchFeature(fields)

    def _get_mm_fields_config(
        self, hf_inputs: BatchFeature, hf_processor_mm_kwargs: Mapping[str, object]
    ) -> Mapping[str, MultiModalFieldConfig]:
        return {name: MultiModalFieldConfig.batched(name.split("_", 1)[0]) for name in hf_inputs}

    def _get_prompt_updates(
        self,
        mm_items: MultiModalDataItems,
        hf_processor_mm_kwargs: Mapping[str, object],
        out_mm_kwargs: MultiModalKwargsItems,
    ) -> Sequence[PromptReplacement]:
        tokenizer = self.info.get_tokenizer()

        def run(modality: str, index: int) -> PromptUpdateDetails:
            (text,) = self.info.get_hf_processor().expand([MARKS[modality]], [mm_items[modality][index].placeholders])
            tokens = tokenizer.encode(text, add_special_tokens=False)
            return PromptUpdateDetails.select_token_ids(tokens, self._placeholder_ids)

        return [
            PromptReplacement(modality, target=tokenizer.encode(MARKS[modality]), replacement=partial(run, modality))
            for modality in mm_items
        ]

    @property
    def _placeholder_ids(self) -> list[int]:
        config = self.info.get_hf_config()
        return [config.face_token_id, config.audio_token_id]

    def apply(self, inputs: ProcessorInputs, timing_ctx: TimingContext) -> MultiModalInput:
        """Refuse a text whose places do not fit its media, as when a user typed a placeholder.

        Raises:
            ValueError: one sentence about the first kind of clip that does not fit.
        """
        given = inputs.mm_data_items.get_all_counts()
        marks, pattern = self._marks(given)
        text = self.info.get_tokenizer().decode(inputs.prompt)
        found = Counter(marks[match[0]] for match in pattern.finditer(text))
        for modality in MARKS:
            if found[modality] != given.get(modality, 0):
                raise ValueError(
                    f"The text has {found[modality]} places for a clip of kind {modality}, "
                    f"but {given.get(modality, 0)} came with it."
                )
        return super().apply(inputs, timing_ctx)

    @staticmethod
    def _marks(given: Iterable[str]) -> tuple[dict[str, str], re.Pattern[str]]:
        """The kind of each mark; without a video, a picture may stand right before a sound."""
        marks = {mark: kind for kind, mark in MARKS.items() if kind != "video" or kind in given}
        return marks, re.compile("|".join(map(re.escape, marks)))

    def _apply_prompt_updates(
        self, token_ids: list[int], mm_prompt_updates: MultiModalPromptUpdates
    ) -> tuple[list[int], Mapping[str, list[PlaceholderFeaturesInfo]]]:
        """Expand the text as a whole, as for transformers: tokens may reach over the border of a run."""
        tokenizer = self.info.get_tokenizer()
        marks, pattern = self._marks(mm_prompt_updates)
        waiting = {modality: iter(updates) for modality, updates in mm_prompt_updates.items()}
        items: list[ResolvedPromptUpdate] = []

        def fill(match: re.Match[str]) -> str:
            items.append(next(waiting[marks[match[0]]])[0])
            return tokenizer.decode(items[-1].content.full)

        new_ids = tokenizer.encode(pattern.sub(fill, tokenizer.decode(token_ids)), add_special_tokens=False)
        embedded = torch.isin(torch.tensor(new_ids), torch.tensor(self._placeholder_ids))
        free, places = embedded.nonzero()[:, 0].tolist(), defaultdict(list)
        for item in items:
            count = sum(token in self._placeholder_ids for token in item.content.full)
            start, end = free[0], free[count - 1] + 1
            free = free[count:]
            place = PlaceholderFeaturesInfo(
                item.modality, item.item_idx, start, new_ids[start:end], embedded[start:end]
            )
            places[item.modality].append(place)
        return new_ids, places
