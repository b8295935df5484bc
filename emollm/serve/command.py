"""``emollm serve``: the command line of the server."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from emollm.show import sentence


def serve(
    changes: Annotated[
        list[str] | None,
        typer.Argument(metavar="KEY=VALUE", help="Any other key of the settings, such as limits.media_parts=4."),
    ] = None,
    model: Annotated[Path | None, typer.Option(help="A folder. Default: the embedded model.")] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on. Default: 127.0.0.1, this machine.")] = None,
    port: Annotated[int | None, typer.Option(help="Default: 8000; 0 takes a free one.")] = None,
    settings: Annotated[Path | None, typer.Option(help="YAML file of settings, such as serve/settings.yaml.")] = None,
    api_keys: Annotated[Path | None, typer.Option(help="File of keys, one a line. Default: none needed.")] = None,
    allow_media_host: Annotated[
        list[str] | None, typer.Option(help="Clips may be fetched from this host; may be given several times.")
    ] = None,
    open_route: Annotated[
        list[str] | None, typer.Option(help="Open another route of vLLM; may be given several times.")
    ] = None,
    debug: Annotated[bool, typer.Option("--debug", help="Show what vLLM logs, and tracebacks.")] = False,
) -> None:
    """Answer over HTTP as OpenAI's API does, on vLLM: text, clips, pictures and sounds; reports at /v1/emotions.

    The log on standard error has one JSON object a line. SIGTERM or Ctrl-C lets requests finish, twice ends them.
    """
    given = {
        "model": model,
        "host": host,
        "port": port,
        "api_keys": api_keys,
        "allow_media_hosts": allow_media_host,
        "open_routes": open_route,
    }
    options = {key: value for key, value in given.items() if value not in (None, [])}
    from emollm.serve.server import serve as run
    from emollm.serve.settings import load_settings

    chosen = load_settings(settings, options, changes or [])
    _speak_again(debug)
    raise typer.Exit(run(chosen, lambda address: _ready(address, chosen.api_keys is not None), debug))


def _ready(address: str, keys: bool) -> None:
    notes = Console(file=sys.stdout)
    header = ' -H "Authorization: Bearer $KEY"' if keys else ""
    sentence(notes, f"Listening on {address}. Try:")
    print(f"curl {address}/v1/emotions{header} -F file=@clip.mp4", flush=True)


def _speak_again(debug: bool) -> None:
    """Give standard error back to libraries and to the engine's process: on a server, what they warn of matters."""
    if not debug:  # else nothing was silenced
        os.dup2(sys.stderr.fileno(), 2)
