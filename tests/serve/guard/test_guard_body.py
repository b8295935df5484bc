"""The body of a request is read under a cap and does not unfold."""

import asyncio
import json

import pytest
from starlette.requests import ClientDisconnect

from emollm.serve.guard.body import capped, parse_json, read_json
from emollm.serve.guard.errors import Refused
from emollm.serve.guard.limits import Limits

JSON = {"content-type": "application/json; charset=utf-8"}


def read(chunks, headers=JSON, limits=Limits(request_bytes=1000)):  # noqa: B008
    """What is read, and how many chunks were not asked for."""
    scope = {"type": "http", "headers": [(key.encode(), value.encode()) for key, value in headers.items()]}
    messages = [{"type": "http.request", "body": chunk, "more_body": True} for chunk in chunks]
    messages[-1]["more_body"] = False

    async def receive():
        return messages.pop(0)

    return asyncio.run(read_json(scope, receive, limits)), len(messages)


def refused(status, *args, **kwargs) -> str:
    with pytest.raises(Refused) as caught:
        read(*args, **kwargs)
    assert caught.value.status == status
    assert str(caught.value).endswith(".")
    return str(caught.value)


def test_a_body_in_pieces():
    assert read([b'{"a":', b"", b' "\xc3\xa9"}']) == ({"a": "é"}, 0)
    assert read([b"[]"], JSON | {"content-length": "2", "content-encoding": "identity"}) == ([], 0)


def test_more_than_the_cap_is_not_read():
    asked = []

    async def receive():
        asked.append(1)
        return {"type": "http.request", "body": bytes(400), "more_body": True}

    scope = {"type": "http", "headers": [(b"content-type", b"application/json")]}
    with pytest.raises(Refused) as caught:
        asyncio.run(read_json(scope, receive, Limits(request_bytes=1000)))
    assert caught.value.status == 413
    assert len(asked) == 3


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 415),
        ({"content-type": "text/plain"}, 415),  # what web pages may send to any host
        (JSON | {"content-encoding": "gzip"}, 415),
        (JSON | {"content-length": "1001"}, 413),
        (JSON | {"content-length": "9" * 5000}, 400),
        (JSON | {"content-length": "-1"}, 400),
        (JSON | {"content-length": "x"}, 400),
    ],
)
def test_headers_are_enough(headers, status):
    refused(status, [b"{}"], headers)


def test_the_client_hangs_up():
    async def receive():
        return {"type": "http.disconnect"}

    with pytest.raises(ClientDisconnect):
        asyncio.run(
            read_json({"type": "http", "headers": [(b"content-type", b"application/json")]}, receive, Limits())
        )


def test_an_upload_is_capped_too():
    async def receive():
        return {"type": "http.request", "body": bytes(11), "more_body": False}

    with pytest.raises(Refused) as caught:
        asyncio.run(capped({"type": "http", "headers": []}, receive, 10)())
    assert caught.value.status == 413


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"nonsense", b"\xff\xfe", '{"a": 1}'.encode("utf-16"), b'{"a": NaN}', b"[-Infinity]", b"9" * 10_000,
     b"[" * 40_000, b'{"a":' * 40_000, b'{"a": "\xc3"}', b"{'a': 1}", b"\xef\xbb\xbf{}"],
)  # fmt: skip
def test_no_json(body):
    with pytest.raises(Refused) as caught:
        parse_json(body, Limits())
    assert caught.value.status == 400
    assert str(caught.value) == "The request is not valid JSON."


@pytest.mark.parametrize("piece", [b"[],", b"{},", b"1,", b'"",', b'{"":[]},'])
def test_huge_json_is_not_parsed(piece, monkeypatch):
    monkeypatch.setattr(json, "loads", None)
    with pytest.raises(Refused) as caught:
        parse_json(b"[" + piece * 1_000_000 + b"0]", Limits())
    assert caught.value.status == 413


def test_a_long_text_and_a_long_clip_are_no_huge_json():
    text, clip = "a, b [c] {d}, " * 2000, "A" * (20 << 20)
    assert parse_json(json.dumps({"text": text, "clip": clip}).encode(), Limits()) == {"text": text, "clip": clip}
