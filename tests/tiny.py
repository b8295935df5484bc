"""A generated checkpoint: the real assembly with random parts so small that a test can run it."""

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from scipy.signal import lfilter, sawtooth
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    WhisperConfig,
    WhisperFeatureExtractor,
)
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from emollm.data import explain
from emollm.emotions import ADJECTIVES, EMOTIONS
from emollm.face.track import FaceTrack
from emollm.facs import AU_NAMES
from emollm.model.audio_encoder import VoiceHead
from emollm.model.checkpoint import assemble
from emollm.model.configuration_emollm import FaceEncoderConfig
from emollm.model.face_encoder import FaceEncoder
from emollm.model.processing_emollm import ClipInputs
from emollm.voice.prosody import Prosody

AUDIO_SIZE, VOICE_SIZE = 32, 128
_CONTROL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
_SENTENCES = (
    "You are EmoLLM. You say how people feel from face and voice, and name the evidence.",
    "face: 0s 1s 2s all voice: none user assistant system said think answer",
    "Observations: Interpretation: Conclusion: not visible. not heard. no clear action",
    "The person seems. The face as a whole shows. The voice sounds. Face and voice disagree.",
    "high pitch, low pitch, loud, quiet, varied, flat, uneven, even, fast, slow, many pauses, few pauses",
    *(question for questions in explain.QUESTIONS.values() for question in questions),
)
# What the scripted checkpoint replies: each piece is one token, and none occurs twice.
SCRIPT = (
    "<think>",
    "\nObservations: face 0-1 s: AU12 lip corner puller 3; AU4 brow lowerer 5. voice: high pitch, fast.",
    "\nInterpretation: AU12 fits happiness.",
    "\nConclusion: The person seems happy.\n",
    "</think>",
    "<answer>",
    "happiness",
    ": the lips are pulled up and the voice sounds happy.",
    "</answer>",
)


@dataclass(frozen=True)
class Parts:
    """Folders of the parts that a checkpoint is assembled from, and the file of the voice head."""

    llm: Path
    audio_encoder: Path
    face_tower: Path
    voice_head: Path


