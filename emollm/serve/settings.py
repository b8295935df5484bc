"""Settings of ``emollm serve``: one YAML file, each key of which the command line can change."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from emollm.errors import BadArgumentError
from emollm.serve.guard.limits import Limits

# What decides who may send what is set by the server itself, and stays out of reach of ``engine``.
_OURS = {
    "model", "tokenizer", "served_model_name", "trust_remote_code", "allowed_local_media_path",
    "allowed_media_domains", "limit_mm_per_prompt", "mm_processor_cache_gb", "enable_log_requests", "reasoning_parser",
    "override_generation_config", "shutdown_timeout",
}  # fmt: skip
Seconds = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]


class Settings(BaseModel):
    """Everything an operator decides.

    Attributes:
        model: a folder; None serves the embedded default model.
        name: what clients call the model; None takes ``emollm-tiny`` or the name of the folder.
        host: address to listen on. ``0.0.0.0`` lets others in: give ``api_keys`` then.
        port: 0 takes any free one.
        api_keys: file with one key a line; None lets everybody in.
        open_routes: further paths to open, such as ``/tokenize``; what is sent there is not checked by the guard.
        cors_origins: web pages of these origins may call from a browser.
        trusted_proxies: addresses of proxies whose ``X-Forwarded-For`` tells the client's address.
        max_requests: at once, running and waiting; further ones get 429.
        max_requests_per_client: of these, how many of one key, or of one address where there are no keys.
        retry_after_s: what a client that gets 429 is told to wait.
        request_timeout_s: from the first byte of a request to the last of its answer.
        read_timeout_s: how long a client may be silent while it sends.
        drain_timeout_s: how long requests may go on after SIGTERM.
        max_new_tokens: of one answer, also where the client asks for more.
        allow_media_hosts: hosts that clips may be fetched from, such as ``media.example.com`` or ``*.example.com``;
            by default clips come with the request only.
        allow_plain_http: these may also be fetched from without encryption.
        limits: of what is sent: bytes, seconds, pixels, items.
        engine: further options of vLLM by name, such as ``tensor_parallel_size: 2``.
    """

    model_config = ConfigDict(extra="forbid")

    model: Path | None = None
    name: str | None = None
    host: str = "127.0.0.1"
    port: int = Field(8000, ge=0, le=65535)
    api_keys: Path | None = None
    open_routes: list[str] = []
    cors_origins: list[str] = []
    trusted_proxies: list[str] = []
    max_requests: Count = 256
    max_requests_per_client: Count = 64
    retry_after_s: Count = 2
    request_timeout_s: Seconds = 300
    read_timeout_s: Seconds = 30
    drain_timeout_s: Count = 30
    max_new_tokens: Count = 1024
    allow_media_hosts: list[str] = []
    allow_plain_http: bool = False
    limits: Limits = Limits()
    engine: dict[str, Any] = {}

    @field_validator("engine")
    @classmethod
    def _not_ours(cls, engine: dict[str, Any]) -> dict[str, Any]:
        if refused := sorted(_OURS & engine.keys()):
            raise ValueError(f"{refused[0]} is set by the server itself")
        return engine


def load_settings(file: Path | None, options: dict[str, Any], changes: list[str]) -> Settings:
    """Settings from a file, changed by options and by ``key=value`` (values are YAML; dots reach into maps).

    Raises:
        BadArgumentError: the file cannot be read, or a key is unknown or of the wrong type.
    """
    content = _read(file) if file else {}
    content |= options
    for change in changes:
        dotted, equals, value = change.partition("=")
        if not equals:
            raise BadArgumentError(f"'{change}' is not of the form key=value.")
        target, (*parents, key) = content, dotted.split(".")
        for parent in parents:
            target = target.setdefault(parent, {})
            if not isinstance(target, dict):
                raise BadArgumentError(f"'{dotted}' is no key of the settings.")
        try:
            target[key] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise BadArgumentError(f"The value of '{dotted}' cannot be read.") from error
    try:
        return Settings.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise BadArgumentError(f"The settings are wrong at '{where}': {first['msg']}.") from error


def _read(file: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise BadArgumentError(f"The settings file {file} cannot be read.") from error
    except yaml.YAMLError as error:
        raise BadArgumentError(f"The settings file {file} is not valid YAML.") from error
    if content is not None and not isinstance(content, dict):
        raise BadArgumentError(f"The settings file {file} holds no settings.")
    return content or {}
