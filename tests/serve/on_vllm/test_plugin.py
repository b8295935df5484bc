"""The plugin is found by vLLM, and what it builds on is there."""

import importlib
import inspect
import os
import re
import subprocess
import sys

import pytest
import torch
from safetensors import safe_open
from tiny import make_llm, make_parts
from transformers import LlamaForCausalLM, Qwen2ForCausalLM, Qwen3ForCausalLM

from emollm.errors import BadArgumentError
from emollm.model.checkpoint import assemble
from emollm.serve import vllm_setup

FRESH = """
from vllm.plugins import load_general_plugins
load_general_plugins()
load_general_plugins()
from transformers import AutoConfig
from vllm import ModelRegistry
from vllm.multimodal.video import VIDEO_LOADER_REGISTRY
from vllm.reasoning import ReasoningParserManager
from vllm.transformers_utils.processor import get_video_processor_cls_name_from_config
import sys
assert "EmoLLMForConditionalGeneration" in ModelRegistry.get_supported_archs()
assert "emollm" in ReasoningParserManager.list_registered()
assert type(AutoConfig.from_pretrained(sys.argv[1])).__name__ == "EmoLLMConfig"
name = get_video_processor_cls_name_from_config(sys.argv[1])
loader = VIDEO_LOADER_REGISTRY.load(VIDEO_LOADER_REGISTRY.get_backend_for_video_processor(name))
print(type(loader).__name__)
"""


def test_a_fresh_process_knows_everything_through_the_entry_point(tiny):
    done = subprocess.run([sys.executable, "-c", FRESH, str(tiny)], capture_output=True, text=True, env=os.environ)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.splitlines()[-1] == "EmoLLMVideoLoader"


QUIET = """
import sys
from pathlib import Path
import torch
from emollm.serve.vllm_engine import start_in_process
engine = start_in_process(Path(sys.argv[1]), max_model_len=512)
torch.set_num_threads(1)
print("report")
engine.engine_core.shutdown()
"""


