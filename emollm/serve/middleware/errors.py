"""Every error leaves in the shape that OpenAI's clients read, as one sentence without paths or tracebacks."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, HTTPException
from fastapi.exceptions import RequestValidationError
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from emollm.errors import BadArgumentError, ClipError, EmoLLMError, NothingToReadError
from emollm.serve.guard.errors import Refused

log = logging.getLogger(__name__)

_KINDS = {
    400: ("invalid_request_error", "invalid_request"),
    401: ("authentication_error", "invalid_api_key"),
    403: ("permission_error", "forbidden"),
    404: ("invalid_request_error", "not_found"),
    405: ("invalid_request_error", "method_not_allowed"),
    408: ("invalid_request_error", "upload_too_slow"),
    413: ("invalid_request_error", "too_large"),
    415: ("invalid_request_error", "unsupported_media_type"),
    422: ("invalid_request_error", "unprocessable"),
    429: ("rate_limit_error", "rate_limit_exceeded"),
    503: ("server_error", "unavailable"),
    504: ("server_error", "timeout"),
}
_LONGEST_MESSAGE = 500
_LONGEST_BODY = 1 << 16
_PATH = re.compile(r"(?<![\w:/.])/(?:[\w.@+-]+/)+[\w.@+-]*")


class Refusal(HTTPException):
    """A request is turned down with this status and sentence, whichever layer finds out.

    ``code`` is the word that programs read; None takes the usual one of the status.
    """

    def __init__(self, status: int, sentence: str, code: str | None = None, headers: Mapping[str, str] | None = None):
        super().__init__(status, sentence, headers=dict(headers or {}))
        self.code = code


def error_body(status: int, sentence: str, code: str | None = None) -> dict[str, Any]:
    """``{"error": {"message", "type", "code"}}``."""
    server_error = ("server_error", "internal_error")
    kind, usual = _KINDS.get(status, server_error if status >= 500 else _KINDS[400])
    return {"error": {"message": sentence, "type": kind, "code": code or usual}}


def error_response(refusal: Refusal) -> JSONResponse:
    body = error_body(refusal.status_code, refusal.detail, refusal.code)
    return JSONResponse(body, refusal.status_code, refusal.headers)


def one_sentence(message: str) -> str:
    """The first line of what a library said, without paths of this machine."""
    line = (message.strip().splitlines() or [""])[0]
    return _PATH.sub("(path)", line)[:_LONGEST_MESSAGE]


def refusal_of(error: EmoLLMError | Refusal) -> Refusal:
    """What the library says about a clip or a question is meant for whoever sent it; what else it says is not."""
    if isinstance(error, Refusal):
        return error
    if isinstance(error, Refused):
        return Refusal(error.status, str(error))
    if isinstance(error, ClipError | NothingToReadError):
        return Refusal(422, one_sentence(str(error)))
    if isinstance(error, BadArgumentError):
        return Refusal(400, one_sentence(str(error)))
    return Refusal(500, _inner_sentence(500))


async def _explain(request: Request, error: Any) -> JSONResponse:
    return error_response(refusal_of(error))


async def _own_up(request: Request, error: Exception) -> JSONResponse:
    _log_failure(request.scope, error)
    return error_response(Refusal(500, _inner_sentence(500)))


def _log_failure(scope: Scope, error: Exception) -> None:
    fields = {"request_id": scope.get("state", {}).get("request_id", "")}
    log.error("a request failed", exc_info=error, extra={"fields": fields})


async def _explain_invalid(request: Request, error: RequestValidationError) -> JSONResponse:
    """Say which field of a request is wrong, without repeating what was in it."""
    first = error.errors()[0] if error.errors() else {"loc": (), "msg": "is not valid"}
    parts = [str(part) for part in first["loc"] if isinstance(part, int) or re.fullmatch("[a-z_]+", str(part))]
    where = ".".join(parts[1:] if parts[:1] == ["body"] else parts) or "body"
    return error_response(Refusal(400, one_sentence(f"The request is wrong at '{where}': {first['msg']}.")))


def explain_errors(app: FastAPI) -> None:
    """Let the app itself answer our errors and bodies that do not fit, before its other handlers see them."""
    app.exception_handler(EmoLLMError)(_explain)
    app.exception_handler(Refusal)(_explain)
    app.exception_handler(RequestValidationError)(_explain_invalid)
    app.exception_handler(TypeError)(_own_up)  # for vLLM the client is to blame


class Errors:
    """Turns refusals and unexpected exceptions into responses, and gives error bodies of others the same shape.

    What others say about an error of theirs (500 and above) is replaced: it is for the log, not for clients.
    """

    def __init__(self, app: ASGIApp):
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        reshape = _Reshape(send)
        try:
            await self.app(scope, receive, reshape)
        except (Refusal, Refused) as error:
            if not reshape.started:
                await error_response(refusal_of(error))(scope, receive, send)
        except Exception as error:
            _log_failure(scope, error)
            if not reshape.started:
                await error_response(Refusal(500, _inner_sentence(500)))(scope, receive, send)
        return None


class _Reshape:
    """Passes a response on; an error response is held back until its body is whole, and then rewritten."""

    def __init__(self, send: Send):
        self.send = send
        self.started = False
        self._held: Message | None = None
        self._body = b""

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.started = True
            if message["status"] >= 400:
                self._held = message
                return
        if self._held is None:
            return await self.send(message)
        self._body = (self._body + message.get("body", b""))[:_LONGEST_BODY]
        if message.get("more_body"):
            return None
        start, status = self._held, self._held["status"]
        kept = [(k, v) for k, v in start.get("headers", []) if k.lower() not in (b"content-length", b"content-type")]
        body = json.dumps(_shape(status, self._body)).encode()
        headers = [*kept, (b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        await self.send({**start, "headers": headers})
        await self.send({"type": "http.response.body", "body": body})
        return None


def _shape(status: int, body: bytes) -> dict[str, Any]:
    try:
        content = json.loads(body)
    except ValueError:
        content = None
    error = content.get("error") if isinstance(content, dict) else None
    if isinstance(error, dict) and isinstance(error.get("code"), str):
        return content  # ours already
    if status >= 500:
        return error_body(status, _inner_sentence(status))
    said = error.get("message") if isinstance(error, dict) else None
    if said is None and isinstance(content, dict):
        said = content.get("detail")
    usual = {404: "There is no such route.", 405: "This route does not take this method."}
    if status in usual and (not isinstance(said, str) or said in ("Not Found", "Method Not Allowed")):
        return error_body(status, usual[status])
    return error_body(status, one_sentence(said) if isinstance(said, str) else "The request cannot be answered.")


def _inner_sentence(status: int) -> str:
    if status == 503:
        return "The server cannot answer at the moment; try again later."
    return "Something failed inside the server; its operator finds the reason under the id in X-Request-Id."


def content_type(headers: list[tuple[bytes, bytes]]) -> str:
    """Media type of a response, without its parameters."""
    return Headers(raw=headers).get("content-type", "").split(";")[0].strip().lower()
