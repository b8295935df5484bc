"""The requests that ``load.py`` sends: good ones that must be answered, and bad ones that must be refused."""

from __future__ import annotations

import io
import json
import random
import wave
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import torch
from PIL import Image
from server import body, data_url, make_clips, make_voice, question

from emollm.media.clip import SAMPLE_RATE, read_clip
from emollm.weights import fetch

LARGEST = 4 << 20  # bytes of a request that the server is told to take
TOKENS = (8, 64)  # an answer's length is drawn between these
CHAT = "/v1/chat/completions"
JSON = {"Content-Type": "application/json"}
Outcome = tuple[int, bool]  # status, and whether it is a whole answer


class Load:
    """What the clients share: the connection, the clips, and what came of each kind of request."""

    def __init__(self, client: httpx.AsyncClient, name: str, folder: Path):
        self.client, self.name = client, name
        self.clips = [path.read_bytes() for path in make_clips(8, 1.0, folder)]
        frame = next(read_clip(fetch("example_clip")).frames())
        picture = io.BytesIO()
        Image.fromarray(frame.image).save(picture, "PNG")
        self.picture = picture.getvalue()
        self.sound = _wav(make_voice(2.0, 150.0))
        self.results: Counter[tuple[str, str]] = Counter()
        self.failures: list[str] = []

    def chat(self, messages: list[dict[str, Any]], chance: random.Random, **more: Any) -> bytes:
        return body(messages, chance.randint(*TOKENS), think=chance.random() < 0.7, **{"model": self.name, **more})

    async def post(self, content: bytes, **more: Any) -> httpx.Response:
        return await self.client.post(CHAT, content=content, headers=JSON | more)

    async def whole(self, messages: list[dict[str, Any]], chance: random.Random, **more: Any) -> Outcome:
        answer = await self.post(self.chat(messages, chance, **more))
        finished = answer.status_code == 200 and answer.json()["choices"][0]["finish_reason"] in ("stop", "length")
        return answer.status_code, finished

    async def streamed(self, messages: list[dict[str, Any]], chance: random.Random) -> Outcome:
        last, error = "", False
        sent = self.chat(messages, chance, stream=True)
        async with self.client.stream("POST", CHAT, content=sent, headers=JSON) as answer:
            async for line in answer.aiter_lines():
                error |= line.startswith('data: {"error"')
                last = line or last
        return answer.status_code, last == "data: [DONE]" and not error


def _wav(waveform: np.ndarray) -> bytes:
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setparams((1, 2, SAMPLE_RATE, len(waveform), "NONE", ""))
        file.writeframes((waveform.clip(-1, 1) * 32767).astype("<i2").tobytes())
    return out.getvalue()


def _part(kind: str, data: bytes, mime: str) -> dict[str, Any]:
    return {"role": "user", "content": [{"type": kind, kind: {"url": data_url(data, mime)}}]}


def _clip(load: Load, chance: random.Random, text: str = "How does this person feel?") -> dict[str, Any]:
    return question(f"{text} ({chance.randrange(1000)})", chance.choice(load.clips))


def _answer() -> dict[str, Any]:
    return {"role": "assistant", "content": "happiness: the lips are pulled up."}


async def clip_whole(load: Load, chance: random.Random) -> Outcome:
    return await load.whole([_clip(load, chance)], chance)


async def clip_streamed(load: Load, chance: random.Random) -> Outcome:
    return await load.streamed([_clip(load, chance)], chance)


async def two_clips(load: Load, chance: random.Random) -> Outcome:
    return await load.streamed([_clip(load, chance), _answer(), _clip(load, chance, "And this one?")], chance)


async def follow_up(load: Load, chance: random.Random) -> Outcome:
    return await load.streamed([_clip(load, chance), _answer(), question("Why do you think so?")], chance)


async def text_only(load: Load, chance: random.Random) -> Outcome:
    return await load.whole([question("What is AU12? <|face|> <think> </answer>")], chance)


async def picture(load: Load, chance: random.Random) -> Outcome:
    return await load.whole([_part("image_url", load.picture, "image/png")], chance)


async def sound(load: Load, chance: random.Random) -> Outcome:
    return await load.whole([_part("audio_url", load.sound, "audio/wav")], chance)


async def json_answer(load: Load, chance: random.Random) -> Outcome:
    schema = {"type": "object", "properties": {"happy": {"type": "boolean"}}, "required": ["happy"]}
    form = {"type": "json_schema", "json_schema": {"name": "happy", "schema": schema}}
    return await load.whole([_clip(load, chance)], chance, response_format=form)


