"""What transformers says to a prompt and its clips, and the same asked of vLLM."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from emollm.model.modeling_emollm import EmoLLMForConditionalGeneration
from emollm.model.processing_emollm import ClipInputs, EmoLLMProcessor

NEW_TOKENS = 24


@dataclass(frozen=True)
class Case:
    """A dialogue with its clips in order of appearance: modality and clip."""

    messages: list[dict[str, Any]]
    clips: list[tuple[str, Any]]


@dataclass(frozen=True)
class Reply:
    """Prompt and reply as tokens, and the log-probabilities of the first new token's best candidates."""

    prompt: list[int]
    tokens: list[int]
    first: dict[int, float]


class Reference:
    """transformers, greedy, one prompt at a time, float32."""

    def __init__(self, folder: Path):
        self.processor = EmoLLMProcessor.from_pretrained(folder)
        self.model: Any = EmoLLMForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()

    def text(self, case: Case) -> str:
        return self.processor.apply_chat_template(case.messages, tokenize=False, add_generation_prompt=True)

    @torch.inference_mode()
    def reply(self, case: Case) -> Reply:
        clips: list[ClipInputs] = [clip for _, clip in case.clips]
        inputs = self.processor(self.text(case), clips)
        out = self.model.generate(
            **inputs, max_new_tokens=NEW_TOKENS, return_dict_in_generate=True, output_scores=True
        )
        prompt = inputs["input_ids"][0].tolist()
        best = out.scores[0][0].log_softmax(-1).topk(5)
        first = dict(zip(best.indices.tolist(), best.values.tolist()))
        return Reply(prompt, out.sequences[0].tolist()[len(prompt) :], first)


class Engine:
    """vLLM inside this process."""

    def __init__(self, folder: Path, **arguments: Any):
        os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
        os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
        from emollm.serve.vllm_setup import prepare_vllm

        prepare_vllm()
        from vllm import LLM, SamplingParams

        settings = {"dtype": "float32", "max_model_len": 1024, "enforce_eager": True, "max_num_seqs": 8}
        settings["mm_processor_cache_gb"] = 0
        self.llm = LLM(model=str(folder), disable_log_stats=True, **(settings | arguments))
        self.sampling = SamplingParams(temperature=0, max_tokens=NEW_TOKENS, logprobs=5)

    def replies(self, prompts: list[tuple[str, list[tuple[str, Any]]]], lora: Any = None) -> list[Reply]:
        """Replies to prompts, all in one call; each comes with its media as ``(modality, item)``."""
        requests = []
        for text, media in prompts:
            data: dict[str, list[Any]] = {}
            for modality, item in media:
                data.setdefault(modality, []).append(item)
            requests.append({"prompt": text, **({"multi_modal_data": data} if data else {})})
        outputs = self.llm.generate(requests, self.sampling, use_tqdm=False, lora_request=lora)
        return [
            Reply(
                list(output.prompt_token_ids),
                list(output.outputs[0].token_ids),
                {token: found.logprob for token, found in output.outputs[0].logprobs[0].items()},
            )
            for output in outputs
        ]

    def close(self) -> None:
        self.llm.llm_engine.engine_core.shutdown()


def assert_alike(mine: Reply, theirs: Reply) -> None:
    assert mine.prompt == theirs.prompt
    assert mine.tokens == theirs.tokens
    for token, value in theirs.first.items():
        assert abs(mine.first[token] - value) < 1e-4
