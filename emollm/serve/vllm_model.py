"""EmoLLM in vLLM: its own towers and adapters in front of whatever language model vLLM has for the text config."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
from vllm.config import VllmConfig
from vllm.model_executor.models.interfaces import SupportsLoRA, SupportsMultiModal, SupportsPP
from vllm.model_executor.models.module_mapping import MultiModelKeys
from vllm.model_executor.models.utils import (
    AutoWeightsLoader,
    WeightsMapper,
    init_vllm_registered_model,
    maybe_prefix,
)
from vllm.multimodal import MULTIMODAL_REGISTRY
from vllm.sequence import IntermediateTensors

from emollm.model.configuration_emollm import EmoLLMConfig
from emollm.model.towers import MediaTowers
from emollm.serve.vllm_processing import (
    AUDIO_FIELDS,
    FACE_FIELDS,
    MARKS,
    EmoLLMDummyInputsBuilder,
    EmoLLMMultiModalProcessor,
    EmoLLMProcessingInfo,
)


@MULTIMODAL_REGISTRY.register_processor(
    EmoLLMMultiModalProcessor, info=EmoLLMProcessingInfo, dummy_inputs=EmoLLMDummyInputsBuilder
)
class EmoLLMForVLLM(nn.Module, SupportsMultiModal, SupportsLoRA, SupportsPP):
    """Towers (the same on every rank) and a language model (split over ranks as vLLM does); LoRA on the latter."""

    hf_to_vllm_mapper = WeightsMapper(
        orig_to_new_prefix={
            "lm_head.": "language_model.lm_head.",
            "model.language_model.": "language_model.model.",
            "model.": "media.",
        }
    )
    packed_modules_mapping = {  # noqa: RUF012, vLLM declares it so
        "qkv_proj": ["q_proj", "k_proj", "v_proj"],
        "gate_up_proj": ["gate_proj", "up_proj"],
    }

    @classmethod
    def get_placeholder_str(cls, modality: str, i: int) -> str | None:
        """What stands for an item where a chat template does not loop over parts."""
        return MARKS.get(modality)

    def __init__(self, *, vllm_config: VllmConfig, prefix: str = ""):
        super().__init__()
        self.config = config = cast(EmoLLMConfig, vllm_config.model_config.hf_config)
        with self._mark_tower_model(vllm_config, set(MARKS)):  # type: ignore[operator]
            self.media = MediaTowers(config)
        with self._mark_language_model(vllm_config):  # type: ignore[operator]
            text = config.text_config
            self.language_model: Any = init_vllm_registered_model(
                vllm_config=vllm_config,
                hf_config=text,
                prefix=maybe_prefix(prefix, "language_model"),
                architectures=text.architectures or [MODEL_FOR_CAUSAL_LM_MAPPING_NAMES[text.model_type]],
            )
        self.make_empty_intermediate_tensors = cast(Any, self.language_model).make_empty_intermediate_tensors
        self.placeholder_ids = [config.face_token_id, config.audio_token_id]

    def get_mm_mapping(self) -> MultiModelKeys:
        """Which part of the model a weight belongs to; LoRA goes to the language model only."""
        return MultiModelKeys.from_string_field(
            language_model="language_model.",
            connector=[
                f"media.{name}." for name in ("face_adapter", "audio_adapter", "prosody_adapter", "reading_symbols")
            ],
            tower_model=[f"media.{name}." for name in ("face_tower", "audio_tower", "voice_head")],
        )

    def embed_multimodal(self, **kwargs: Any) -> list[Tensor]:
        """Tokens ``(placeholders, text_size)`` of each item: those of the face, then those of the voice.

        Args:
            kwargs: fields of :class:`PackedItem`, named ``{modality}_{field}``, one entry an item.
        """
        fields = {name.split("_", 1)[1]: values for name, values in kwargs.items()}
        items = len(fields["face_pixels"]) if fields else 0
        return [self._embed({name: values[i] for name, values in fields.items()}) for i in range(items)]

    def _embed(self, item: dict[str, Tensor]) -> Tensor:
        tokens = []
        given = {name: value[None] for name, value in item.items() if value.numel()}
        if "face_states" in given or "face_pixels" in given:
            faces = self.media.get_face_features(**{name: given.get(name) for name in FACE_FIELDS})
            tokens.append(faces.pooler_output)
        if "audio_states" in given or "input_features" in given:
            sound = self.media.get_audio_features(**{name: given.get(name) for name in AUDIO_FIELDS})
            tokens.append(sound.pooler_output)
        return torch.cat(cast(list[Tensor], tokens))

    def forward(
        self,
        input_ids: Tensor | None,
        positions: Tensor,
        intermediate_tensors: IntermediateTensors | None = None,
        inputs_embeds: Tensor | None = None,
        **kwargs: Any,
    ) -> Tensor | IntermediateTensors:
        """Hidden states of the language model."""
        if intermediate_tensors is not None:
            inputs_embeds = None
        return self.language_model.model(input_ids, positions, intermediate_tensors, inputs_embeds=inputs_embeds)

    def compute_logits(self, hidden_states: Tensor) -> Tensor | None:
        """Logits with placeholders ruled out, as ``suppress_tokens`` does in transformers."""
        logits = self.language_model.compute_logits(hidden_states)
        if logits is not None:  # None on ranks that do not sample
            logits[..., self.placeholder_ids] = float("-inf")
        return logits

    def load_weights(self, weights: Iterable[tuple[str, Tensor]]) -> set[str]:
        """Load any part of a checkpoint, weight by weight."""
        return AutoWeightsLoader(self).load_weights(weights, mapper=self.hf_to_vllm_mapper)
