"""vLLM's own app behind our layers, without an engine: what is closed, and what is handed to vLLM."""

import asyncio
from importlib.util import find_spec
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from emollm.errors import BadArgumentError
from emollm.serve.app import wrap
from emollm.serve.middleware.access import OPEN
from emollm.serve.settings import Settings

pytestmark = pytest.mark.skipif(find_spec("vllm") is None, reason="vLLM is not installed")


@pytest.fixture(scope="module")
def vllm_app(tmp_path_factory) -> FastAPI:
    """Every route that vLLM has, those of its development mode included."""
    from emollm.serve.vllm_options import prepare_environment, vllm_arguments

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VLLM_SERVER_DEV_MODE", "1")
        patch.setenv("VLLM_ALLOW_RUNTIME_LORA_UPDATING", "1")
        patch.setenv("VLLM_LOGGING_LEVEL", "ERROR")
        prepare_environment()
        from vllm import envs
        from vllm.entrypoints.launchers.app import build_app

        envs.disable_envs_cache()  # an engine that another test started in this process has frozen them
        arguments = vllm_arguments(Settings(engine={"enable_scale_out": True}), Path("model"))
        return build_app(arguments, ("generate",), None)


def _paths(routes) -> set[str]:
    """Paths of all routes, those in routers and mounts included; names in braces filled in."""
    found = set()
    for route in routes:
        if path := getattr(route, "path", None):
            found.add(path.replace("{", "").replace("}", "").replace(":path", ""))
        inner = getattr(route, "routes", None) or getattr(getattr(route, "original_router", None), "routes", None)
        found |= _paths(inner or ())
    return found


def test_every_route_of_vllm_is_closed_but_those_on_the_list(vllm_app):
    paths = _paths(vllm_app.routes)
    assert {"/tokenize", "/invocations", "/v1/completions", "/v1/load_lora_adapter", "/sleep", "/pause"} <= paths
    assert len(paths) > 25
    app, _ = wrap(vllm_app, Settings(), [], [])

    async def run() -> dict[str, set[int]]:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://server") as client:
            return {
                path: {(await client.request(method, path)).status_code for method in ("GET", "POST", "PUT", "DELETE")}
                for path in paths - OPEN.keys()
            }

    assert {path for path, codes in asyncio.run(run()).items() if codes != {404}} == set()


def test_an_opened_route_reaches_vllm(vllm_app):
    app, _ = wrap(vllm_app, Settings(open_routes=["/version"]), [], [])

    async def run() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://server") as client:
            return await client.get("/version")

    assert "version" in asyncio.run(run()).json()


def test_vllm_is_told_what_the_settings_say(tmp_path):
    from emollm.serve.vllm_options import vllm_arguments

    settings = Settings(name="ours", max_new_tokens=7, engine={"max_model_len": 100})
    arguments = vllm_arguments(settings, tmp_path)
    assert arguments.served_model_name == ["ours"]
    assert arguments.max_model_len == 100
    assert arguments.override_generation_config == {"temperature": 0.0, "max_new_tokens": 7}
    assert not arguments.trust_request_mm_kwargs
    assert not arguments.trust_remote_code
    assert not arguments.enable_log_requests
    with pytest.raises(BadArgumentError, match="no option 'max_model_length'"):
        vllm_arguments(Settings(engine={"max_model_length": 100}), tmp_path)