def test_vllm_writes_nothing_among_the_reports(tiny):
    """On stdout; ``analyze --json`` writes its reports there."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("VLLM_")}
    done = subprocess.run([sys.executable, "-c", QUIET, str(tiny)], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout == "report\n"
    assert "set_num_threads" not in done.stderr


def test_the_version_is_answered(monkeypatch):
    import importlib.metadata as metadata

    monkeypatch.setattr(metadata, "version", metadata.version)
    vllm_setup.prepare_vllm()
    vllm_setup.prepare_vllm()
    assert metadata.version("vllm") == vllm_setup.vllm_version()
    with pytest.raises(metadata.PackageNotFoundError):
        metadata.version("no such package")


@pytest.mark.parametrize("version", ["0.30.2", "0.32.0", "1.0.0+cpu"])
def test_another_version_is_refused_in_one_sentence(version, monkeypatch):
    monkeypatch.setattr(vllm_setup, "vllm_version", lambda: version)
    with pytest.raises(BadArgumentError, match=re.escape(f"runs on vLLM 0.31.x, but {version} is installed.")):
        vllm_setup.prepare_vllm()


# What the plugin overrides or calls, with the arguments that it relies on. vLLM promises none of it.
PROCESSOR = "vllm.multimodal.processing:BaseMultiModalProcessor"
API = {
    f"{PROCESSOR}._call_hf_processor": ("hf_data", "hf_kwargs"),
    f"{PROCESSOR}._get_mm_fields_config": (
        "hf_inputs",
        "hf_processor_mm_kwargs",
    ),
    f"{PROCESSOR}._get_prompt_updates": (
        "mm_items",
        "hf_processor_mm_kwargs",
        "out_mm_kwargs",
    ),
    f"{PROCESSOR}.apply": ("inputs", "timing_ctx"),
    f"{PROCESSOR}._apply_prompt_updates": ("token_ids", "mm_prompt_updates"),
    "vllm.multimodal.processing:BaseProcessingInfo.get_data_parser": (),
    "vllm.multimodal.processing:BaseProcessingInfo.get_default_tok_params": (),
    "vllm.multimodal.processing:BaseProcessingInfo.get_supported_mm_limits": (),
    "vllm.multimodal.processing:BaseProcessingInfo.get_mm_max_tokens_per_item": ("seq_len", "mm_counts"),
    "vllm.multimodal.processing:BaseDummyInputsBuilder.get_dummy_mm_data": ("seq_len", "mm_counts", "mm_options"),
    "vllm.multimodal.processing.processor:PlaceholderFeaturesInfo": (
        "modality",
        "item_idx",
        "start_idx",
        "tokens",
        "is_embed",
    ),
    "vllm.multimodal.parse:MultiModalDataParser._get_subparsers": (),
    "vllm.multimodal.parse:ProcessorBatchItems.get_item_for_hash": ("index",),
    "vllm.multimodal.inputs:MultiModalFieldConfig.batched": ("modality",),
    "vllm.multimodal.audio:AudioResampler.resample": ("audio", "orig_sr"),
    "vllm.multimodal.video:VideoLoader.load_bytes": ("data",),
    "vllm.multimodal.video:VIDEO_LOADER_REGISTRY.register": ("name", "video_processor"),
    "vllm.model_executor.models.interfaces:SupportsMultiModal._mark_tower_model": ("vllm_config", "modalities"),
    "vllm.model_executor.models.interfaces:SupportsMultiModal._mark_language_model": ("vllm_config",),
    "vllm.model_executor.models.interfaces:SupportsMultiModal.embed_multimodal": (),
    "vllm.model_executor.models.utils:init_vllm_registered_model": ("vllm_config", "hf_config", "architectures"),
    "vllm.model_executor.models.utils:WeightsMapper": ("orig_to_new_prefix",),
    "vllm.model_executor.models.utils:AutoWeightsLoader.load_weights": ("weights", "mapper"),
    "vllm.reasoning:ReasoningParserManager.register_lazy_module": ("name", "module_path", "class_name"),
    "vllm.reasoning.basic_parsers:BaseThinkingReasoningParser.extract_reasoning_streaming": ("previous_text",),
}


@pytest.mark.parametrize("name", API)
def test_what_the_plugin_builds_on_is_there(name):
    module, _, path = name.partition(":")
    sentence = f"This vLLM ({vllm_setup.vllm_version()}) no longer has {name} as the plugin uses it."
    try:
        found = importlib.import_module(module)
        for part in path.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError):
        pytest.fail(sentence)
    assert set(API[name]) <= set(inspect.signature(found).parameters), sentence


@pytest.mark.parametrize(
    "kind", [LlamaForCausalLM, Qwen2ForCausalLM, Qwen3ForCausalLM], ids=lambda kind: kind.__name__
)
@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
def test_other_language_models_are_built_and_loaded_bit_by_bit(engine, kind, tied, tmp_path):
    """In the engine's process, which has what vLLM's layers need to be built."""
    from vllm.config import set_current_vllm_config
    from vllm.engine.arg_utils import EngineArgs
    from vllm.model_executor.model_loader.utils import initialize_model
    from vllm.utils.torch_utils import set_default_torch_dtype

    parts = make_parts(tmp_path)
    llm = make_llm(tmp_path / "other", kind, head_dim=32, tie_word_embeddings=tied)
    whole, processor = assemble(llm, parts.audio_encoder, parts.face_tower, parts.voice_head)
    whole.save_pretrained(tmp_path / "checkpoint")
    processor.save_pretrained(tmp_path / "checkpoint")
    config = EngineArgs(str(tmp_path / "checkpoint"), dtype="float32", enforce_eager=True).create_engine_config()
    with set_current_vllm_config(config), set_default_torch_dtype(torch.float32):
        model = initialize_model(config)
    with safe_open(tmp_path / "checkpoint" / "model.safetensors", framework="pt") as file:
        loaded = set()
        for key in list(file.keys()):
            loaded |= model.load_weights([(key, file.get_tensor(key))])
    missing = {name for name, _ in model.named_parameters()} - loaded
    assert missing <= ({"language_model.lm_head.weight"} if tied else set())
    assert type(model.language_model).__name__ == kind.__name__
    state = whole.model.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in model.media.state_dict().items())
    assert torch.equal(model.language_model.model.norm.weight, whole.model.language_model.norm.weight)


def test_vllm_looks_through_numbas_library_without_harm():
    import numba  # noqa: F401, loaded before an engine starts, as by the measuring of a voice
    from vllm.triton_utils.dispatcher import _rebind_kernels

    vllm_setup.prepare_vllm()
    _rebind_kernels([])
