"""A real HTTP server that speaks as much of OpenAI's protocol as a test tells it to."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

THOUGHT = "\nObservations: face 0-1 s: AU12 lip corner puller 3.\nConclusion: The person seems happy.\n"
ANSWER = "happiness: the lips are pulled up."


def choice(reasoning: str | None, content: str | None, **more: Any) -> dict[str, Any]:
    """A whole reply, as the server sends it."""
    message = {"role": "assistant", "reasoning": reasoning, "content": content}
    return {"index": 0, "message": message, "finish_reason": "stop", **more}


class FakeServer:
    """Answers every chat completion with ``reply``; ``requests`` holds what came in, path and body.

    ``first`` are answered before that with (status, headers, body); ``reply`` may also be a function of the request.
    """

    def __init__(self) -> None:
        self.reply: Any = choice(THOUGHT, f"<answer>{ANSWER}</answer>")
        self.models: Any = [{"id": "emollm-tiny", "object": "model", "owned_by": "vllm"}]
        self.first: list[tuple[int, dict[str, str], Any]] = []
        self.requests: list[dict[str, Any]] = []
        self.keys: list[str] = []
        self.key: str | None = None
        self.cut: int | None = None  # hang up after so many pieces of a stream
        self.together = self.most = 0
        self.wait_s = 0.0
        self._lock = threading.Lock()

    def chat(self, body: dict[str, Any]) -> Any:
        with self._lock:
            self.together += 1
            self.most = max(self.most, self.together)
        time.sleep(self.wait_s)
        reply = self.reply(body) if isinstance(self.reply, Callable) else self.reply
        with self._lock:
            self.together -= 1
        return reply

    @contextmanager
    def running(self) -> Iterator[str]:
        server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/v1"
        finally:
            server.shutdown()
            server.server_close()
            thread.join()

    def _handler(fake) -> type[BaseHTTPRequestHandler]:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: Any) -> None:
                pass

            def do_GET(self) -> None:
                if not self._allowed():
                    return
                if fake.models is None:
                    self._send(404, {"error": {"message": "no such page"}})
                else:
                    self._send(200, {"object": "list", "data": fake.models})

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                fake.requests.append(body)
                if not self._allowed():
                    return
                if fake.first:
                    status, headers, content = fake.first.pop(0)
                    self._send(status, content, headers)
                    return
                reply = fake.chat(body)
                if isinstance(reply, int):
                    self._send(reply, {"error": {"message": f"the reason of {reply}\nand more"}})
                elif isinstance(reply, dict) and body.get("stream"):
                    self._stream(reply)
                elif isinstance(reply, dict):
                    self._send(200, {"id": "1", "object": "chat.completion", "created": 0, "model": body["model"],
                                     "choices": [reply]})  # fmt: skip
                else:
                    self._send(200, reply)

            def _allowed(self) -> bool:
                fake.keys.append(self.headers.get("Authorization", ""))
                if fake.key is None or fake.keys[-1] == f"Bearer {fake.key}":
                    return True
                self._send(401, {"error": {"message": "Invalid key."}})
                return False

            def _send(self, status: int, content: Any, headers: dict[str, str] | None = None) -> None:
                data = content.encode() if isinstance(content, str) else json.dumps(content).encode()
                self.send_response(status)
                self.send_header("Content-Type", "text/plain" if isinstance(content, str) else "application/json")
                self.send_header("Content-Length", str(len(data)))
                for name, value in (headers or {}).items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(data)

            def _stream(self, reply: dict[str, Any]) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "text/event-stream")
                self.send_header("Connection", "close")
                self.end_headers()
                self.close_connection = True
                logprobs = (reply.get("logprobs") or {}).get("content") or []
                pieces = [
                    {name: text[start : start + 3]}
                    for name in ("reasoning", "content")
                    for text in [reply["message"][name] or ""]
                    for start in range(0, len(text), 3)
                ]
                for number, piece in enumerate([*pieces, {}]):
                    if number == fake.cut:
                        return
                    one = {"index": 0, "delta": piece, "finish_reason": None if piece else reply["finish_reason"]}
                    if number < len(logprobs):
                        one["logprobs"] = {"content": [logprobs[number]]}
                    chunk = {
                        "id": "1",
                        "object": "chat.completion.chunk",
                        "created": 0,
                        "model": "m",
                        "choices": [one],
                    }
                    self.wfile.write(f"data: {json.dumps(chunk)}\n\n".encode())
                    self.wfile.flush()
                self.wfile.write(b"data: [DONE]\n\n")

        return Handler
