"""The app: vLLM's routes and ours, and the layers that every request goes through, from the outside in."""

from __future__ import annotations

import asyncio
from argparse import Namespace
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import JSONResponse
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

from emollm.api import EmoLLM
from emollm.serve.emotions import Emotions
from emollm.serve.guard.hosts import Hosts
from emollm.serve.guard.text import special_tokens
from emollm.serve.middleware.access import HEALTH, OPEN, ApiKeys, OpenRoutes
from emollm.serve.middleware.errors import Errors, Refusal, error_response, explain_errors
from emollm.serve.middleware.guard import Guard
from emollm.serve.middleware.load import Admission, Body
from emollm.serve.middleware.log import RequestLog
from emollm.serve.served_engine import ServedEngine
from emollm.serve.settings import Settings

if TYPE_CHECKING:
    from vllm.engine.protocol import EngineClient


async def build(
    engine: EngineClient, arguments: Namespace, settings: Settings, keys: list[str], folder: Path
) -> tuple[ASGIApp, Admission, FastAPI]:
    """The app to serve, the layer that stops it, and vLLM's app inside."""
    from vllm.entrypoints.launchers.api_server.app_state import init_app_state
    from vllm.entrypoints.launchers.app import build_app
    from vllm.v1.engine.exceptions import EngineDeadError

    from emollm.serve.video_loader import set_limits

    tasks = await engine.get_supported_tasks()
    app = build_app(arguments, tasks, engine.model_config)
    await init_app_state(engine, app.state, arguments, tasks)
    explain_errors(app)
    app.exception_handler(EngineDeadError)(_engine_dead)
    app.middleware_stack = app.build_middleware_stack()  # vLLM's is built already, and knows its own handlers only
    layered, admission = wrap(app, settings, keys, special_tokens(engine.renderer.get_tokenizer()))
    name = arguments.served_model_name[0]
    model = EmoLLM(ServedEngine(engine, folder, asyncio.get_running_loop()), name)
    emotions = Emotions(model, settings.limits)
    ours = [health_route(engine, admission), models_route(app), emotions.routes()]
    app.router.routes[:0] = [route for router in ours for route in router.routes]  # before vLLM's own
    set_limits(settings.limits.clip)
    return layered, admission, app


def _dead() -> Refusal:
    return Refusal(503, "The engine has died.", "engine_dead")


async def _engine_dead(request: Request, error: Exception) -> JSONResponse:
    return error_response(_dead())


def wrap(app: ASGIApp, settings: Settings, keys: list[str], tokens: Collection[str]) -> tuple[ASGIApp, Admission]:
    """Put the layers around an app.

    Raises:
        BadArgumentError: what is allowed as a host is no name of one.
    """
    hosts = Hosts.parse(settings.allow_media_hosts, plain_http=settings.allow_plain_http)
    guard = Guard(app, settings.limits, hosts, tokens)
    body = Body(guard, settings.limits.request_bytes, settings.read_timeout_s)
    admission = Admission(
        body,
        settings.max_requests,
        settings.max_requests_per_client,
        settings.request_timeout_s,
        settings.retry_after_s,
    )
    layered: ASGIApp = Errors(ApiKeys(OpenRoutes(admission, settings.open_routes), keys))
    if settings.cors_origins:
        layered = CORSMiddleware(
            layered,
            allow_origins=settings.cors_origins,
            allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "Content-Type", "X-Request-Id"],
            expose_headers=["X-Request-Id", "Retry-After"],
        )
    return RequestLog(layered, frozenset(OPEN)), admission


def health_route(engine: EngineClient, admission: Admission) -> APIRouter:
    """``/health``: 200 while requests are answered; 503 once the engine has died or the server stops."""
    router = APIRouter()

    @router.get(HEALTH)
    async def health() -> JSONResponse:
        if engine.errored:
            raise _dead()
        if admission.stopping:
            raise Refusal(503, "The server is stopping.", "stopping")
        return JSONResponse({"status": "ok"})

    return router


def models_route(app: FastAPI) -> APIRouter:
    """``/v1/models`` as vLLM answers it, but for the folders of models and adapters."""
    router = APIRouter()

    @router.get("/v1/models")
    async def models() -> JSONResponse:
        found = await app.state.openai_serving_models.show_available_models()
        for card in found.data:
            card.root = card.id
        return JSONResponse(found.model_dump())

    return router
