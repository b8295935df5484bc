"""Rollouts of GRPO by vLLM in this process: all replies of a step at once, by the policy as it is at that step."""

from __future__ import annotations

import shutil
import weakref
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from emollm.model.processing_emollm import EmoLLMProcessor
from emollm.serve.engine import EncodedClip, Request
from emollm.serve.vllm_engine import start_in_process
from emollm.serve.vllm_request import ask
from emollm.train.collate import Example
from emollm.train.trainer import save_lora

if TYPE_CHECKING:
    from vllm import CompletionOutput

_GPU_SHARE = 0.3  # of the GPU's memory, as TRL gives vLLM where the training runs beside it


class VllmRollouts:
    """The frozen model in vLLM. The policy's LoRA is written out and loaded under a new name before each step, so that
    neither an old adapter nor what vLLM has kept of old prompts can answer.

    Replies depend on the policy, the clips and ``(seed, step)`` alone: a run that goes on after a kill draws what it
    would have drawn (on one machine with one number of threads; other sums may tip a near-tie).

    Args:
        model: the model without its LoRA; the copy that vLLM reads goes to ``folder``.
        processor: of the model.
        folder: for that copy and the adapters; it is replaced now and removed by :meth:`close`.
        rank: of the LoRA.
        replies: that are written at the same time.
        length: tokens of the longest prompt together with its reply.
        max_tokens: of a reply.
        temperature: tokens are drawn at; 0 takes the likeliest.
        seed: of the run.
        dtype: vLLM's, ``float32`` or ``bfloat16``.

    Raises:
        BadArgumentError: vLLM is not installed, or in another version. EngineError: it does not start.
    """

    def __init__(
        self,
        model: Any,
        processor: EmoLLMProcessor,
        folder: Path,
        *,
        rank: int,
        replies: int,
        length: int,
        max_tokens: int,
        temperature: float,
        seed: int,
        dtype: str,
    ):
        shutil.rmtree(folder, ignore_errors=True)
        model.save_pretrained(folder / "model")
        processor.save_pretrained(folder / "model")
        self.processor, self.folder = processor, folder
        self.max_tokens, self.temperature, self.seed = max_tokens, temperature, seed
        self.engine = start_in_process(
            folder / "model",
            dtype=dtype,
            seed=seed,
            enable_lora=True,
            max_loras=1,
            max_lora_rank=_lora_rank(rank),
            max_num_seqs=replies,
            max_model_len=length,
            logprobs_mode="processed_logprobs",  # of what is drawn from, as the trainer scores it
            mm_processor_cache_gb=0,  # no clip is asked about again
            enable_chunked_prefill=False,  # where a prompt is read in parts, vLLM cannot wind back draws on a CPU
            **({"gpu_memory_utilization": _GPU_SHARE} if torch.cuda.is_available() else {}),
        )
        self._numbers = count(1)
        self.close = weakref.finalize(self, _end, self.engine, folder)  # also when the process ends

    def generate(
        self, policy: Any, clips: list[Example], prompts: list[list[int]], step: int
    ) -> tuple[list[list[int]], list[list[float]]]:
        """One reply to each clip's question: its tokens, the end token included, and their log-probabilities.

        Args:
            policy: the PEFT model, whose adapter ``default`` answers.
            clips: one a reply; those of a group are the same object.
            prompts: their tokens with every placeholder, as the trainer scores them.
            step: of the training, which decides the draws together with the seed.
        """
        from vllm.lora.request import LoRARequest

        number = next(self._numbers)
        adapter = self.folder / f"lora-{number}"
        save_lora(policy, adapter)
        lora = LoRARequest(adapter.name, number, str(adapter))
        distinct = list({id(clip): clip for clip in clips}.values())
        asked = [self._ask(clip) for clip in distinct]
        rendered = dict(zip(map(id, distinct), self.engine.renderer.render_cmpl(asked)))  # type: ignore[arg-type]
        seeds = np.random.SeedSequence([self.seed, step]).generate_state(len(clips)).tolist()
        for place, (clip, seed) in enumerate(zip(clips, seeds)):
            self.engine.add_request(str(place), rendered[id(clip)], self._choosing(seed), lora_request=lora)
        replies = self._finish(prompts)
        shutil.rmtree(adapter)
        return [list(reply.token_ids) for reply in replies], [_log_probabilities(reply) for reply in replies]

    def _ask(self, clip: Example) -> dict[str, Any]:
        states = {}
        if clip.placeholders.face:
            states["face_states"] = torch.as_tensor(clip.face)[None]
            states["face_window_s"] = torch.tensor([clip.placeholders.face_window_s])
        if clip.placeholders.audio:
            states["audio_states"] = torch.as_tensor(clip.sound)[None]
            states["audio_prosody"] = torch.as_tensor(clip.prosody)[None]
        request = Request(clip.messages[:-1], EncodedClip(clip.placeholders, states))
        return ask(request, self.processor, clip.think).prompt

    def _choosing(self, seed: int) -> Any:
        """As TRL has transformers choose; the model itself rules out placeholders."""
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        return SamplingParams(
            temperature=self.temperature,
            seed=seed if self.temperature else None,
            max_tokens=self.max_tokens,
            logprobs=0,  # of the chosen tokens only
            detokenize=False,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )

    def _finish(self, prompts: list[list[int]]) -> list[CompletionOutput]:
        """Run the engine until every reply is whole."""
        found: dict[int, CompletionOutput] = {}
        while self.engine.has_unfinished_requests():
            for output in self.engine.step():
                place = int(output.request_id)
                # Otherwise the trainer would score replies to other prompts than were answered.
                assert list(output.prompt_token_ids or []) == prompts[place]
                found[place] = output.outputs[0]  # type: ignore[index]
        return [found[place] for place in range(len(prompts))]


def _lora_rank(rank: int) -> int:
    """The smallest rank that vLLM makes room for and that is no smaller; the largest is vLLM's to refuse."""
    from typing import get_args

    from vllm.config.lora import MaxLoRARanks

    return next((size for size in get_args(MaxLoRARanks) if size >= rank), rank)


def _log_probabilities(reply: CompletionOutput) -> list[float]:
    return [found[token].logprob for token, found in zip(reply.token_ids, reply.logprobs or [])]  # type: ignore[index]


def _end(engine: Any, folder: Path) -> None:
    engine.engine_core.shutdown()
    shutil.rmtree(folder, ignore_errors=True)
