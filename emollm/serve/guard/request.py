"""A chat completion comes in from anybody; one goes out that holds nothing but checked text and checked clips."""

import asyncio
import re
from collections.abc import Collection
from typing import Any, assert_never

from pydantic import ValidationError

from emollm.serve.guard.errors import Refused
from emollm.serve.guard.fetch import INTERNET, Network, fetch
from emollm.serve.guard.fields import (
    AudioPart,
    ChatCompletion,
    ImagePart,
    InputAudioPart,
    MediaPart,
    SchemaFormat,
    TextPart,
    VideoPart,
)
from emollm.serve.guard.hosts import Hosts
from emollm.serve.guard.limits import Limits
from emollm.serve.guard.media import SUFFIX_TYPES, Kind, check_media, read_base64, read_data_url
from emollm.serve.guard.schema import check_schema
from emollm.serve.guard.text import OUR_TOKENS, defuse

_MAX_DEPTH = 32
_HALF = re.compile("[\ud800-\udfff]")  # of a pair of surrogates
_TAGGED = re.compile(r"\s*<answer>(.*)</answer>\s*", re.DOTALL)
_KINDS: dict[str, Kind] = {"image_url": "image", "video_url": "video", "audio_url": "audio"}
_SAID = {"image": "a still picture", "video": "a video", "audio": "a sound"}


async def check_request(
    body: Any,
    limits: Limits,
    hosts: Hosts,
    tokens: Collection[str] = OUR_TOKENS,
    network: Network = INTERNET,
) -> dict[str, Any]:
    """Check the parsed body of a chat completion, and return the one that may go on to the engine.

    In it every clip is a data URL whose bytes were decoded under the limits, no special token is left in any text,
    adjoining texts of a message are one (or halves of a token could meet), and fields that say nothing are left out.

    Args:
        tokens: special tokens of the model's tokenizer, as `special_tokens` finds them.

    Raises:
        Refused: with one sentence for whatever else is sent.
    """
    _check_values(body, limits)
    request = _parse(body)
    _check_counts(request, limits)
    if isinstance(request.response_format, SchemaFormat):
        check_schema(request.response_format.json_schema.schema_, limits)
    urls = iter(await _clips(request, limits, hosts, network))
    clean = request.model_dump(by_alias=True, exclude_unset=True, exclude={"messages"})
    messages = []
    for message in request.messages:
        parts = [part if isinstance(part, TextPart) else next(urls) for part in message.content]
        content = _merge(parts, tokens, answer=message.role == "assistant")
        named = {"name": defuse(message.name, tokens)} if message.name else {}
        messages.append({"role": message.role, "content": content, **named})
    return {**{key: value for key, value in clean.items() if value is not None}, "messages": messages}


def _check_values(body: Any, limits: Limits) -> None:
    """Refuse what is no object, too deep or too much, and text with half a character, which no tokenizer can read."""
    if not isinstance(body, dict):
        raise Refused("The request must be a JSON object.")
    count, level = 0, [body]
    for _ in range(_MAX_DEPTH):
        below: list[Any] = []
        for value in level:
            if isinstance(value, dict):
                below += [*value.keys(), *value.values()]
            elif isinstance(value, list):
                below += value
            elif isinstance(value, str) and not value.isascii() and _HALF.search(value):
                raise Refused("The request holds text that is not valid Unicode.")
        count += len(below)
        if count > limits.json_values:
            raise Refused(f"The request has more than {limits.json_values:,} values.", 413)
        if not below:
            return
        level = below
    raise Refused(f"The request is nested more than {_MAX_DEPTH} levels deep.")


