"""Conversions of pretrained files: on small files written here, and on the real parts where they are cached."""

import json
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType, GGUFWriter, TokenType, quants
from transformers import AutoModelForCausalLM, AutoTokenizer, WhisperFeatureExtractor
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from emollm import convert, weights
from emollm.errors import WeightsError

VARIABLES = {
    "a/weight": np.arange(6, dtype=np.float16).reshape(2, 3) / 7,
    "a/bias": np.array([1.5, -2.25], np.float32),
    "a/scale": np.array(7, np.int8),
    "a/layer": np.array([-1], np.int16),
}


def write_ctranslate2(path: Path, version: int = 6) -> None:
    """Write a file as CTranslate2's converters do."""

    def string(text: str) -> bytes:
        return struct.pack("<H", len(text) + 1) + text.encode() + b"\0"

    kinds = {np.dtype(np.float32): 0, np.dtype(np.int8): 1, np.dtype(np.int16): 2, np.dtype(np.float16): 4}
    with path.open("wb") as out:
        out.write(struct.pack("<I", version) + string("TinySpec") + struct.pack("<II", 3, len(VARIABLES)))
        for name, value in VARIABLES.items():
            out.write(string(name) + struct.pack(f"<B{value.ndim}I", value.ndim, *value.shape))
            out.write(struct.pack("<BI", kinds[value.dtype], value.nbytes) + value.tobytes())
        out.write(struct.pack("<I", 1) + string("b/weight") + string("a/weight"))


def test_ctranslate2_file_is_read_as_written(tmp_path):
    write_ctranslate2(tmp_path / "model.bin")
    variables, aliases = convert.read_ctranslate2(tmp_path / "model.bin")
    assert list(variables) == list(VARIABLES)
    for name, value in VARIABLES.items():
        assert variables[name].dtype == value.dtype
        np.testing.assert_array_equal(variables[name], value)
    assert aliases == {"b/weight": "a/weight"}


@pytest.mark.parametrize("length", [0, 3, 20, 60, 100])
def test_truncated_ctranslate2_file_is_refused(tmp_path, length):
    write_ctranslate2(tmp_path / "model.bin")
    content = (tmp_path / "model.bin").read_bytes()
    assert length < len(content)
    (tmp_path / "model.bin").write_bytes(content[:length])
    with pytest.raises(WeightsError, match="not a valid CTranslate2 file"):
        convert.read_ctranslate2(tmp_path / "model.bin")


def test_other_ctranslate2_version_is_refused(tmp_path):
    write_ctranslate2(tmp_path / "model.bin", version=5)
    with pytest.raises(WeightsError, match="version 6"):
        convert.read_ctranslate2(tmp_path / "model.bin")


TOKENS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *"0123456789abeh.", "Ġ", "he", "Ġhe", "12"]
TEMPLATE = "{% for m in messages %}<|im_start|>{{ m['content'] }}<|im_end|>{% endfor %}"


