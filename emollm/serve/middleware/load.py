"""How much work is taken on: queue and client limits, timeouts, and an orderly end when the server stops."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable

from prometheus_client import Gauge
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from emollm.serve.guard.body import capped
from emollm.serve.guard.errors import Refused
from emollm.serve.middleware.errors import Refusal, content_type, error_body, error_response

IN_PROGRESS = Gauge("emollm_requests_in_progress", "Requests taken on and not finished, waiting ones included.")
_LETTING_GO_S = 2.0  # for work that is told to stop; then it is cancelled
_TIMED_OUT = (504, "The answer took longer than this server allows.", "timeout")
_STOPPING = (503, "The server is stopping; try again in a moment.", "stopping")


class Admission:
    """Takes on requests that make work (POST), up to a limit in all and per client, and ends them in time.

    A request that has to end before its answer is whole gets an error; a stream gets it as its last event. The work
    behind it is told that its client has left, which is how vLLM frees what it holds.

    Args:
        most: requests at once, waiting or running.
        most_per_client: of these, how many of one API key, or one address where there are no keys.
        timeout_s: for one request, from its first byte to its last.
        retry_after_s: what a client that is turned away is told to wait.
    """

    def __init__(self, app: ASGIApp, most: int, most_per_client: int, timeout_s: float, retry_after_s: int):
        self.app = app
        self.most, self.most_per_client = most, most_per_client
        self.timeout_s, self.retry_after_s = timeout_s, retry_after_s
        self.stopping = False
        self._running: set[_Work] = set()
        self._clients: Counter[str] = Counter()

    def stop(self) -> None:
        """Take on nothing more."""
        self.stopping = True

    def end_all(self) -> None:
        """End what is left, each with a clear event."""
        for work in list(self._running):
            work.end(_STOPPING)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST":
            return await self.app(scope, receive, send)
        client = scope.get("state", {}).get("client", "unknown")
        self._admit(client)
        work = _Work(self.app, scope, receive, send)
        self._running.add(work)
        self._clients[client] += 1
        IN_PROGRESS.inc()

        def release(_: asyncio.Task[None]) -> None:
            self._running.discard(work)
            self._clients[client] -= 1
            if not self._clients[client]:
                del self._clients[client]
            IN_PROGRESS.dec()

        await work.run(self.timeout_s, release)
        return None

    def _admit(self, client: str) -> None:
        wait = {"Retry-After": str(self.retry_after_s)}
        if self.stopping:
            raise Refusal(*_STOPPING, headers={**wait, "Connection": "close"})
        if len(self._running) >= self.most:
            raise Refusal(429, "The server's queue is full; try again in a moment.", "queue_full", wait)
        if self._clients[client] >= self.most_per_client:
            sentence = f"This client has {self.most_per_client} requests in progress, as many as it may."
            raise Refusal(429, sentence, "too_many_requests", wait)


class _Work:
    """One request on its way, in a task of its own, so that it can be answered even while its work does not listen."""

    def __init__(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send):
        self.app, self.scope, self.receive, self.send = app, scope, receive, send
        self._ended = asyncio.Event()
        self._reason: tuple[int, str, str] | None = None
        self._start: Message | None = None
        self._finished = False

    def end(self, reason: tuple[int, str, str]) -> None:
        if self._reason is None:
            self._reason = reason
            self._ended.set()

    async def run(self, timeout_s: float, release: Callable[[asyncio.Task[None]], None]) -> None:
        task = asyncio.create_task(self._work())
        task.add_done_callback(release)
        timer = asyncio.get_running_loop().call_later(timeout_s, self.end, _TIMED_OUT)
        ended = asyncio.create_task(self._ended.wait())
        try:
            await asyncio.wait({task, ended}, return_when=asyncio.FIRST_COMPLETED)
            if self._reason is None:
                return task.result()
            await self._break_off(*self._reason)
            await asyncio.wait({task}, timeout=_LETTING_GO_S)
        finally:
            timer.cancel()
            ended.cancel()
            task.cancel()

    async def _work(self) -> None:
        try:
            await self.app(self.scope, self._listen, self._tell)
        except Exception:
            if self._reason is None:  # else the client has been told why its request ended
                raise

    async def _listen(self) -> Message:
        if self._ended.is_set():
            return {"type": "http.disconnect"}
        message, ended = asyncio.ensure_future(self.receive()), asyncio.ensure_future(self._ended.wait())
        try:
            await asyncio.wait({message, ended}, return_when=asyncio.FIRST_COMPLETED)
            return message.result() if message.done() else {"type": "http.disconnect"}
        finally:
            message.cancel()
            ended.cancel()

    async def _tell(self, message: Message) -> None:
        if self._reason is not None:
            return
        if message["type"] == "http.response.start":
            self._start = message
        elif not message.get("more_body"):
            self._finished = True
        await self.send(message)

    async def _break_off(self, status: int, sentence: str, code: str) -> None:
        self.scope.get("state", {})["ended"] = code
        if self._start is None:
            await error_response(Refusal(status, sentence, code))(self.scope, self.receive, self.send)
        elif content_type(self._start["headers"]) == "text/event-stream" and not self._finished:
            event = f"data: {json.dumps(error_body(status, sentence, code))}\n\ndata: [DONE]\n\n"
            await self.send({"type": "http.response.body", "body": event.encode()})


class Body:
    """Caps what a request may send, and how long it may be silent while sending."""

    def __init__(self, app: ASGIApp, most_bytes: int, silence_s: float):
        self.app, self.most_bytes, self.silence_s = app, most_bytes, silence_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        receive_capped = capped(scope, receive, self.most_bytes)
        whole = False

        async def receive_in_time() -> Message:
            nonlocal whole
            if whole:  # only a disconnect can follow, and it may take as long as the answer does
                return await receive()
            try:
                message = await asyncio.wait_for(receive_capped(), self.silence_s)
            except TimeoutError as error:
                raise Refused("The request was sent too slowly.", 408) from error
            whole = not message.get("more_body", False)
            return message

        return await self.app(scope, receive_in_time, send)
