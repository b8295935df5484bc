"""From parts to one checkpoint: assemble the default model, ship what was trained, merge it once in the cache."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import AutoFeatureExtractor, AutoModelForCausalLM, AutoTokenizer, GenerationConfig, PreTrainedModel
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from emollm.emotions import EMOTIONS, EXPRESSIONS
from emollm.errors import WeightsError
from emollm.facs import ACTION_UNITS
from emollm.model.configuration_emollm import EmoLLMConfig
from emollm.model.face_encoder import FaceEncoder
from emollm.model.modeling_emollm import EmoLLMForConditionalGeneration
from emollm.model.processing_emollm import (
    ANSWER_TOKENS,
    AUDIO_TOKEN,
    FACE_TOKEN,
    THINK_TOKENS,
    EmoLLMProcessor,
)
from emollm.model.symbols import SYMBOLS
from emollm.weights import PARTS, cached_folder, fetch

SHIPPED = Path(__file__).parent.parent / "checkpoints" / "tiny"
CHAT_TEMPLATE = Path(__file__).parent / "chat_template.jinja"
_TRAINED = ("voice_head", "face_adapter", "audio_adapter", "prosody_adapter", "reading_symbols")
_TURN, _END = "<|im_start|>", "<|im_end|>"  # marks of the chat template
_NEW_TOKENS = {
    FACE_TOKEN: " face picture", AUDIO_TOKEN: " voice sound", THINK_TOKENS[0]: " ponder inside",
    THINK_TOKENS[1]: " hence outside", ANSWER_TOKENS[0]: " verdict aloud", ANSWER_TOKENS[1]: " finished quiet",
}  # fmt: skip
_NEW_LENGTH = 1.1  # of a new token's row, in lengths of a typical one
# One pair a prosody number: the words for its high and its low end.
_PROSODY_WORDS = (
    ("high pitch", "low pitch"), ("varied", "flat"), ("loud", "quiet"), ("uneven", "even"), ("fast", "slow"),
    ("many pauses", "few pauses"), ("voiced", "whisper"), ("long", "short"),
)  # fmt: skip


def prepare_tokenizer(tokenizer: Any) -> None:
    """Add placeholders (special), section tags (not special, so that they stay in decoded text), and the template."""
    placeholders = {"additional_special_tokens": [FACE_TOKEN, AUDIO_TOKEN]}
    tokenizer.add_special_tokens(placeholders, replace_extra_special_tokens=False)
    tokenizer.add_tokens([*THINK_TOKENS, *ANSWER_TOKENS])
    if _END not in tokenizer.get_vocab():  # a model whose chats have other marks
        tokenizer.add_special_tokens({"additional_special_tokens": [_TURN, _END]}, replace_extra_special_tokens=False)
    tokenizer.eos_token = _END
    if tokenizer.pad_token is None:
        tokenizer.pad_token = _END
    tokenizer.chat_template = CHAT_TEMPLATE.read_text(encoding="utf-8")


def voice_note(voice_size: int, voice_layers: Sequence[int], audio_context_s: float | None) -> dict[str, str]:
    """What :class:`EmoLLMConfig` must know of a voice head, as metadata of the safetensors file that holds it."""
    settings = {"voice_size": voice_size, "voice_layers": list(voice_layers), "audio_context_s": audio_context_s}
    return {"voice": json.dumps(settings)}


def voice_settings(file: Path) -> dict[str, Any]:
    """Settings of :class:`EmoLLMConfig` for the voice head in a file; none where a file of before has no note."""
    with safe_open(file, framework="pt") as opened:
        return json.loads((opened.metadata() or {}).get("voice", "{}"))


def assemble(
    llm: Path | str,
    audio_encoder: Path | str,
    face_tower: Path | None = None,
    voice_head: Path | None = None,
    **settings: Any,
) -> tuple[EmoLLMForConditionalGeneration, EmoLLMProcessor]:
    """Put a model together from a language model, a speech encoder and (if given) a trained face tower and voice head.

    The adapters start with reading embeddings and the reading symbols with embeddings made of the language model's own
    words; the rest of the adapters is random.

    Args:
        llm: folder or hub id of a causal language model with its tokenizer.
        voice_head: its file also says which layers of the speech encoder it hears (:func:`voice_note`).
        settings: further keys of :class:`EmoLLMConfig`; they go before those of the voice head's file.
    """
    tokenizer: Any = AutoTokenizer.from_pretrained(llm)
    old_size, marks = len(tokenizer), (tokenizer.bos_token_id, tokenizer.eos_token_id)
    prepare_tokenizer(tokenizer)
    causal = AutoModelForCausalLM.from_pretrained(llm, dtype=torch.float32)
    causal.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    _name_new_tokens(_embeddings(causal), tokenizer, old_size, marks)
    if causal.get_output_embeddings().weight is not _embeddings(causal):
        _name_new_tokens(causal.get_output_embeddings().weight, tokenizer, old_size, marks)
    if voice_head is not None:
        settings = voice_settings(voice_head) | settings
    speech = WhisperEncoder.from_pretrained(audio_encoder)
    face = FaceEncoder.from_pretrained(face_tower) if face_tower else None
    ids = {token: tokenizer.convert_tokens_to_ids(token) for token in (FACE_TOKEN, AUDIO_TOKEN, ANSWER_TOKENS[0])}
    config = EmoLLMConfig(
        text_config=causal.config,
        audio_config=speech.config,
        face_config=face.config if face is not None else None,  # type: ignore[arg-type]
        face_token_id=ids[FACE_TOKEN],
        audio_token_id=ids[AUDIO_TOKEN],
        answer_token_id=ids[ANSWER_TOKENS[0]],
        **settings,
    )
    model = EmoLLMForConditionalGeneration(config)
    model.model.language_model.load_state_dict(causal.model.state_dict())
    model.lm_head.load_state_dict(causal.lm_head.state_dict())
    model.tie_weights()
    model.model.audio_tower.load_state_dict(speech.state_dict())
    if face is not None:
        model.model.face_tower.load_state_dict(face.state_dict())
    if voice_head is not None:
        model.model.voice_head.load_state_dict(load_file(voice_head))
    _name_readings(model, tokenizer)
    model.generation_config = GenerationConfig(
        do_sample=False,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        suppress_tokens=[ids[FACE_TOKEN], ids[AUDIO_TOKEN]],
    )
    processor = EmoLLMProcessor(
        AutoFeatureExtractor.from_pretrained(audio_encoder),
        tokenizer,
        image_size=model.config.face_config.image_size,
        chat_template=tokenizer.chat_template,
    )
    return model.eval(), processor


def _embeddings(model: PreTrainedModel) -> Tensor:
    return model.get_input_embeddings().weight  # type: ignore[return-value]


@torch.no_grad()
def _name_new_tokens(embeddings: Tensor, tokenizer: Any, old_size: int, marks: tuple[int | None, int]) -> None:
    """Start each new token between two words that share nothing, a little longer than a typical embedding.

    The rows serve as output embeddings too and are not trained. Were a row only the mean of its words, shorter than
    they are, the model could never prefer the new token to them. At the length of a typical embedding it can, but of
    answers drawn at temperature 1 one in twelve still began with one of the words in place of the tag. A token that
    the model knew before (Qwen3 thinks between the same tags) stays as it is, and new marks of turns become the
    model's own ``marks``: its first token (the last where it has none) and its last.
    """
    typical = embeddings[:old_size].norm(dim=-1).median()
    for token, words in _NEW_TOKENS.items():
        row = tokenizer.convert_tokens_to_ids(token)
        if row >= old_size:
            mean = embeddings[tokenizer.encode(words, add_special_tokens=False)].mean(0)
            embeddings[row] = mean / mean.norm() * typical * _NEW_LENGTH
    first, last = marks
    for token, known in ((_TURN, last if first is None else first), (_END, last)):
        row = tokenizer.convert_tokens_to_ids(token)
        if row >= old_size:
            embeddings[row] = embeddings[known]


@torch.no_grad()
def _name_readings(model: EmoLLMForConditionalGeneration, tokenizer: Any) -> None:
    """Reading embeddings and symbols: the mean embedding of the words, at the length of a typical token embedding."""
    embeddings = _embeddings(model)
    typical = embeddings.norm(dim=-1).median()

    def vector(words: str) -> Tensor:
        mean = embeddings[tokenizer.encode(" " + words, add_special_tokens=False)].mean(0)
        return mean / mean.norm() * typical

    def symbol(word: str) -> Tensor:
        """Digits and marks are as they are in a text, without a space before them, so that they can be copied."""
        bare = word in {*"0123456789,;."}
        return embeddings[tokenizer.encode(word, add_special_tokens=False)].mean(0) if bare else vector(word)

    core = model.model
    faces = [*(au.name for au in ACTION_UNITS), *EXPRESSIONS]
    core.face_adapter.reading.weight.copy_(_columns([vector(w) for w in faces], vector))
    core.audio_adapter.reading.weight.copy_(_columns([vector(w) for w in EMOTIONS], vector))
    prosody = [(vector(high) - vector(low)) / 2 for high, low in _PROSODY_WORDS]
    core.prosody_adapter.weight.copy_(torch.stack(prosody, dim=1))
    nn.init.zeros_(core.prosody_adapter.bias)
    for adapter in (core.face_adapter, core.audio_adapter):
        nn.init.normal_(adapter.down.weight, std=float(typical) / adapter.down.in_features**0.5 / 4)
    core.reading_symbols.symbol.weight.copy_(torch.stack([symbol(word) for word in SYMBOLS]))
    nn.init.zeros_(core.reading_symbols.slot.weight)


def _columns(vectors: list[Tensor], vector: Callable[[str], Tensor]) -> Tensor:
    """Readings as columns, then valence and arousal as differences of their two ends."""
    ends = (("pleasant", "unpleasant"), ("excited", "calm"))
    coordinates = [(vector(high) - vector(low)) / 2 for high, low in ends]
    return torch.stack([*vectors, *coordinates], dim=1)


def trained_parts(model: EmoLLMForConditionalGeneration) -> dict[str, Tensor]:
    """State of the adapters and the voice head, keyed as in :class:`EmoLLMModel`."""
    return {k: v for k, v in model.model.state_dict().items() if k.split(".")[0] in _TRAINED}


def ship(run: Path, face_tower: Path, target: Path = SHIPPED) -> None:
    """Copy what was trained into the package in half precision: face tower, adapters, LoRA. The model card stays."""
    target.mkdir(parents=True, exist_ok=True)
    tower = FaceEncoder.from_pretrained(face_tower).half()
    tower.save_pretrained(target / "face_tower")
    with safe_open(run / "adapters.safetensors", framework="pt") as opened:
        note = opened.metadata()
    save_file(_half(load_file(run / "adapters.safetensors")), target / "adapters.safetensors", metadata=note)
    lora = target / "lora"
    lora.mkdir(exist_ok=True)
    shutil.copy(run / "lora" / "adapter_config.json", lora)
    save_file(_half(load_file(run / "lora" / "adapter_model.safetensors")), lora / "adapter_model.safetensors")


def _half(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key: value.half().contiguous() for key, value in tensors.items()}


def merged(parts: Path, llm: Path, audio_encoder: Path) -> tuple[EmoLLMForConditionalGeneration, EmoLLMProcessor]:
    """The model with the trained parts of a folder in place: face_tower/, adapters.safetensors, lora/ (merged)."""
    from peft import PeftModel

    settings = voice_settings(parts / "adapters.safetensors")
    model, processor = assemble(llm, audio_encoder, face_tower=parts / "face_tower", **settings)
    adapters = {key: value.float() for key, value in load_file(parts / "adapters.safetensors").items()}
    unexpected = model.model.load_state_dict(adapters, strict=False).unexpected_keys
    if unexpected:
        raise WeightsError(f"The adapters in {parts} belong to another model: {unexpected[0]} has no place here.")
    if (parts / "lora").exists():
        model = PeftModel.from_pretrained(model, str(parts / "lora")).merge_and_unload()
    return model.float().eval(), processor


def default_model(progress: bool = True) -> Path:
    """Folder of the merged default checkpoint, made once in the cache.

    Raises:
        WeightsError: a pretrained part cannot be fetched, or this copy of the package ships no trained parts.
    """
    kinds, note = (".safetensors", ".json"), "training.json"  # which tells of the training and decides nothing
    files = sorted(file for file in SHIPPED.rglob("*") if file.suffix in kinds and file.name != note)
    if not files:
        raise WeightsError("This copy of EmoLLM ships no trained parts; reinstall the package or pass a model folder.")
    digest = hashlib.sha256()
    for key in (PARTS["llm"].key, PARTS["audio_encoder"].key):
        digest.update(key.encode())
    for file in (*files, CHAT_TEMPLATE, Path(__file__)):
        digest.update(file.read_bytes())
    key = f"emollm-tiny-{digest.hexdigest()[:12]}"

    def build(folder: Path) -> None:
        model, processor = merged(SHIPPED, fetch("llm", progress), fetch("audio_encoder", progress))
        model.save_pretrained(folder)
        processor.save_pretrained(folder)

    return cached_folder(key, build)


if __name__ == "__main__":
    ship(Path(sys.argv[1]), Path(sys.argv[2]))
