"""``/v1/emotions``: a clip comes in as an upload, an EmotionReport goes out."""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.datastructures import UploadFile

from emollm.api import EmoLLM
from emollm.emotions import EMOTIONS
from emollm.errors import ClipError
from emollm.media.clip import read_clip
from emollm.perceive import perceive
from emollm.reading import Reading, choose_people
from emollm.report import EmotionReport
from emollm.serve.guard.errors import Refused
from emollm.serve.guard.limits import Limits
from emollm.serve.guard.media import check_upload

EMOTIONS_ROUTE = "/v1/emotions"
SCHEMA_ROUTE = "/v1/emotions/schema"
_FIELDS = ("question", "person", "think")
_ANSWERS_AT_ONCE = 64  # threads that wait for the engine
_FLAGS = {"true": True, "1": True, "false": False, "0": False}


class Answer(BaseModel):
    """What a chat completion can be asked to answer with, by ``response_format``: the answer of an EmotionReport."""

    model_config = ConfigDict(extra="forbid")

    emotion: Literal[EMOTIONS]  # type: ignore[valid-type]
    answer: str = Field(max_length=250)


def schemas() -> dict[str, Any]:
    """``response_format`` to send with a chat completion, and the JSON schema of what ``/v1/emotions`` answers."""
    answer = {"name": "emotion_answer", "strict": True, "schema": Answer.model_json_schema()}
    return {
        "response_format": {"type": "json_schema", "json_schema": answer},
        "report": EmotionReport.model_json_schema(),
    }


class Emotions:
    """Reads uploads and answers about them.

    Args:
        model: on the server's engine.
        limits: of one upload.
    """

    def __init__(self, model: EmoLLM, limits: Limits):
        self.model, self.limits = model, limits
        self._readers = ThreadPoolExecutor(os.cpu_count(), "read")  # decoding and finding faces: work for processors
        self._answers = ThreadPoolExecutor(_ANSWERS_AT_ONCE, "answer")

    def routes(self) -> APIRouter:
        router = APIRouter()
        router.post(EMOTIONS_ROUTE)(self.report)
        router.get(SCHEMA_ROUTE)(schemas)
        return router

    async def report(self, request: Request) -> JSONResponse:
        """Form fields: ``file``, and if wanted ``question``, ``person`` (main, all, a number) and ``think``."""
        async with request.form(max_files=1, max_fields=len(_FIELDS)) as form:
            upload = form.get("file")
            if not isinstance(upload, UploadFile):
                raise Refused("The form has no file: send the clip as 'file'.")
            if extra := set(form) - {"file", *_FIELDS}:
                raise Refused(f"'{sorted(extra)[0][:40]}' is not a field that this server takes.")
            texts = {name: str(form[name]) for name in _FIELDS if name in form}
            name, data = os.path.basename(upload.filename or "")[:200] or "clip", await upload.read()
        think = _FLAGS.get(texts.get("think", "true").lower())
        if think is None:
            raise Refused("'think' is true or false.")
        loop = asyncio.get_running_loop()
        reading = await loop.run_in_executor(self._readers, self._read, name, data, texts.get("person", "main"))
        del data
        answered = await loop.run_in_executor(self._answers, self._answer, reading, texts.get("question"), think)
        return JSONResponse(answered.model_dump())

    def _read(self, name: str, data: bytes, person: str) -> Reading:
        started = time.perf_counter()
        check_upload(name, data, self.limits)
        with tempfile.TemporaryDirectory(prefix="emollm-") as folder:
            path = Path(folder) / "clip"
            path.write_bytes(data)
            try:
                perception = perceive(read_clip(path, limits=self.limits.clip))
            except ClipError as error:
                raise Refused(str(error).replace(str(path), "The clip"), 422) from None
        return Reading(name, perception, choose_people(perception, person), time.perf_counter() - started)

    def _answer(self, reading: Reading, question: str | None, think: bool) -> EmotionReport:
        (report,) = self.model.answer([reading], question, think=think)
        return report
