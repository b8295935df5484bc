"""The body of a request, read under a cap and parsed without unfolding to more than it may."""

import json
from typing import Any, NoReturn

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive, Scope

from emollm.serve.guard.errors import Refused
from emollm.serve.guard.limits import Limits


def capped(scope: Scope, receive: Receive, most: int) -> Receive:
    """``receive`` for an app behind it, raising Refused (413) as soon as a body has more than ``most`` bytes.

    Raises Refused at once if its header declares more, and 415 for a packed body, whose real size shows too late.
    """
    headers = Headers(scope=scope)
    if headers.get("content-encoding", "identity").lower() != "identity":
        raise Refused("The request must not be packed.", 415)
    declared = headers.get("content-length", "0")
    if not (declared.isascii() and declared.isdigit()) or len(declared) > 18:
        raise Refused("The request has no valid length.")
    if int(declared) > most:
        raise _too_large(most)
    received = 0

    async def receive_capped() -> Message:
        nonlocal received
        message = await receive()
        received += len(message.get("body", b""))
        if received > most:
            raise _too_large(most)
        return message

    return receive_capped


async def read_json(scope: Scope, receive: Receive, limits: Limits) -> Any:
    """Read and parse the JSON body of an ASGI request.

    Raises:
        Refused: 413 too large, 415 another content type (web pages can send text to any host without asking it first),
            400 for what is no JSON or has too many values. starlette's ClientDisconnect: the client hung up.
    """
    content_type = Headers(scope=scope).get("content-type", "").partition(";")[0].strip().lower()
    if content_type != "application/json":
        raise Refused("The request must have the content type application/json.", 415)
    receive = capped(scope, receive, limits.request_bytes)
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        body += message.get("body", b"")
        if not message.get("more_body", False):
            return parse_json(bytes(body), limits)


def parse_json(body: bytes, limits: Limits) -> Any:
    """Parse JSON; Refused if it is none, or has more values than a request needs. Commas in texts count as values."""
    # Counted before parsing: 48 MB of "[],[],..." would become gigabytes. Texts may hold as many marks as letters.
    if sum(map(body.count, (b",", b"[", b"{"))) > limits.json_values + limits.text_chars:
        raise Refused(f"The request has more than {limits.json_values:,} values.", 413)
    try:
        return json.loads(body.decode(), parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:  # also text that is not UTF-8, and numbers of thousands of digits
        raise Refused("The request is not valid JSON.") from error


def _no_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is not JSON")


def _too_large(most: int) -> Refused:
    return Refused(f"The request is larger than the limit of {most / 2**20:,.1f} MiB.", 413)
