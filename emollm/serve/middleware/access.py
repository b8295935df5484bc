"""Who may use which route: everything is closed but a short list, and keys are compared without giving them away."""

from __future__ import annotations

import hmac
from fnmatch import fnmatchcase
from hashlib import sha256
from pathlib import Path

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from emollm.errors import BadArgumentError
from emollm.serve.middleware.errors import Refusal

HEALTH = "/health"
OPEN = {
    "/v1/chat/completions": "POST",
    "/v1/emotions": "POST",
    "/v1/emotions/schema": "GET",
    "/v1/models": "GET",
    HEALTH: "GET",
    "/metrics": "GET",
}


class OpenRoutes:
    """Answers 404 for every route that is not on the list: a route new in vLLM is closed until somebody opens it.

    Args:
        opened: further paths that the operator opens, for any method; ``*`` stands for anything.
    """

    def __init__(self, app: ASGIApp, opened: list[str]):
        self.app, self.opened = app, opened

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            self._check(scope["path"], scope["method"])
        elif scope["type"] == "websocket" and not self._opened(scope["path"]):
            return await send({"type": "websocket.close", "code": 1008})
        return await self.app(scope, receive, send)

    def _opened(self, path: str) -> bool:
        return any(fnmatchcase(path, pattern) for pattern in self.opened)

    def _check(self, path: str, method: str) -> None:
        if self._opened(path) or OPEN.get(path) == method:
            return
        if path in OPEN:
            allowed = {"Allow": OPEN[path]}
            raise Refusal(405, f"This route takes {OPEN[path]} only.", headers=allowed)
        raise Refusal(404, "There is no such route.")


class ApiKeys:
    """Asks for ``Authorization: Bearer KEY`` on every route but the health check, if there are keys.

    Names the client for limits and logs: by the first characters of its key's hash, or by its address.
    """

    def __init__(self, app: ASGIApp, keys: list[str]):
        self.app = app
        self._digests = [sha256(key.encode()).digest() for key in keys]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket"):
            address = scope["client"][0] if scope.get("client") else "unknown"
            state = scope.setdefault("state", {})
            state["client"] = address
            if self._digests and scope["path"] != HEALTH:
                state["client"] = self._holder(Headers(scope=scope))
        await self.app(scope, receive, send)

    def _holder(self, headers: Headers) -> str:
        scheme, _, key = headers.get("authorization", "").partition(" ")
        digest = sha256(key.strip().encode()).digest()
        known = False
        for other in self._digests:  # all of them: the time must not tell which one came close
            known |= hmac.compare_digest(digest, other)
        if scheme.lower() != "bearer" or not known:
            sentence = "This server asks for an API key, given as 'Authorization: Bearer KEY'."
            raise Refusal(401, sentence, headers={"WWW-Authenticate": "Bearer"})
        return f"key-{digest.hex()[:8]}"


def read_keys(file: Path) -> list[str]:
    """The keys of a file: one a line; empty lines and lines that begin with ``#`` do not count.

    Raises:
        BadArgumentError: the file cannot be read, or holds no key.
    """
    try:
        lines = [line.strip() for line in file.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise BadArgumentError(f"The file of API keys {file} cannot be read.") from error
    keys = [line for line in lines if line and not line.startswith("#")]
    if not keys:
        raise BadArgumentError(f"The file of API keys {file} holds no key.")
    return keys
