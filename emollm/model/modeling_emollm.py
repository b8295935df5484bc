"""EmoLLM: face tower and audio tower, adapters, any causal language model (the shape of transformers' Voxtral)."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, AutoModelForImageTextToText, GenerationMixin, PreTrainedModel
from transformers.cache_utils import Cache
from transformers.modeling_outputs import BaseModelOutputWithPast, CausalLMOutputWithPast

from emollm.model.configuration_emollm import EmoLLMConfig
from emollm.model.towers import TowerMixin, TowerOutput


class EmoLLMPreTrainedModel(PreTrainedModel):
    config_class = EmoLLMConfig
    base_model_prefix = "model"
    input_modalities = ("image", "audio", "text")  # type: ignore[assignment]
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_flash_attn = True
    _no_split_modules: ClassVar[list[str]] = [  # type: ignore[misc]
        "LlamaDecoderLayer",
        "Qwen2DecoderLayer",
        "Qwen3DecoderLayer",
    ]


class EmoLLMModel(TowerMixin, EmoLLMPreTrainedModel):
    """Everything but the language-model head.

    The media of a batch are ``I`` items (clips) in the order in which their placeholders appear; every media tensor
    has the items along dim 0, so that trainers may shuffle and split them with the batch when each sample has one.
    """

    def __init__(self, config: EmoLLMConfig):
        super().__init__(config)
        self.add_towers(config)
        self.language_model = AutoModel.from_config(config.text_config)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        return self.language_model.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.language_model.set_input_embeddings(value)

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: Tensor | None = None,
        face_pixels: Tensor | None = None,
        face_blendshapes: Tensor | None = None,
        face_window: Tensor | None = None,
        face_window_s: Tensor | None = None,
        face_states: Tensor | None = None,
        input_features: Tensor | None = None,
        audio_seconds: Tensor | None = None,
        audio_window_s: Tensor | None = None,
        audio_prosody: Tensor | None = None,
        audio_states: Tensor | None = None,
        **kwargs: Any,
    ) -> BaseModelOutputWithPast:
        """Raises ValueError when placeholders and features disagree in number, or placeholders have no features."""
        if inputs_embeds is None:
            inputs_embeds = self.get_input_embeddings()(input_ids)
        if input_ids is not None:
            faces = sounds = None
            if face_states is not None or face_pixels is not None:
                faces = self.get_face_features(
                    face_pixels, face_blendshapes, face_window, face_window_s, face_states
                ).pooler_output
            if audio_states is not None or input_features is not None:
                sounds = self.get_audio_features(
                    input_features, audio_seconds, audio_window_s, audio_prosody, audio_states
                ).pooler_output
            inputs_embeds = _place(input_ids, inputs_embeds, self.config.face_token_id, faces, "face")
            inputs_embeds = _place(input_ids, inputs_embeds, self.config.audio_token_id, sounds, "audio")
        return self.language_model(
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            **kwargs,
        )


def _place(input_ids: Tensor, embeds: Tensor, token_id: int, features: Tensor | None, name: str) -> Tensor:
    """Put features in the place of their placeholders."""
    mask = input_ids == token_id
    placeholders, found = int(mask.sum()), 0 if features is None else features.shape[0]
    if placeholders != found:
        raise ValueError(f"the text has {placeholders} {name} placeholders, but there are {found} {name} features")
    if features is None or found == 0:
        return embeds
    return embeds.masked_scatter(mask[..., None].expand_as(embeds), features.to(embeds.dtype))


class EmoLLMForConditionalGeneration(EmoLLMPreTrainedModel, GenerationMixin):
    """EmoLLM with its language-model head."""

    _tied_weights_keys: ClassVar[dict[str, str]] = {  # type: ignore[misc]
        "lm_head.weight": "model.language_model.embed_tokens.weight"
    }

    def __init__(self, config: EmoLLMConfig):
        super().__init__(config)
        self.model = EmoLLMModel(config)
        self.lm_head = nn.Linear(config.text_config.hidden_size, config.text_config.vocab_size, bias=False)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        return self.model.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.model.set_input_embeddings(value)

    def get_output_embeddings(self) -> nn.Module:
        return self.lm_head

    def get_face_features(self, *args: Any, **kwargs: Any) -> TowerOutput:
        return self.model.get_face_features(*args, **kwargs)

    def get_audio_features(self, *args: Any, **kwargs: Any) -> TowerOutput:
        return self.model.get_audio_features(*args, **kwargs)

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        logits_to_keep: int | Tensor = 0,
        face_pixels: Tensor | None = None,
        face_blendshapes: Tensor | None = None,
        face_window: Tensor | None = None,
        face_window_s: Tensor | None = None,
        face_states: Tensor | None = None,
        input_features: Tensor | None = None,
        audio_seconds: Tensor | None = None,
        audio_window_s: Tensor | None = None,
        audio_prosody: Tensor | None = None,
        audio_states: Tensor | None = None,
        **kwargs: Any,
    ) -> CausalLMOutputWithPast:
        """Media arguments as in :class:`EmoLLMModel`; ``labels`` with -100 where a token costs nothing."""
        outputs = self.model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            face_pixels=face_pixels,
            face_blendshapes=face_blendshapes,
            face_window=face_window,
            face_window_s=face_window_s,
            face_states=face_states,
            input_features=input_features,
            audio_seconds=audio_seconds,
            audio_window_s=audio_window_s,
            audio_prosody=audio_prosody,
            audio_states=audio_states,
            **kwargs,
        )
        kept = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
        logits = self.lm_head(outputs.last_hidden_state[:, kept])
        loss = None
        if labels is not None:
            loss = self.loss_function(logits=logits, labels=labels, vocab_size=self.config.text_config.vocab_size)
        return CausalLMOutputWithPast(
            loss=loss,
            logits=logits,
            past_key_values=outputs.past_key_values,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )

    def prepare_inputs_for_generation(  # type: ignore[override]
        self, input_ids: Any, is_first_iteration: bool | None = False, **kwargs: Any
    ) -> dict[str, Any]:
        """Media go in with the prompt only; later steps have them in the cache."""
        inputs = super().prepare_inputs_for_generation(  # type: ignore[misc]
            input_ids, is_first_iteration=is_first_iteration, **kwargs
        )
        if not is_first_iteration and kwargs.get("use_cache", True):
            for name in MEDIA_ARGUMENTS:
                inputs.pop(name, None)
        return inputs


MEDIA_ARGUMENTS = (
    "face_pixels", "face_blendshapes", "face_window", "face_window_s", "face_states",
    "input_features", "audio_seconds", "audio_window_s", "audio_prosody", "audio_states",
)  # fmt: skip

AutoConfig.register(EmoLLMConfig.model_type, EmoLLMConfig, exist_ok=True)
AutoModel.register(EmoLLMConfig, EmoLLMModel, exist_ok=True)
AutoModelForImageTextToText.register(EmoLLMConfig, EmoLLMForConditionalGeneration, exist_ok=True)
