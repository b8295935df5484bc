"""The server's own engine as :class:`emollm.api.EmoLLM` takes one: towers here, generation beside everybody else's."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

from emollm.model.processing_emollm import ClipInputs
from emollm.reasoning.prompts import Message
from emollm.serve.engine import MAX_NEW_TOKENS, EncodedClip, Generation, LocalTowers, Request
from emollm.serve.vllm_request import ask, choosing, label_shares, text_of

if TYPE_CHECKING:
    from vllm.engine.protocol import EngineClient


class ServedEngine:
    """An :class:`emollm.serve.engine.Engine` for threads beside the server's event loop.

    The towers run in this process, because their readings are what claims are held against; the engine goes on from
    their states, and answers in one batch with the requests of all other clients.

    Args:
        client: vLLM's, that chat completions go to as well.
        folder: the checkpoint that it serves.
        loop: where ``client`` lives.
    """

    name = "vllm"

    def __init__(self, client: EngineClient, folder: Path, loop: asyncio.AbstractEventLoop):
        self.client, self.loop = client, loop
        self.towers = LocalTowers(folder)

    def describe(self) -> dict[str, str]:
        return {"engine": self.name, "decoding": "greedy"}

    def encode(self, clip: ClipInputs) -> EncodedClip:
        """Run the towers over one clip and person."""
        return self.towers.encode(clip)

    def stream(
        self, messages: list[Message], clip: EncodedClip, think: bool, result: Generation | None = None
    ) -> Iterator[str]:
        """The whole reply as one piece: reports are not streamed."""
        (generation,) = self.generate_batch([Request(messages, clip)], think)
        if result is not None:
            vars(result).update(vars(generation))
        yield generation.text

    def generate_batch(self, requests: list[Request], think: bool) -> list[Generation]:
        """Whole replies, in order. Not for the thread of the event loop, which it waits for."""

        async def every() -> list[Generation]:
            return await asyncio.gather(*[self._generate(request, think) for request in requests])

        return asyncio.run_coroutine_threadsafe(every(), self.loop).result()

    async def _generate(self, request: Request, think: bool) -> Generation:
        asked = await asyncio.to_thread(ask, request, self.towers.processor, think)
        (prompt,) = await self.client.renderer.render_cmpl_async([asked.prompt])  # type: ignore[list-item]
        sampling = choosing(request, self.towers, MAX_NEW_TOKENS, streamed=False)
        async for output in self.client.generate(prompt, sampling, f"report-{uuid4().hex}"):
            reply = output.outputs[0]
        before = asked.prompt["prompt_token_ids"][-1]
        shares = label_shares(before, reply.token_ids, list(reply.logprobs or []), self.towers)
        return Generation(request.thought + text_of(reply.token_ids, self.towers), shares, asked.shown)
