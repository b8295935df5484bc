"""The vLLM engine inside this process: towers here, the language model in vLLM's continuous batching."""

from __future__ import annotations

import os
import weakref
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from threading import RLock
from typing import TYPE_CHECKING, Any

import torch
import transformers

from emollm.errors import EngineError
from emollm.model.processing_emollm import ClipInputs
from emollm.reasoning.prompts import Message
from emollm.serve.engine import MAX_NEW_TOKENS, EncodedClip, Generation, LocalTowers, Request, checkpoint_digest
from emollm.serve.vllm_request import Asked, ask, choosing, label_shares, text_of
from emollm.serve.vllm_setup import prepare_vllm, vllm_version

if TYPE_CHECKING:
    from vllm import CompletionOutput
    from vllm.v1.engine.llm_engine import LLMEngine

# In this process: nothing is left behind when it ends, and a script needs no guard around its main part.
_ENVIRONMENT = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_LOGGING_LEVEL": "ERROR",  # on CPUs it warns of the same harmless thing a hundred times ...
    "VLLM_LOGGING_STREAM": "ext://sys.stderr",  # ... on stdout, among the reports
    "VLLM_CPU_KVCACHE_SPACE": "1",  # GiB, enough for 16 clips at once of a model of this size
}
_ON_CPU = {"enforce_eager": True, "max_num_seqs": 16}  # compiling would take longer than what it saves


def start_in_process(folder: Path, **settings: Any) -> LLMEngine:
    """vLLM itself on a merged checkpoint, in this process, for prompts of one clip at most.

    Args:
        settings: further arguments of vLLM's engine by name; the dtype is float32 where they name none. With LoRA,
            every prompt has to bring the same.

    Raises:
        BadArgumentError: vLLM is not installed, or in another version. EngineError: it does not start.
    """
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    prepare_vllm()
    from vllm import EngineArgs
    from vllm.platforms import current_platform
    from vllm.v1.engine.llm_engine import LLMEngine

    from emollm.serve.vllm_one_adapter import one_adapter

    chosen: dict[str, Any] = {
        "dtype": "float32",
        "limit_mm_per_prompt": {"video": 1, "image": 1, "audio": 1},
        "disable_log_stats": True,
        **(_ON_CPU if current_platform.is_cpu() else {}),
        **settings,
    }
    try:
        with one_adapter():
            return LLMEngine.from_engine_args(EngineArgs(model=str(folder), **chosen))
    except (RuntimeError, ValueError, OSError) as error:
        said = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise EngineError(f"vLLM does not start: {said.rstrip('.')}.") from error


class VllmEngine:
    """EmoLLM on vLLM, in float32 as the transformers engine, greedy but where a request of a batch wants otherwise.

    Replies may be asked for from several threads, and read side by side.

    Args:
        folder: a merged EmoLLM checkpoint.
        settings: further arguments of vLLM's engine by name.

    Raises:
        BadArgumentError: vLLM is not installed, or in another version. WeightsError: the folder holds no EmoLLM
        checkpoint. EngineError: vLLM does not start.
    """

    name = "vllm"

    def __init__(self, folder: Path, **settings: Any):
        prepare_vllm()
        self.folder, self.towers = folder, LocalTowers(folder)
        self.engine = start_in_process(folder, **settings)
        self._numbers = count()
        self._inbox: dict[str, list[CompletionOutput]] = {}
        self._lock = RLock()
        self.close = weakref.finalize(self, self.engine.engine_core.shutdown)  # also when the process ends

    def describe(self) -> dict[str, str]:
        gpu = torch.cuda.is_available()
        return {
            "checkpoint_sha256": checkpoint_digest(self.folder),
            "engine": self.name,
            "device": torch.cuda.get_device_name() if gpu else "cpu",
            "dtype": "float32",
            "decoding": "greedy",
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "vllm": vllm_version() or "",
        }

    def encode(self, clip: ClipInputs) -> EncodedClip:
        """Run the towers over one clip and person, on the CPU."""
        return self.towers.encode(clip)

    def stream(
        self, messages: list[Message], clip: EncodedClip, think: bool, result: Generation | None = None
    ) -> Iterator[str]:
        """Yield the reply piece by piece, section tags included; ``result`` is filled when it is finished."""
        asked = ask(Request(messages, clip), self.towers.processor, think)
        pieces: list[str] = []
        tokens: list[int] = []
        scores: list[Any] = []
        for _, output in self._run([asked], streamed=True):
            tokens += output.token_ids
            scores += output.logprobs or []
            if output.text:
                pieces.append(output.text)
                yield output.text
        if rest := text_of(tokens, self.towers).removeprefix("".join(pieces)):
            pieces.append(rest)
            yield rest
        if result is not None:
            result.text, result.prompt = "".join(pieces), asked.shown
            result.distribution = label_shares(asked.prompt["prompt_token_ids"][-1], tokens, scores, self.towers)

    def generate_batch(self, requests: list[Request], think: bool) -> list[Generation]:
        """Whole replies, in order: those of :meth:`stream`, but where two tokens are all but equally likely."""
        asked = [ask(request, self.towers.processor, think) for request in requests]
        replies = dict(self._run(asked, streamed=False))
        return [
            Generation(
                request.thought + text_of(replies[number].token_ids, self.towers),
                label_shares(
                    one.prompt["prompt_token_ids"][-1],
                    replies[number].token_ids,
                    replies[number].logprobs or [],
                    self.towers,
                ),
                one.shown,
            )
            for number, (request, one) in enumerate(zip(requests, asked))
        ]

    def _run(self, asked: list[Asked], streamed: bool) -> Iterator[tuple[int, CompletionOutput]]:
        """What vLLM puts out to each request, by its place, as it comes. What is not read to its end is taken back."""
        place: dict[str, int] = {}
        left: set[str] = set()
        try:
            with self._lock:
                prompts = self.engine.renderer.render_cmpl([one.prompt for one in asked])  # type: ignore[misc]
                for number, (one, prompt) in enumerate(zip(asked, prompts)):
                    name = str(next(self._numbers))
                    place[name], self._inbox[name] = number, []
                    left.add(name)
                    how = choosing(one.request, self.towers, MAX_NEW_TOKENS, streamed)
                    self.engine.add_request(name, prompt, how)
            while left:
                with self._lock:
                    if not any(self._inbox[name] for name in left):
                        self._step()
                    came = [(name, self._inbox[name].pop(0)) for name in sorted(left) if self._inbox[name]]
                for name, output in came:
                    if output.finish_reason is not None:
                        left.discard(name)
                    yield place[name], output
        finally:
            with self._lock:
                for name in place:
                    del self._inbox[name]
                if left:
                    self.engine.abort_request(sorted(left))

    def _step(self) -> None:
        """One token for every request under way, whoever asked; each output goes to who waits for it."""
        for output in self.engine.step():
            waiting = self._inbox.get(output.request_id)
            if waiting is not None:
                waiting += output.outputs  # type: ignore[arg-type]
