"""Entry point ``vllm.general_plugins``: makes EmoLLM known in every process of vLLM.

Everything heavy is named by a string and imported when it is used.
"""

from __future__ import annotations

ARCHITECTURE = "EmoLLMForConditionalGeneration"
VIDEO_PROCESSOR = "EmoLLMVideoProcessor"  # a name only: vLLM chooses the video loader by it


def register() -> None:
    """Register configuration, model, video loader and reasoning parser. May be called any number of times."""
    from transformers.models.auto.video_processing_auto import VIDEO_PROCESSOR_MAPPING_NAMES
    from vllm import ModelRegistry
    from vllm.reasoning import ReasoningParserManager

    from emollm.model.configuration_emollm import EmoLLMConfig  # known to AutoConfig from here on
    from emollm.serve import video_loader
    from emollm.serve.vllm_setup import calm_llvmlite

    calm_llvmlite()
    if ARCHITECTURE not in ModelRegistry.get_supported_archs():
        ModelRegistry.register_model(ARCHITECTURE, "emollm.serve.vllm_model:EmoLLMForVLLM")
    VIDEO_PROCESSOR_MAPPING_NAMES[EmoLLMConfig.model_type] = VIDEO_PROCESSOR
    video_loader.register(VIDEO_PROCESSOR)
    ReasoningParserManager.register_lazy_module("emollm", "emollm.serve.reasoning_parser", "EmoLLMReasoningParser")