def make_llm(folder: Path, kind: type[PreTrainedModel] = LlamaForCausalLM, **changes: Any) -> Path:
    """A language model (two layers, hidden size 64) with a byte-level tokenizer that has one token for each label."""
    torch.manual_seed(0)
    tokenizer = make_tokenizer()
    sizes = {
        "vocab_size": len(tokenizer),
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,  # heads of 32, the smallest that vLLM knows on a CPU
        "num_key_value_heads": 1,
        "tie_word_embeddings": True,
        "max_position_embeddings": 2048,
        "initializer_range": 0.2,  # large enough that greedy replies are not one token over and over
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    kind(kind.config_class(**(sizes | changes))).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def make_tokenizer() -> PreTrainedTokenizerFast:
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    words = [*EMOTIONS, *ADJECTIVES.values(), *AU_NAMES, *AU_NAMES.values()]
    trainer = trainers.BpeTrainer(
        vocab_size=1200,
        special_tokens=[AddedToken(token, special=True, normalized=False) for token in _CONTROL],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator([*_SENTENCES, *[f"{word} {word}" for word in words for _ in range(20)]], trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token="<|im_start|>",
        eos_token="<|im_end|>",
        pad_token="<|im_end|>",
        unk_token="<|endoftext|>",
        clean_up_tokenization_spaces=False,
    )
    tokenizer.add_tokens([piece for piece in SCRIPT if piece[0] != "<"])
    return tokenizer


def make_parts(folder: Path) -> Parts:
    """Random parts, the same at every call."""
    make_llm(folder / "llm")
    torch.manual_seed(1)
    config = WhisperConfig(
        d_model=AUDIO_SIZE,
        encoder_layers=1,
        encoder_attention_heads=2,
        encoder_ffn_dim=64,
        num_mel_bins=80,
        max_source_positions=1500,
        decoder_layers=1,
        decoder_attention_heads=2,
        decoder_ffn_dim=64,
        dropout=0.0,
    )
    WhisperEncoder(config).save_pretrained(folder / "audio_encoder")
    WhisperFeatureExtractor(feature_size=80).save_pretrained(folder / "audio_encoder")
    FaceEncoder(FaceEncoderConfig(image_size=24, widths=[4, 8], hidden_size=16)).save_pretrained(folder / "face_tower")
    save_file(VoiceHead(AUDIO_SIZE, VOICE_SIZE).state_dict(), folder / "voice_head.safetensors")
    return Parts(folder / "llm", folder / "audio_encoder", folder / "face_tower", folder / "voice_head.safetensors")


def make_tiny(folder: Path) -> Path:
    """Save a whole tiny checkpoint in ``folder / "checkpoint"``, the parts beside it."""
    parts = make_parts(folder)
    torch.manual_seed(2)
    model, processor = assemble(parts.llm, parts.audio_encoder, parts.face_tower, parts.voice_head)
    target = folder / "checkpoint"
    model.save_pretrained(target)
    processor.save_pretrained(target)
    return target


def make_scripted(folder: Path) -> Path:
    """As `make_tiny`, but the weights say ``SCRIPT`` whatever is asked: the next token follows from the last alone."""
    parts = make_parts(folder)
    llm = make_llm(folder / "llm_scripted", tie_word_embeddings=False)
    model, processor = assemble(llm, parts.audio_encoder, parts.face_tower, parts.voice_head)
    tokenizer = processor.tokenizer
    chain = [tokenizer.encode("assistant\n", add_special_tokens=False)[-1]]
    chain += [*tokenizer.convert_tokens_to_ids(list(SCRIPT)), tokenizer.eos_token_id]
    assert len(set(chain)) == len(chain)
    with torch.no_grad():
        for layer in model.model.language_model.layers:
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
        embeddings = model.get_input_embeddings().weight
        model.lm_head.weight.mul_(0.01)
        for last, following in itertools.pairwise(chain):
            model.lm_head.weight[following] += embeddings[last] / embeddings[last].norm()
    target = folder / "scripted"
    model.save_pretrained(target)
    processor.save_pretrained(target)
    return target


PROSODY = Prosody(
    pitch_hz=180.0,
    pitch_sd_semitones=2.5,
    energy_db=-22.0,
    energy_sd_db=6.0,
    rate=5.0,
    pause_share=0.1,
    voiced_share=0.6,
    speech_s=1.5,
)


def make_track(times: list[float], seed: int = 0, landmarks: bool = True, id: int = 1) -> FaceTrack:
    """A track of random crops at ``times``."""
    random, count = np.random.default_rng(seed), len(times)
    return FaceTrack(
        id=id,
        times=np.array(times, np.float32),
        boxes=np.tile(np.array([10, 10, 60, 60], np.float32), (count, 1)),
        crops=random.integers(0, 256, (count, 112, 112, 3), dtype=np.uint8),
        blendshapes=random.random((count, 52), dtype=np.float32)
        if landmarks
        else np.full((count, 52), np.nan, np.float32),
        pose=np.zeros((count, 3), np.float32),
        quality=np.ones(count, np.float32),
        usable=np.ones(count, bool),
        box_share=0.2,
    )


def make_clip(
    seconds: float = 2.0, *, face: bool = True, voice: bool = True, seed: int = 0, fps: float = 5.0
) -> ClipInputs:
    """A clip of random frames and noise; ``seconds`` 0 is a picture."""
    times = np.arange(0, max(seconds, 0.1), 1 / fps).tolist()
    sound = np.random.default_rng(seed + 100).normal(0, 0.1, round(seconds * 16000)).astype(np.float32)
    return ClipInputs(
        duration_s=seconds,
        face=make_track(times, seed) if face else None,
        waveform=sound if voice and seconds else None,
        prosody=PROSODY if voice and seconds else None,
    )


def make_speech(seconds: float = 3.0) -> np.ndarray:
    """Sound at 16 kHz that passes for a voice: vowels ("aiai") at five syllables a second."""
    time_s = np.arange(round(seconds * 16000)) / 16000
    pulses = sawtooth(2 * np.pi * np.cumsum(150 + 20 * np.sin(2 * np.pi * 0.7 * time_s)) / 16000)
    vowels = []
    for formants in (((700, 100), (1200, 120), (2600, 160)), ((300, 80), (2200, 150), (2900, 200))):
        sound = pulses
        for centre, width in formants:
            radius = np.exp(-np.pi * width / 16000)
            sound = lfilter([1 - radius], [1, -2 * radius * np.cos(2 * np.pi * centre / 16000), radius**2], sound)
        vowels.append(0.5 * sound / np.abs(sound).max())
    voice = np.where(np.floor(5 * time_s) % 2 == 0, *vowels)
    return (voice * (0.5 - 0.5 * np.cos(2 * np.pi * 5 * time_s))).astype(np.float32)