def _parse(body: Any) -> ChatCompletion:
    try:
        return ChatCompletion.model_validate(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        raise Refused(_sentence(first["type"], first["loc"], first["msg"])) from None


def _sentence(kind: str, place: tuple[int | str, ...], said: str) -> str:
    """What pydantic found, as a sentence about a place such as 'messages.0.content'."""
    # After an index and after 'response_format' pydantic names the kind it took, which is no key of the request.
    steps = [
        str(step)
        for step, before in zip(place, ("", *place))
        if isinstance(step, int) or not (isinstance(before, int) or before == "response_format")
    ]
    where = f"'{'.'.join(map(_printable, steps))}'" if steps else "The request"
    if kind == "extra_forbidden":
        return f"{where} is not a field that this server takes."
    if kind == "missing":
        return f"{where} is missing."
    if kind.startswith("union_tag"):
        return f"{where} is not of a kind that this server takes."
    return f"{where} {_printable(said[max(0, said.find('should')) :])}."


def _printable(text: str) -> str:
    """At most 80 characters that can stand in a sentence: clients choose the names of their fields."""
    return "".join(character if character.isascii() and character.isprintable() else "?" for character in text[:80])


def _check_counts(request: ChatCompletion, limits: Limits) -> None:
    if len(request.messages) > limits.messages:
        raise Refused(f"The request has more than {limits.messages} messages.")
    if request.messages[-1].role != "user":
        raise Refused("The last message must be the user's.")
    parts = [part for message in request.messages for part in message.content]
    texts = [part.text for part in parts if isinstance(part, TextPart)]
    if len(parts) - len(texts) > limits.media_parts:
        raise Refused(f"The request has more than {limits.media_parts} clips, pictures and sounds.")
    texts += [message.name for message in request.messages if message.name]
    if sum(map(len, texts)) > limits.text_chars:
        raise Refused(f"The request has more than {limits.text_chars:,} characters of text.", 413)


async def _clips(request: ChatCompletion, limits: Limits, hosts: Hosts, network: Network) -> list[dict[str, Any]]:
    """Every clip of the request as a part with a data URL of checked bytes, in order."""
    parts = [part for message in request.messages for part in message.content if not isinstance(part, TextPart)]
    loaded: list[tuple[bytes, str | None]] = []
    left = limits.media_bytes
    try:
        async with asyncio.timeout(limits.fetch_seconds):
            for number, part in enumerate(parts, start=1):
                most = min(limits.clip.file_bytes, left)
                loaded.append(await _load(part, limits, hosts, most, f"Clip {number}", network))
                left -= len(loaded[-1][0])
    except TimeoutError:
        raise Refused(f"Clip {len(loaded) + 1} cannot be fetched in {limits.fetch_seconds:g} s.") from None
    clean = []
    for number, (part, (data, declared)) in enumerate(zip(parts, loaded), start=1):
        field = "audio_url" if isinstance(part, InputAudioPart) else part.type
        media = await asyncio.to_thread(check_media, data, declared, limits, f"Clip {number}")
        if media.kind != _KINDS[field]:
            raise Refused(f"Clip {number} is {_SAID[media.kind]} and not {_SAID[_KINDS[field]]}.", 415)
        clean.append({"type": field, field: {"url": media.url}})
    return clean


async def _load(
    part: MediaPart, limits: Limits, hosts: Hosts, most: int, name: str, network: Network
) -> tuple[bytes, str | None]:
    if isinstance(part, InputAudioPart):
        declared = SUFFIX_TYPES.get(f".{part.input_audio.format}")
        if declared is None:
            raise Refused(f"{name} has a format that this server does not take.", 415)
        return read_base64(part.input_audio.data, most, name), declared
    url = _url(part)
    if url[:5].lower() == "data:":
        return read_data_url(url, most, name)
    return await fetch(url, limits, hosts, most, name, network)


def _url(part: ImagePart | VideoPart | AudioPart) -> str:
    match part:
        case ImagePart():
            return part.image_url.url
        case VideoPart():
            return part.video_url.url
        case AudioPart():
            return part.audio_url.url
        case _:
            assert_never(part)


def _merge(parts: list[Any], tokens: Collection[str], answer: bool) -> str | list[dict[str, Any]]:
    """Content of a message: one text if there are no clips, else clips and the texts between them."""
    merged: list[Any] = []
    for part in parts:
        if isinstance(part, TextPart) and merged and isinstance(merged[-1], str):
            merged[-1] += "\n" + part.text
        else:
            merged.append(part.text if isinstance(part, TextPart) else part)
    if answer and merged and (tagged := _TAGGED.fullmatch(merged[0])):
        merged = [tagged[1]]
    merged = [defuse(part, tokens) if isinstance(part, str) else part for part in merged]
    if all(isinstance(part, str) for part in merged):
        return "".join(merged)
    return [{"type": "text", "text": part} if isinstance(part, str) else part for part in merged]
