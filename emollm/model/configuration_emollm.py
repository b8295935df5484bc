"""Configurations of EmoLLM and its face tower, in the shape of transformers' multimodal models (compare Voxtral)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from transformers import AutoConfig, PretrainedConfig
from transformers.models.auto import CONFIG_MAPPING

from emollm.emotions import EMOTIONS, EXPRESSIONS
from emollm.facs import AU_CODES

# Channels of MobileNet's blocks; each that is wider than the one before, but for the first, halves the resolution.
MOBILENET = (64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 512, 1024, 1024)
SUMMARY_TOKENS = 3  # after the time-aligned tokens of each modality


class FaceEncoderConfig(PretrainedConfig):
    """The face tower: a MobileNet over small grey crops, joined with the 52 blendshapes.

    Args:
        image_size: side of the crop in pixels that the network sees.
        widths: channels of the blocks; a block that is wider than the one before, but for the first, halves the
            resolution, and so does the stem, which has half the channels of the first.
        hidden_size: width of the fused per-frame feature.
        num_blendshapes: blendshape scores per frame (MediaPipe gives 52).
        dropout: before and after the fusing layer.
        mirrored: read each face mirrored, too, and average (not in training). Takes twice as long.
    """

    model_type = "emollm_face"

    def __init__(
        self,
        image_size: int = 80,
        widths: Sequence[int] = MOBILENET,
        hidden_size: int = 256,
        num_blendshapes: int = 52,
        dropout: float = 0.3,
        mirrored: bool = False,
        **kwargs: Any,
    ):
        self.image_size = image_size
        self.widths = list(widths)
        self.hidden_size = hidden_size
        self.num_blendshapes = num_blendshapes
        self.dropout = dropout
        self.mirrored = mirrored
        super().__init__(**kwargs)

    @property
    def num_readings(self) -> int:
        """What the heads say of one frame: AU intensities, expression probabilities, valence, arousal."""
        return len(AU_CODES) + len(EXPRESSIONS) + 2

    @property
    def feature_size(self) -> int:
        """Width of one frame's feature: the fused hidden state, then the readings."""
        return self.hidden_size + self.num_readings


class EmoLLMConfig(PretrainedConfig):
    """EmoLLM: face tower, audio tower, adapters and any causal language model.

    Args:
        text_config: configuration of a Hugging Face causal language model.
        face_config: :class:`FaceEncoderConfig` or its dict.
        audio_config: configuration of a Hugging Face speech encoder that takes fixed windows of log-mel (Whisper).
        face_token_id, audio_token_id: placeholders, one for each adapter token.
        answer_token_id: opens the answer; the label's probabilities are read off behind it.
        adapter_size: hidden width of both adapters.
        voice_size: hidden width of the voice head.
        voice_layers: layers of the audio tower that the voice head hears instead of the last one; 0 enters the first.
        audio_context_s: the audio tower reads the sound, rounded up to multiples of this, instead of 30 s (Whisper).
    """

    model_type = "emollm"
    sub_configs: ClassVar[dict[str, Any]] = {
        "text_config": AutoConfig,
        "face_config": FaceEncoderConfig,
        "audio_config": AutoConfig,
    }
    # TRL and vLLM look for an image token to tell placeholders from text.
    attribute_map: ClassVar[dict[str, str]] = {"image_token_id": "face_token_id"}

    def __init__(
        self,
        text_config: dict | PretrainedConfig | None = None,
        face_config: dict | FaceEncoderConfig | None = None,
        audio_config: dict | PretrainedConfig | None = None,
        face_token_id: int = 0,
        audio_token_id: int = 1,
        answer_token_id: int = 2,
        adapter_size: int = 384,
        voice_size: int = 128,
        voice_layers: Sequence[int] = (),
        audio_context_s: float | None = None,
        **kwargs: Any,
    ):
        self.text_config = _sub_config(text_config, "llama")
        if face_config is None or isinstance(face_config, dict):
            face_config = FaceEncoderConfig(**(face_config or {}))
        self.face_config = face_config
        self.audio_config = _sub_config(audio_config, "whisper")
        self.face_token_id = face_token_id
        self.audio_token_id = audio_token_id
        self.answer_token_id = answer_token_id
        self.adapter_size = adapter_size
        self.voice_size = voice_size
        self.voice_layers = list(voice_layers)
        self.audio_context_s = audio_context_s
        self.hidden_size = self.text_config.hidden_size
        kwargs.setdefault("tie_word_embeddings", self.text_config.tie_word_embeddings)
        super().__init__(**kwargs)

    @property
    def audio_state_size(self) -> int:
        """Mean and deviation of the audio tower's last layer and of each layer that the voice head hears."""
        return 2 * self.audio_config.d_model * (1 + len(self.voice_layers))

    @property
    def num_voice_readings(self) -> int:
        """What the voice head says of one clip: emotion probabilities, valence, arousal."""
        return len(EMOTIONS) + 2


def _sub_config(config: dict | PretrainedConfig | None, default: str) -> Any:
    if isinstance(config, PretrainedConfig):
        return config
    values = dict(config or {})
    return CONFIG_MAPPING[values.pop("model_type", default)](**values)


AutoConfig.register(FaceEncoderConfig.model_type, FaceEncoderConfig)
AutoConfig.register(EmoLLMConfig.model_type, EmoLLMConfig)
