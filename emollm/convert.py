"""Pretrained files as they are distributed, turned into folders that transformers loads.

All conversions are exact: no weight is rounded, so every machine ends up with the same numbers.
"""

import contextlib
import io
import json
import math
import struct
from pathlib import Path

import numpy as np

from emollm.errors import WeightsError

_CTRANSLATE2_VERSION = 6
#: CTranslate2's type ids (ctranslate2/specs/model_spec.py, ``_dtype_to_type_id``); 5, bfloat16, has no numpy type.
_CTRANSLATE2_DTYPES = {0: np.float32, 1: np.int8, 2: np.int16, 3: np.int32, 4: np.float16}


def smollm2(source: Path, target: Path) -> None:
    """Dequantise the GGUF file in ``source`` into a transformers folder: config, weights, tokenizer, chat template.

    Q4_1 weights are ``scale * q + minimum`` with float16 scale and minimum: 42 % of them need more bits than float16
    has and 79 % more than bfloat16 has, so float32 is what holds them exactly (538 MB, embeddings tied).
    """
    import torch
    from gguf import GGUFReader
    from transformers import AutoModelForCausalLM, GgufConfig

    (file,) = source.glob("*.gguf")
    with contextlib.redirect_stderr(io.StringIO()):  # transformers' own progress bars
        model = AutoModelForCausalLM.from_pretrained(
            source, gguf_file=file.name, quantization_config=GgufConfig(dequantize=True), dtype=torch.float32
        )
        model.save_pretrained(target)
    _smollm2_tokenizer(GGUFReader(file)).save_pretrained(target)


def _smollm2_tokenizer(reader):  # type: ignore[no-untyped-def]
    """Build SmolLM2's tokenizer from the GGUF fields.

    Not through ``AutoTokenizer(gguf_file=…)``, which takes ``<|im_start|>`` for the end token and leaves out the
    splitting of digits that the "smollm" pre-tokenizer asks for.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    def field(name: str):  # type: ignore[no-untyped-def]
        return reader.fields[name].contents()

    tokens: list[str] = field("tokenizer.ggml.tokens")
    merges = [tuple(merge.split(" ")) for merge in field("tokenizer.ggml.merges")]
    control = [token for token, kind in zip(tokens, field("tokenizer.ggml.token_type")) if kind == 3]
    backend = Tokenizer(models.BPE(vocab={token: i for i, token in enumerate(tokens)}, merges=merges))
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in control])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token=tokens[field("tokenizer.ggml.bos_token_id")],
        eos_token=tokens[field("tokenizer.ggml.eos_token_id")],
        unk_token=tokens[field("tokenizer.ggml.unknown_token_id")],
        pad_token=tokens[field("tokenizer.ggml.padding_token_id")],
        model_max_length=field("llama.context_length"),
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = field("tokenizer.chat_template")
    return tokenizer


def whisper_encoder(source: Path, target: Path) -> None:
    """Turn the encoder of a CTranslate2 Whisper folder into a ``transformers.WhisperEncoder`` folder.

    The float16 values are stored as they are and the config asks for float32, which holds them exactly. The folder
    also has the matching ``WhisperFeatureExtractor``.
    """
    import torch
    from transformers import WhisperConfig, WhisperFeatureExtractor
    from transformers.models.whisper.modeling_whisper import WhisperEncoder

    variables, aliases = read_ctranslate2(source / "model.bin")
    values = variables | {alias: variables[name] for alias, name in aliases.items()}
    width, mels, _ = values["encoder/conv1/weight"].shape
    frames = values["encoder/position_encodings/encodings"].shape[0]
    vocabulary, _ = values["decoder/embeddings/weight"].shape
    text_length, _ = values["decoder/position_encodings/encodings"].shape
    layers = sum(name.endswith("ffn/layer_norm/gamma") and name.startswith("encoder/") for name in values)
    decoder_layers = sum(name.endswith("ffn/layer_norm/gamma") and name.startswith("decoder/") for name in values)
    inner, _ = values["encoder/layer_0/ffn/linear_0/weight"].shape
    heads = width // 64  # every published Whisper has heads of 64
    config = WhisperConfig(
        vocab_size=vocabulary,
        num_mel_bins=mels,
        d_model=width,
        encoder_layers=layers,
        decoder_layers=decoder_layers,
        encoder_attention_heads=heads,
        decoder_attention_heads=heads,
        encoder_ffn_dim=inner,
        decoder_ffn_dim=inner,
        max_source_positions=frames,
        max_target_positions=text_length,
    )
    state = {name: torch.from_numpy(value.copy()) for name, value in _encoder_state(values, layers).items()}
    encoder = WhisperEncoder(config).half()
    encoder.load_state_dict(state)
    with contextlib.redirect_stderr(io.StringIO()):  # transformers' own progress bar
        encoder.save_pretrained(target)
    config.architectures, config.dtype = ["WhisperEncoder"], torch.float32
    config.save_pretrained(target)
    WhisperFeatureExtractor(feature_size=mels).save_pretrained(target)


def _encoder_state(values: dict[str, np.ndarray], layers: int) -> dict[str, np.ndarray]:
    """Rename CTranslate2's encoder variables to transformers' and split its fused query-key-value projections."""
    state = {"embed_positions.weight": values["encoder/position_encodings/encodings"]}

    def linear(theirs: str, ours: str) -> None:
        state[f"{ours}.weight"], state[f"{ours}.bias"] = (
            values[f"encoder/{theirs}/weight"],
            values[f"encoder/{theirs}/bias"],
        )

    def norm(theirs: str, ours: str) -> None:
        state[f"{ours}.weight"], state[f"{ours}.bias"] = (
            values[f"encoder/{theirs}/gamma"],
            values[f"encoder/{theirs}/beta"],
        )

    linear("conv1", "conv1")
    linear("conv2", "conv2")
    norm("layer_norm", "layer_norm")
    for i in range(layers):
        theirs, ours = f"layer_{i}", f"layers.{i}"
        norm(f"{theirs}/self_attention/layer_norm", f"{ours}.self_attn_layer_norm")
        weights = np.split(values[f"encoder/{theirs}/self_attention/linear_0/weight"], 3)
        biases = np.split(values[f"encoder/{theirs}/self_attention/linear_0/bias"], 3)
        for letter, weight, bias in zip("qkv", weights, biases):
            state[f"{ours}.self_attn.{letter}_proj.weight"] = weight
            if letter != "k":  # Whisper's keys have no bias; the fused one holds zeros there
                state[f"{ours}.self_attn.{letter}_proj.bias"] = bias
        linear(f"{theirs}/self_attention/linear_1", f"{ours}.self_attn.out_proj")
        norm(f"{theirs}/ffn/layer_norm", f"{ours}.final_layer_norm")
        linear(f"{theirs}/ffn/linear_0", f"{ours}.fc1")
        linear(f"{theirs}/ffn/linear_1", f"{ours}.fc2")
    return state


def read_ctranslate2(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Read a CTranslate2 ``model.bin`` (binary version 6): variables by name, and aliases to variable names.

    Layout, little endian (ctranslate2/specs/model_spec.py, ``_serialize``): version u32, spec name, revision u32,
    variable count u32; for each variable its name, rank u8, dimensions u32, type u8, bytes u32, data; then alias
    count u32 and pairs of strings. A string is a u16 length that counts the closing zero byte. Arrays are read-only
    views of the file's bytes.

    Raises:
        WeightsError: when the file does not follow this layout.
    """
    data = path.read_bytes()
    position = 0

    def number(code: str) -> int:
        nonlocal position
        (value,) = struct.unpack_from("<" + code, data, position)
        position += struct.calcsize("<" + code)
        return value

    def string() -> str:
        nonlocal position
        length = number("H")
        position += length
        return data[position - length : position - 1].decode()

    variables: dict[str, np.ndarray] = {}
    try:
        if number("I") != _CTRANSLATE2_VERSION:
            raise WeightsError(f"The speech model is not a CTranslate2 file of version {_CTRANSLATE2_VERSION}.")
        string(), number("I")
        for _ in range(number("I")):
            name = string()
            shape = tuple(number("I") for _ in range(number("B")))
            dtype = np.dtype(_CTRANSLATE2_DTYPES[number("B")]).newbyteorder("<")
            size = number("I")
            if size != math.prod(shape) * dtype.itemsize:
                raise ValueError(name)
            variables[name] = np.frombuffer(data, dtype, math.prod(shape), position).reshape(shape)
            position += size
        aliases = {string(): string() for _ in range(number("I"))}
    except (struct.error, KeyError, ValueError) as error:
        raise WeightsError("The speech model is not a valid CTranslate2 file.") from error
    return variables, aliases


