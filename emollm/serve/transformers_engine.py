"""The transformers engine: encode a clip once, then answer any number of questions about it, streamed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import torch
import transformers
from safetensors import SafetensorError
from torch import Tensor
from transformers import LogitsProcessor, LogitsProcessorList, StoppingCriteria, TextIteratorStreamer

from emollm.emotions import EMOTIONS
from emollm.errors import WeightsError
from emollm.model.audio_encoder import PROSODY_SIZE
from emollm.model.modeling_emollm import EmoLLMForConditionalGeneration
from emollm.model.processing_emollm import ClipInputs, EmoLLMProcessor
from emollm.reasoning.prompts import Message
from emollm.serve.engine import MAX_NEW_TOKENS, EncodedClip, Generation, Request, checkpoint_digest, encode_clip


class _LabelReader(LogitsProcessor):
    """Reads the probability of every label off each row's first token behind ``<answer>``; changes nothing."""

    def __init__(self, answer_token_id: int, label_token_ids: list[int]):
        self.answer_token_id, self.label_token_ids = answer_token_id, label_token_ids
        self.distributions: dict[int, dict[str, float]] = {}

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        for row in (input_ids[:, -1] == self.answer_token_id).nonzero()[:, 0].tolist():
            probabilities = scores[row, self.label_token_ids].float().softmax(-1).tolist()
            self.distributions[row] = dict(zip(EMOTIONS, probabilities))
        return scores


class _Draw(LogitsProcessor):
    """Adds Gumbel noise, so that the greedy choice of each row is a draw at its temperature (Gumbel-max trick).

    Every row has a seed of its own, so a reply is the same whatever else is in its batch. Rows with temperature 0 stay
    as they are.
    """

    def __init__(self, requests: list[Request], barred: list[int]):
        self.requests, self.barred = requests, barred
        self.generators = [torch.Generator().manual_seed(request.seed) for request in requests]

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        scores = scores.clone()
        for row, (request, generator) in enumerate(zip(self.requests, self.generators)):
            if request.temperature:
                noise = -torch.empty(scores.shape[1]).exponential_(generator=generator).log()
                scores[row] = scores[row] / request.temperature + noise.to(scores)
                scores[row, self.barred] = -torch.inf
        return scores


class _Stop(StoppingCriteria):
    """Ends generation when the reader of the stream has gone."""

    def __init__(self) -> None:
        self.stopped = False

    def __call__(self, input_ids: Tensor, scores: Tensor, **kwargs: Any) -> Tensor:
        return torch.full((input_ids.shape[0],), self.stopped, device=input_ids.device)


class TransformersEngine:
    """EmoLLM on transformers, greedy but where a request of a batch wants otherwise.

    Args:
        folder: a merged EmoLLM checkpoint.

    Raises:
        WeightsError: the folder holds no EmoLLM checkpoint.
    """

    name = "transformers"

    def __init__(self, folder: Path):
        self.folder = folder
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

    def describe(self) -> dict[str, str]:
        device = self.model.device
        return {
            "checkpoint_sha256": checkpoint_digest(self.folder),
            "engine": self.name,
            "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
            "dtype": str(self.model.dtype).removeprefix("torch."),
            "decoding": "greedy",
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        }

    def encode(self, clip: ClipInputs) -> EncodedClip:
        """Run the towers over one clip and person."""
        return encode_clip(clip, self.processor, self.model, str(self.model.device))

    def stream(
        self, messages: list[Message], clip: EncodedClip, think: bool, result: Generation | None = None
    ) -> Iterator[str]:
        """Yield the reply piece by piece, section tags included; ``result`` is filled when it is finished."""
        prompt = self._prompt(messages, clip, think)
        inputs = self._inputs([prompt], [clip])
        streamer = TextIteratorStreamer(self.processor.tokenizer, skip_prompt=True, skip_special_tokens=True)
        reader = _LabelReader(self.model.config.answer_token_id, self._label_ids)
        stop = _Stop()
        failure: list[BaseException] = []

        def generate() -> None:
            try:
                with torch.inference_mode():
                    self.model.generate(
                        **inputs,
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
            result.distribution = reader.distributions.get(0, {})
            result.prompt = prompt

    def generate(self, messages: list[Message], clip: EncodedClip, think: bool) -> Generation:
        """The whole reply at once: the same tokens as :meth:`stream`."""
        return self.generate_batch([Request(messages, clip)], think)[0]

    @torch.inference_mode()
    def generate_batch(self, requests: list[Request], think: bool) -> list[Generation]:
        """Whole replies to several requests, clips with and without a face or a voice mixed.

        Replies are those of :meth:`generate`, but where two tokens are all but equally likely: sums over a padded
        batch round differently in their last bits.
        """
        prompts = [self._prompt(request.messages, request.clip, think) for request in requests]
        inputs = self._inputs(
            [prompt + request.thought for prompt, request in zip(prompts, requests)],
            [request.clip for request in requests],
        )
        config = self.model.config
        reader = _LabelReader(config.answer_token_id, self._label_ids)
        choosing: list[LogitsProcessor] = [reader]
        if any(request.temperature for request in requests):
            choosing.append(_Draw(requests, [config.face_token_id, config.audio_token_id]))
        tokens = self.model.generate(
            **inputs, max_new_tokens=MAX_NEW_TOKENS, do_sample=False, logits_processor=LogitsProcessorList(choosing)
        )
        texts = self.processor.tokenizer.batch_decode(
            tokens[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True
        )
        return [
            Generation(request.thought + text, reader.distributions.get(row, {}), prompt)
            for row, (request, prompt, text) in enumerate(zip(requests, prompts, texts))
        ]

    def _prompt(self, messages: list[Message], clip: EncodedClip, think: bool) -> str:
        text = self.processor.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=True, enable_thinking=think
        )
        return self.processor.expand([text], [clip.placeholders])[0]

    def _inputs(self, texts: list[str], clips: list[EncodedClip]) -> dict[str, Tensor]:
        """Arguments of the model for a batch, one clip a row: texts padded on the left, states padded with NaN."""
        tokens = self.processor.tokenizer(
            texts, padding=True, padding_side="left", return_tensors="pt", add_special_tokens=False
        ).to(self.model.device)
        inputs = {"input_ids": tokens["input_ids"], "attention_mask": tokens["attention_mask"]}
        inputs["position_ids"] = (inputs["attention_mask"].cumsum(-1) - 1).clamp(min=0)
        for name in ("face_states", "audio_states"):
            inputs |= _pad_states(name, [clip.states.get(name) for clip in clips])
        if "face_states" in inputs:
            still = torch.zeros(1, device=inputs["face_states"].device)
            inputs["face_window_s"] = torch.cat([clip.states.get("face_window_s", still) for clip in clips])
        if "audio_states" in inputs:
            silence = torch.zeros(1, PROSODY_SIZE, device=inputs["audio_states"].device)
            inputs["audio_prosody"] = torch.cat([clip.states.get("audio_prosody", silence) for clip in clips])
        return {name: value.to(self.model.device) for name, value in inputs.items()}  # states may come from a file


def _pad_states(name: str, states: list[Tensor | None]) -> dict[str, Tensor]:
    """``(I, W, D)`` of items ``(1, w, D)``, NaN where an item has no window; nothing if no item has any."""
    there = [state for state in states if state is not None]
    if not there:
        return {}
    windows, size = max(state.shape[1] for state in there), there[0].shape[2]
    padded = there[0].new_full((len(states), windows, size), float("nan"))
    for row, state in enumerate(states):
        if state is not None:
            padded[row, : state.shape[1]] = state[0]
    return {name: padded}
