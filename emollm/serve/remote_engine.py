"""An engine behind a URL: any server that speaks OpenAI's chat completions answers, our own towers check it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from emollm.emotions import EMOTIONS
from emollm.engines import check_engine
from emollm.errors import BadArgumentError, EngineError
from emollm.model.processing_emollm import ClipInputs
from emollm.reasoning.prompts import Message
from emollm.serve.engine import (
    MAX_NEW_TOKENS,
    EncodedClip,
    Generation,
    LocalTowers,
    Request,
    checkpoint_digest,
)
from emollm.serve.media_part import media_part
from emollm.serve.remote_reply import Joiner, Shares

KEYS = ("EMOLLM_API_KEY", "OPENAI_API_KEY")
AT_ONCE = 16  # requests of a batch under way together; a server that takes fewer says 429
TRIES = 4  # after the first, where a server is busy or the connection breaks; it may say how long to wait
CONNECT_S, REPLY_S = 10.0, 600.0
_MEDIA = ("video", "image", "audio")
# Our own chat template drops it, for our model was trained to reply so; any other model has to be told.
_FORM = (
    "You say how people feel from face and voice, and name the evidence. Reply in exactly this form:\n"
    "{thought}<answer>LABEL: why, in a sentence</answer>\n"
    f"LABEL is one of: {', '.join(EMOTIONS)}. A question that asks for something else is answered between the answer"
    " tags without a label."
)
_THOUGHT = (
    "<think>\nObservations: face 0-2 s: AU12 lip corner puller 3; AU6 cheek raiser 2. voice: high pitch, loud.\n"
    "Interpretation: what this may mean.\nConclusion: what it comes to.\n</think>\n"
)


@dataclass(frozen=True)
class SentClip(EncodedClip):
    """A clip as our own towers see it, and ``part``: the content part of a message that takes it to the server."""

    part: dict[str, Any] = field(default_factory=dict, repr=False)


class RemoteEngine:
    """A model on a server, greedy but where a request of a batch wants otherwise.

    Args:
        url: up to and with the version, such as ``http://localhost:8000/v1``.
        towers: folder of the checkpoint whose towers measure the clip here.
        model: its name on the server; None where it serves only one.

    Raises:
        BadArgumentError: the server has no such model, or several and none is named. EngineError: it cannot be
        reached or does not let us in, or the client library is missing. WeightsError: no such checkpoint.
    """

    def __init__(self, url: str, towers: Path, model: str | None = None):
        try:
            import openai
        except ImportError as error:
            raise EngineError(
                "Servers are asked through the package openai; install it with: pip install openai"
            ) from error
        check_engine(url)
        self.name = url.rstrip("/")
        self.client = openai.OpenAI(
            base_url=url,
            api_key=next((key for name in KEYS if (key := os.environ.get(name))), "none"),
            timeout=openai.Timeout(REPLY_S, connect=CONNECT_S),
            max_retries=TRIES,
        )
        self.model, self.owner = self._served(model)
        self.folder, self.towers = towers, LocalTowers(towers)
        decode = self.towers.processor.tokenizer.decode
        self._labels = {decode([token]): label for token, label in zip(self.towers.label_ids, EMOTIONS)}

    def _served(self, model: str | None) -> tuple[str, str]:
        """Name and owner of the model that is asked."""
        try:
            with self._one_sentence():
                served = {one.id: str(one.owned_by) for one in self.client.with_options(max_retries=0).models.list()}
        except BadArgumentError as error:
            if model is None:
                raise EngineError(
                    f"The server at {self.name} does not list its models; name one with --model."
                ) from error
            return model, ""  # some servers answer but do not list
        if model is None and len(served) != 1:
            raise BadArgumentError(f"The server at {self.name} has {_named(served)}; name one with --model.")
        chosen = model or next(iter(served))
        if chosen not in served:
            raise BadArgumentError(f"The server at {self.name} has no model '{chosen}'; it has {_named(served)}.")
        return chosen, served[chosen]

    def describe(self) -> dict[str, str]:
        return {
            "engine": self.name,
            "served_model": self.model,
            "served_by": self.owner,
            "towers_sha256": checkpoint_digest(self.folder),
            "decoding": "greedy",
        }

    def encode(self, clip: ClipInputs) -> EncodedClip:
        """Run our own towers over the clip, and make it ready to be sent.

        Raises:
            BadArgumentError: another person than the main one is meant. ClipError: the clip is too large to be sent.
        """
        if clip.face is not None and clip.face.id != 1:
            raise BadArgumentError("A server gets the whole clip, so it can be asked about the main person only.")
        if clip.source is None:
            raise ValueError("the clip to send is missing")
        return SentClip(**vars(self.towers.encode(clip)), part=media_part(clip.source))

    def stream(
        self, messages: list[Message], clip: EncodedClip, think: bool, result: Generation | None = None
    ) -> Iterator[str]:
        """Yield the reply piece by piece, section tags included; ``result`` is filled when it is finished.

        Raises:
            EngineError: the server fails, hangs up or does not let us in. BadArgumentError: it refuses the request.
        """
        sent = self._messages(messages, clip, think)
        joiner, shares, pieces, begun, ended = Joiner(), Shares(self._labels), [], False, None
        with (
            self._one_sentence(),
            self.client.chat.completions.create(stream=True, **self._request(sent, think)) as chunks,
        ):
            for chunk in chunks:
                begun = True
                for choice in chunk.choices[:1]:
                    shares.read(choice.logprobs)
                    ended = choice.finish_reason or ended
                    for piece in (
                        *joiner.reasoning(_reasoning(choice.delta)),
                        *joiner.content(choice.delta.content or ""),
                    ):
                        pieces.append(piece)
                        yield piece
        if ended is None:
            did = "broke off in the middle of its reply" if begun else "does not answer as OpenAI's API does"
            raise EngineError(f"The server at {self.name} {did}.")
        for piece in joiner.close(ended == "stop"):
            pieces.append(piece)
            yield piece
        if result is not None:
            result.text, result.distribution, result.prompt = "".join(pieces), shares.distribution, _shown(sent)

    def generate_batch(self, requests: list[Request], think: bool) -> list[Generation]:
        """Whole replies, in order; several are asked for at once. Errors as in :meth:`stream`."""
        pool = ThreadPoolExecutor(AT_ONCE, "ask")
        try:
            return [reply.result() for reply in [pool.submit(self._generate, one, think) for one in requests]]
        finally:
            pool.shutdown(cancel_futures=True)

    def _generate(self, request: Request, think: bool) -> Generation:
        if request.thought:
            raise EngineError("A server cannot be asked to go on from a thought.")
        sent = self._messages(request.messages, request.clip, think)
        asked = self._request(sent, think)
        if request.temperature:
            asked |= {"temperature": request.temperature, "seed": request.seed}
        joiner, shares = Joiner(), Shares(self._labels)
        with self._one_sentence():
            choice = self.client.chat.completions.create(**asked).choices[0]
            shares.read(choice.logprobs)
            text = "".join(
                [
                    *joiner.reasoning(_reasoning(choice.message)),
                    *joiner.content(choice.message.content or ""),
                    *joiner.close(choice.finish_reason == "stop"),
                ]
            )
        return Generation(text, shares.distribution, _shown(sent))

    def _request(self, messages: list[Message], think: bool) -> dict[str, Any]:
        request: dict[str, Any] = {
            "model": self.model,
            "messages": messages,
            "temperature": 0,
            "max_tokens": MAX_NEW_TOKENS,
        }
        if self.owner in ("vllm", "emollm"):  # others may refuse what they do not know
            request |= {"logprobs": True, "top_logprobs": 20}
            request["extra_body"] = {"chat_template_kwargs": {"enable_thinking": think}}
        return request

    @staticmethod
    def _messages(messages: list[Message], clip: EncodedClip, think: bool) -> list[Message]:
        """The messages with the form of a reply before them and the clip in its place."""
        part = clip.part if isinstance(clip, SentClip) else None
        sent: list[Message] = [{"role": "system", "content": _FORM.format(thought=_THOUGHT if think else "")}]
        for message in messages:
            content = message["content"]
            if not isinstance(content, str):
                filled = [part if one["type"] in _MEDIA else one for one in content]
                content = [one for one in filled if one is not None]
            sent.append({**message, "content": content})
        return sent

    @contextmanager
    def _one_sentence(self) -> Iterator[None]:
        """Turn whatever can go wrong on the way to the server and back into one sentence."""
        import httpx
        import openai

        server = f"The server at {self.name}"
        try:
            yield
        except openai.APITimeoutError as error:
            raise EngineError(f"{server} did not answer in time.") from error
        except openai.APIConnectionError as error:
            raise EngineError(f"{server} cannot be reached.") from error
        except (openai.AuthenticationError, openai.PermissionDeniedError) as error:
            raise EngineError(
                f"{server} wants a valid API key; put it into the environment variable {KEYS[0]}."
            ) from error
        except openai.RateLimitError as error:
            raise EngineError(f"{server} is busy, also after {TRIES} more tries.") from error
        except openai.APIStatusError as error:
            if error.status_code >= 500:
                raise EngineError(f"{server} failed (status {error.status_code}).") from error
            raise BadArgumentError(f"{server} refuses the request: {_said(error)}") from error
        except httpx.HTTPError as error:
            raise EngineError(f"{server} broke off in the middle of its reply.") from error
        except openai.OpenAIError as error:  # also an error told in the middle of a stream
            raise EngineError(f"{server} failed: {_said(error)}") from error
        except (json.JSONDecodeError, AttributeError, IndexError, TypeError) as error:
            raise EngineError(f"{server} does not answer as OpenAI's API does.") from error


def _reasoning(message: Any) -> str:
    """The thought of a message or of a piece of one; older servers have another name for it."""
    return getattr(message, "reasoning", None) or getattr(message, "reasoning_content", None) or ""


def _said(error: Any) -> str:
    """What the server said of an error: its first line, as a sentence of at most 200 characters."""
    body = getattr(error, "body", None)
    told = body.get("message") if isinstance(body, dict) else None
    line = (str(told or error).strip().splitlines() or ["no reason given"])[0][:200].rstrip()
    return line if line.endswith(".") else line + "."


def _named(served: dict[str, str]) -> str:
    return ", ".join(served) if served else "no model"


def _shown(messages: list[Message]) -> str:
    """What was sent, the clip by its digest."""

    def short(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: short(one) for key, one in value.items()}
        if isinstance(value, list):
            return [short(one) for one in value]
        long = isinstance(value, str) and len(value) > 4096
        return f"sha256:{sha256(value.encode()).hexdigest()}" if long else value

    return json.dumps(short(messages))