def mobilenet(source: Path, target: Path) -> None:
    """Turn a MobileNet for TensorFlow.js, its norms folded into the convolutions, into ``mobilenet.safetensors``.

    Names are those of :class:`emollm.model.face_encoder.FaceEncoder`, with a bias for each convolution. The stem takes
    one grey channel: its weights are summed over the colours, which is what a grey picture in colour would meet.

    Raises:
        WeightsError: when the files hold no such network.
    """
    import torch
    from safetensors.torch import save_file

    (topology,) = source.glob("[!.]*.json")
    try:
        values = _read_tfjs(json.loads(topology.read_text()), topology.with_suffix(".bin").read_bytes())
        state = {"stem.weight": values["conv1/convolution/merged_input"].sum(2, keepdims=True).transpose(3, 2, 0, 1)}
        state["stem.bias"] = values["conv1_bn/batchnorm_1/sub"]
        for i in range(sum(name.endswith("/depthwise_kernel") for name in values)):
            deep, point = f"conv_dw_{i + 1}", f"conv_pw_{i + 1}"
            kernel = values[f"{deep}/depthwise_kernel"] * values[f"{deep}_bn/batchnorm_1/mul"][:, None]
            state[f"blocks.{i}.depthwise.weight"] = kernel.transpose(2, 3, 0, 1)
            state[f"blocks.{i}.depthwise.bias"] = values[f"{deep}_bn/batchnorm_1/sub"]
            state[f"blocks.{i}.pointwise.weight"] = values[f"{point}/convolution/merged_input"].transpose(3, 2, 0, 1)
            state[f"blocks.{i}.pointwise.bias"] = values[f"{point}_bn/batchnorm_1/sub"]
    except (KeyError, ValueError, IndexError) as error:
        raise WeightsError("The face network is not the expected MobileNet for TensorFlow.js.") from error
    tensors = {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in state.items()}
    save_file(tensors, target / "mobilenet.safetensors")


def _read_tfjs(model: dict, data: bytes) -> dict[str, np.ndarray]:
    """Weights of a TensorFlow.js model by name, in float32; they lie one behind the other, most of them as float16."""
    values, position = {}, 0
    for entry in (weight for group in model["weightsManifest"] for weight in group["weights"]):
        dtype = np.dtype(entry.get("quantization", entry)["dtype"]).newbyteorder("<")
        count = math.prod(entry["shape"])
        values[entry["name"]] = np.frombuffer(data, dtype, count, position).reshape(entry["shape"]).astype(np.float32)
        position += count * dtype.itemsize
    return values