def write_gguf(path: Path) -> dict[str, np.ndarray]:
    """Write a one-layer Llama in Q4_1 and return its exact weights under GGUF's names."""
    width, inner, rng = 64, 96, np.random.default_rng(0)
    writer = GGUFWriter(path, "llama")
    writer.add_block_count(1)
    writer.add_context_length(128)
    writer.add_embedding_length(width)
    writer.add_feed_forward_length(inner)
    writer.add_head_count(2)
    writer.add_head_count_kv(1)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(len(TOKENS))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(TOKENS)
    writer.add_token_types([TokenType.CONTROL] * 3 + [TokenType.NORMAL] * (len(TOKENS) - 3))
    writer.add_token_merges(["h e", "Ġ he", "1 2"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_pad_token_id(2)
    writer.add_chat_template(TEMPLATE)
    shapes = {
        "token_embd": (len(TOKENS), width),
        "blk.0.attn_q": (width, width),
        "blk.0.attn_k": (width // 2, width),
        "blk.0.attn_v": (width // 2, width),
        "blk.0.attn_output": (width, width),
        "blk.0.ffn_gate": (inner, width),
        "blk.0.ffn_up": (inner, width),
        "blk.0.ffn_down": (width, inner),
    }
    exact = {}
    for name, shape in shapes.items():
        packed = quants.quantize(rng.standard_normal(shape).astype(np.float32), GGMLQuantizationType.Q4_1)
        writer.add_tensor(f"{name}.weight", packed, raw_dtype=GGMLQuantizationType.Q4_1)
        exact[name] = quants.dequantize(packed, GGMLQuantizationType.Q4_1)
    for name in ("output_norm", "blk.0.attn_norm", "blk.0.ffn_norm"):
        exact[name] = rng.standard_normal(width).astype(np.float32)
        writer.add_tensor(f"{name}.weight", exact[name])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return exact


@pytest.fixture(scope="module")
def small_llm(tmp_path_factory):
    source, target = tmp_path_factory.mktemp("gguf"), tmp_path_factory.mktemp("llm")
    exact = write_gguf(source / "small.gguf")
    convert.smollm2(source, target)
    return target, exact


def test_llm_weights_are_the_dequantised_ones(small_llm):
    folder, exact = small_llm
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert model.dtype == torch.float32
    assert model.lm_head.weight is model.model.embed_tokens.weight
    layer = model.model.layers[0]
    found = {
        "token_embd": model.model.embed_tokens,
        "output_norm": model.model.norm,
        "blk.0.attn_norm": layer.input_layernorm,
        "blk.0.ffn_norm": layer.post_attention_layernorm,
        "blk.0.attn_v": layer.self_attn.v_proj,
        "blk.0.attn_output": layer.self_attn.o_proj,
        "blk.0.ffn_gate": layer.mlp.gate_proj,
        "blk.0.ffn_up": layer.mlp.up_proj,
        "blk.0.ffn_down": layer.mlp.down_proj,
    }
    for name, module in found.items():
        np.testing.assert_array_equal(module.weight.detach().numpy(), exact[name], err_msg=name)
    # llama.cpp interleaves the two halves of each rotary head; transformers keeps them one after the other.
    key = exact["blk.0.attn_k"].reshape(16, 2, 64).swapaxes(0, 1).reshape(32, 64)
    np.testing.assert_array_equal(layer.self_attn.k_proj.weight.detach().numpy(), key)


def test_llm_tokenizer(small_llm):
    tokenizer = AutoTokenizer.from_pretrained(small_llm[0])
    assert (tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token) == (
        "<|im_start|>",
        "<|im_end|>",
        "<|im_end|>",
    )
    assert tokenizer.tokenize("he he 12.5") == ["he", "Ġhe", "Ġ", "1", "2", ".", "5"]  # never the token "12"
    assert tokenizer.decode(tokenizer("he he 12.5").input_ids) == "he he 12.5"
    text = tokenizer.apply_chat_template([{"role": "user", "content": "he"}], tokenize=False)
    assert text == "<|im_start|>he<|im_end|>"
    assert tokenizer(text).input_ids == [1, TOKENS.index("he"), 2]


def cached(name: str) -> Path:
    if not weights.is_cached(name):
        pytest.skip(f"the pretrained part '{name}' is not cached (emollm models pull)")
    return weights.fetch(name, progress=False)


@pytest.fixture(scope="module")
def sound() -> np.ndarray:
    """Return 6 s of a voice-like sound at 16 kHz: a gliding tone with overtones, in bursts, over faint noise."""
    time = np.arange(6 * 16000) / 16000
    phase = 2 * np.pi * np.cumsum(160 + 40 * np.sin(3 * time)) / 16000
    tone = sum(np.sin(phase * k) / k for k in range(1, 6)) * (np.sin(7 * time) > 0)
    return (0.2 * tone + 0.01 * np.random.default_rng(0).standard_normal(time.size)).astype(np.float32)


def test_real_encoder_equals_ctranslate2(sound):
    import ctranslate2

    whisper, folder = cached("whisper"), cached("audio_encoder")
    encoder, report = WhisperEncoder.from_pretrained(folder, output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    assert encoder.dtype == torch.float32
    assert sum(parameter.numel() for parameter in encoder.parameters()) == 8_208_384
    mel = WhisperFeatureExtractor.from_pretrained(folder)(sound, sampling_rate=16000, return_tensors="np")
    features = np.ascontiguousarray(mel.input_features)
    with torch.no_grad():
        ours = encoder.eval()(torch.from_numpy(features)).last_hidden_state.numpy()
    theirs = ctranslate2.models.Whisper(str(whisper), device="cpu", compute_type="float32").encode(
        ctranslate2.StorageView.from_array(features), to_cpu=True
    )
    assert np.abs(ours).max() > 5  # a real signal, against which 2e-4 is rounding
    np.testing.assert_allclose(ours, np.array(theirs), atol=2e-4, rtol=0)


def test_real_recogniser_loads_and_stays_silent_on_silence():
    from faster_whisper import WhisperModel

    model = WhisperModel(str(cached("whisper")), device="cpu", compute_type="float32", local_files_only=True)
    segments, info = model.transcribe(np.zeros(16000, np.float32), vad_filter=True)
    assert list(segments) == []
    assert info.language == "en"


@pytest.mark.default_model
def test_real_llm_follows_an_instruction():
    folder = cached("llm")
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    assert sum(parameter.numel() for parameter in model.parameters()) == 134_515_008
    chat = [{"role": "user", "content": "What is the capital of France? Answer in one word."}]
    prompt = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    answer = model.generate(**prompt, max_new_tokens=12, do_sample=False)[0, prompt["input_ids"].shape[1] :]
    assert "Paris" in tokenizer.decode(answer)


def write_tfjs(folder: Path) -> dict[str, np.ndarray]:
    """Write a MobileNet of two blocks as TensorFlow.js keeps it, and return its weights."""
    rng = np.random.default_rng(0)
    shapes = {"conv1/convolution/merged_input": (3, 3, 3, 4), "conv1_bn/batchnorm_1/sub": (4,)}
    for i, (inputs, outputs) in enumerate(((4, 8), (8, 16)), 1):
        shapes |= {
            f"conv_dw_{i}/depthwise_kernel": (3, 3, inputs, 1),
            f"conv_dw_{i}_bn/batchnorm_1/mul": (inputs,),
            f"conv_dw_{i}_bn/batchnorm_1/sub": (inputs,),
            f"conv_pw_{i}/convolution/merged_input": (1, 1, inputs, outputs),
            f"conv_pw_{i}_bn/batchnorm_1/sub": (outputs,),
        }
    weights = {name: rng.standard_normal(shape).astype(np.float16) for name, shape in shapes.items()}
    half = {"dtype": "float16", "original_dtype": "float32"}
    entries = [
        {"name": n, "shape": list(w.shape), "dtype": "float32", "quantization": half} for n, w in weights.items()
    ]
    entries.insert(0, {"name": "axes", "shape": [2], "dtype": "int32"})
    data = np.array([1, 2], np.int32).tobytes() + b"".join(weight.tobytes() for weight in weights.values())
    (folder / "net.json").write_text(json.dumps({"weightsManifest": [{"paths": ["net.bin"], "weights": entries}]}))
    (folder / "net.bin").write_bytes(data)
    return {name: weight.astype(np.float32) for name, weight in weights.items()}


def test_a_mobilenet_gives_the_same_picture_features(tmp_path):
    """A grey picture in colour through the network as it was written, and in one channel through the converted one."""
    import torch
    from safetensors.torch import load_file
    from torch.nn import functional as F

    theirs = write_tfjs(tmp_path)
    convert.mobilenet(tmp_path, tmp_path)
    ours = load_file(tmp_path / "mobilenet.safetensors")
    assert len(ours) == 2 + 2 * 4
    grey = torch.randn(1, 1, 8, 8)
    kernel = torch.from_numpy(theirs["conv1/convolution/merged_input"].transpose(3, 2, 0, 1).copy())
    torch.testing.assert_close(F.conv2d(grey, ours["stem.weight"]), F.conv2d(grey.expand(-1, 3, -1, -1), kernel))
    x = torch.randn(1, 8, 5, 5)
    kernel = torch.from_numpy(theirs["conv_dw_2/depthwise_kernel"].transpose(2, 3, 0, 1).copy())
    scaled = F.conv2d(x, kernel, groups=8) * torch.from_numpy(theirs["conv_dw_2_bn/batchnorm_1/mul"])[:, None, None]
    torch.testing.assert_close(F.conv2d(x, ours["blocks.1.depthwise.weight"], groups=8), scaled)
    assert ours["blocks.1.pointwise.weight"].shape == (16, 8, 1, 1)
    np.testing.assert_array_equal(ours["blocks.1.pointwise.bias"], theirs["conv_pw_2_bn/batchnorm_1/sub"])


def test_another_tensorflow_network_is_refused(tmp_path):
    write_tfjs(tmp_path)
    (tmp_path / "net.bin").write_bytes(b"short")
    with pytest.raises(WeightsError, match="not the expected MobileNet"):
        convert.mobilenet(tmp_path, tmp_path)