async def upload(load: Load, chance: random.Random) -> Outcome:
    answer = await load.client.post("/v1/emotions", files={"file": ("clip.mp4", chance.choice(load.clips))})
    return answer.status_code, answer.status_code == 200 and bool(answer.json()["people"])


Send = Callable[[Load, random.Random], Awaitable[Outcome]]
GOOD: dict[Send, int] = {  # and how often
    clip_whole: 6, clip_streamed: 6, two_clips: 1, follow_up: 3, text_only: 1, picture: 1, sound: 1, json_answer: 1,
    upload: 1,
}  # fmt: skip


async def corrupt_clip(load: Load, chance: random.Random) -> Outcome:
    clip = bytearray(chance.choice(load.clips))
    clip[32:] = chance.randbytes(len(clip) - 32)
    return await load.whole([question("?", bytes(clip))], chance)


async def corrupt_upload(load: Load, chance: random.Random) -> Outcome:
    answer = await load.client.post("/v1/emotions", files={"file": ("clip.mp4", chance.randbytes(100_000))})
    return answer.status_code, False


async def lying_type(load: Load, chance: random.Random) -> Outcome:
    return await load.whole([_part("video_url", load.sound, "video/mp4")], chance)


async def oversized(load: Load, chance: random.Random) -> Outcome:
    return (await load.post(b" " * (2 * LARGEST))).status_code, False


async def oversized_unannounced(load: Load, chance: random.Random) -> Outcome:
    async def blocks() -> AsyncIterator[bytes]:
        for _ in range(2 * LARGEST >> 16):
            yield b" " * (1 << 16)

    answer = await load.client.post(CHAT, content=blocks(), headers=JSON)
    return answer.status_code, False


async def wrong_key(load: Load, chance: random.Random) -> Outcome:
    return (await load.post(load.chat([question("?")], chance), Authorization="Bearer wrong")).status_code, False


async def wrong_schema(load: Load, chance: random.Random) -> Outcome:
    wrong: list[dict[str, Any]] = [
        {"messages": "how does he feel"},
        {"messages": []},
        {"messages": [{"role": "user", "content": [{"type": "face_url", "face_url": {"url": "x"}}]}]},
        {"messages": [question("?")], "temperature": "warm"},
        {"messages": [question("?")], "mm_processor_kwargs": {"fps": 1000}},
        {"messages": [question("?")], "max_tokens": -1},
    ]
    return (await load.post(json.dumps({"model": load.name} | chance.choice(wrong)).encode())).status_code, False


async def no_json(load: Load, chance: random.Random) -> Outcome:
    return (await load.post(chance.randbytes(1000))).status_code, False


async def tensors(load: Load, chance: random.Random) -> Outcome:
    """Tensors of a wrong shape, in the ways by which vLLM's own server takes tensors."""
    packed = io.BytesIO()
    torch.save(torch.zeros(3, 7), packed)
    data = data_url(packed.getvalue(), "application/octet-stream").partition(",")[2]
    kind = chance.choice(["image_embeds", "audio_embeds", "video_embeds"])
    part = {"role": "user", "content": [{"type": kind, kind: data}]}
    more = {} if chance.random() < 0.5 else {"prompt_embeds": data}
    return await load.whole([part] if not more else [question("?")], chance, **more)


async def other_place(load: Load, chance: random.Random) -> Outcome:
    url = chance.choice(["http://127.0.0.1/clip.mp4", "file:///etc/passwd", "http://[::ffff:169.254.169.254]/x.mp4"])
    part = {"role": "user", "content": [{"type": "video_url", "video_url": {"url": url}}]}
    return await load.whole([part], chance)


async def hang_up(load: Load, chance: random.Random) -> Outcome:
    """Leave after some pieces of a stream, or before the first."""
    pieces = chance.randint(0, 5)
    sent = load.chat([_clip(load, chance)], chance, stream=True)
    async with load.client.stream("POST", CHAT, content=sent, headers=JSON) as answer:
        async for _ in answer.aiter_lines():
            pieces -= 1
            if pieces <= 0:
                break
    return answer.status_code, False


BAD: list[Send] = [
    corrupt_clip, corrupt_upload, lying_type, oversized, oversized_unannounced, wrong_key, wrong_schema, no_json,
    tensors, other_place, hang_up,
]  # fmt: skip
MAY_CLOSE = {oversized, oversized_unannounced}
