"""The transformers engine: encode a clip once, then answer any number of questions about it, streamed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor
from transformers import LogitsProcessor, LogitsProcessorList, StoppingCriteria, TextIteratorStreamer

from emollm.emotions import EMOTIONS
from emollm.errors import WeightsError
from emollm.model.modeling_emollm import EmoLLMForConditionalGeneration
from emollm.model.processing_emollm import ClipInputs, EmoLLMProcessor, Placeholders
from emollm.reasoning.prompts import Message

MAX_NEW_TOKENS = 320


@dataclass(frozen=True)
class EncodedClip:
    """A clip after the towers.

    Attributes:
        placeholders: what its placeholders stand for.
        states: media arguments of the model (``face_states``, ``audio_states``, ``audio_prosody``), one item.
        face_readings: ``(W, R)`` AUs / 5, expression probabilities, valence, arousal per window; NaN rows without
            a face. None where no face is.
        voice_readings: ``(R,)`` emotion probabilities, valence, arousal, or None.
    """

    placeholders: Placeholders
    states: dict[str, Tensor]
    face_readings: Tensor | None = None
    voice_readings: Tensor | None = None


@dataclass
class Generation:
    """One finished reply: its text with section tags, and the probability of each label where the label is written."""

    text: str = ""
    distribution: dict[str, float] = field(default_factory=dict)


class _LabelReader(LogitsProcessor):
    """Reads the probability of every label off the first token behind ``<answer>``; changes nothing."""

    def __init__(self, answer_token_id: int, label_token_ids: list[int]):
        self.answer_token_id, self.label_token_ids = answer_token_id, label_token_ids
        self.probabilities: list[float] = []

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        if input_ids[0, -1] == self.answer_token_id:
            self.probabilities = scores[0, self.label_token_ids].float().softmax(-1).tolist()
        return scores


class _Stop(StoppingCriteria):
    """Ends generation when the reader of the stream has gone."""

    def __init__(self) -> None:
        self.stopped = False

    def __call__(self, input_ids: Tensor, scores: Tensor, **kwargs: Any) -> Tensor:
        return torch.full((input_ids.shape[0],), self.stopped, device=input_ids.device)


class TransformersEngine:
    """EmoLLM on transformers, greedy.

    Args:
        folder: a merged EmoLLM checkpoint.

    Raises:
        WeightsError: the folder holds no EmoLLM checkpoint.
    """

    name = "transformers"

    def __init__(self, folder: Path):
        try:
            self.processor = EmoLLMProcessor.from_pretrained(folder)
            self.model = EmoLLMForConditionalGeneration.from_pretrained(
                folder, dtype=torch.float32, use_safetensors=True
            ).eval()
        except (OSError, ValueError, KeyError, SafetensorError) as error:
            raise WeightsError(f"{folder} holds no EmoLLM checkpoint that can be loaded.") from error
        device = "cuda" if torch.cuda.is_available() else "cpu"
        self.model.to(device)
        tokenizer = self.processor.tokenizer
        # Labels differ in their first token, so one position tells them apart.
        self._label_ids = [tokenizer.encode(label, add_special_tokens=False)[0] for label in EMOTIONS]

    @torch.inference_mode()
    def encode(self, clip: ClipInputs) -> EncodedClip:
        """Run the towers over one clip and person."""
        media = {key: value.to(self.model.device) for key, value in self.processor.pack([clip]).items()}
        states: dict[str, Tensor] = {}
        face_readings = voice_readings = None
        if "face_pixels" in media:
            faces = self.model.get_face_features(media["face_pixels"], media["face_blendshapes"], media["face_window"])
            states["face_states"] = faces.last_hidden_state
            face_readings = faces.readings[0].masked_fill(~faces.present[0, :, None], float("nan")).cpu()
        if "input_features" in media:
            sound = self.model.get_audio_features(
                media["input_features"], media["audio_seconds"], media["audio_window_s"], media["audio_prosody"]
            )
            states["audio_states"] = sound.last_hidden_state
            states["audio_prosody"] = media["audio_prosody"]
            voice_readings = sound.readings[0].cpu()
        return EncodedClip(Placeholders.of(clip), states, face_readings, voice_readings)

    def stream(
        self, messages: list[Message], clip: EncodedClip, think: bool, result: Generation | None = None
    ) -> Iterator[str]:
        """Yield the reply piece by piece, section tags included; ``result`` is filled when it is finished."""
        text = self.processor.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=True, enable_thinking=think
        )
        tokens = self.processor.tokenizer(
            self.processor.expand([text], [clip.placeholders]), return_tensors="pt", add_special_tokens=False
        ).to(self.model.device)
        streamer = TextIteratorStreamer(self.processor.tokenizer, skip_prompt=True, skip_special_tokens=True)
        reader = _LabelReader(self.model.config.answer_token_id, self._label_ids)
        stop = _Stop()
        failure: list[BaseException] = []

        def generate() -> None:
            try:
                with torch.inference_mode():
                    self.model.generate(
                        **tokens,
                        **clip.states,
                        max_new_tokens=MAX_NEW_TOKENS,
                        do_sample=False,
                        streamer=streamer,
                        logits_processor=LogitsProcessorList([reader]),
                        stopping_criteria=[stop],
                    )
            except BaseException as error:
                failure.append(error)
                streamer.end()

        worker = Thread(target=generate, daemon=True)
        worker.start()
        pieces = []
        try:
            for piece in streamer:
                if piece:
                    pieces.append(piece)
                    yield piece
        finally:
            stop.stopped = True
            worker.join()
        if failure:
            raise failure[0]
        if result is not None:
            result.text = "".join(pieces)
            result.distribution = dict(zip(EMOTIONS, reader.probabilities))

    def generate(self, messages: list[Message], clip: EncodedClip, think: bool) -> Generation:
        """The whole reply at once: the same tokens as :meth:`stream`."""
        result = Generation()
        for _ in self.stream(messages, clip, think, result):
            pass
        return result
