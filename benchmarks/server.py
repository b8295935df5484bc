"""What the benchmarks of serving share: a server of their own on loopback, and clips that nobody has asked about."""

from __future__ import annotations

import base64
import json
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import yaml
from scipy.signal import lfilter, sawtooth

from emollm.eval.probes.clips import mux
from emollm.media.clip import SAMPLE_RATE, read_clip
from emollm.media.cut import cut
from emollm.weights import fetch

START_S, STOP_S = 900.0, 90.0  # a free machine takes half a minute
MODEL = "served"


@dataclass(frozen=True)
class Server:
    """A server that answers: its address, such as ``http://127.0.0.1:41235``, and its process if we started it."""

    url: str
    process: subprocess.Popen[bytes] | None


@contextmanager
def running(model: Path, settings: dict[str, Any] | None = None) -> Iterator[Server]:
    """Start ``emollm serve`` on a free port of 127.0.0.1, wait until it answers, and stop it in the end.

    Raises:
        SystemExit: it does not start; its last lines are in the message.
    """
    with tempfile.TemporaryDirectory() as name, socket.socket() as free:
        folder = Path(name)
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        file, log = folder / "settings.yaml", folder / "log"
        content = {"model": str(model), "name": MODEL, "host": "127.0.0.1", "port": port, **(settings or {})}
        file.write_text(yaml.safe_dump(content))
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "emollm", "serve", "--settings", str(file)], stdout=output, stderr=output
            )
        url = f"http://127.0.0.1:{port}"
        try:
            _wait(url, process, log)
            yield Server(url, process)
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + START_S
    while time.monotonic() < until and process.poll() is None:
        if healthy(url):
            return
        time.sleep(0.5)
    sys.exit("The server does not start:\n" + "\n".join(log.read_text(errors="replace").splitlines()[-15:]))


def healthy(url: str) -> bool:
    """Whether the server says that it is well."""
    try:
        return httpx.get(f"{url}/health", timeout=5).status_code == 200
    except httpx.HTTPError:
        return False


def make_clips(count: int, seconds: float, folder: Path) -> list[Path]:
    """Pieces of the example clip that begin at even distances, each a video file with a voice of its own."""
    clip = read_clip(fetch("example_clip"))
    step = (clip.duration_s - seconds) / max(count - 1, 1)
    paths = []
    for number in range(count):
        part = cut(clip, number * step, number * step + seconds)
        paths.append(folder / f"{seconds:g}s-{number}.mp4")
        mux(paths[-1], [frame.image for frame in part.frames()], make_voice(seconds, 120.0 + number))
    return paths


def make_voice(seconds: float, pitch_hz: float) -> np.ndarray:
    """``(N,)`` sound at 16 kHz that passes for speech: two vowels in turn, five syllables a second.

    The example clip is silent. Buzz through resonators, as in Klatt's synthesiser (1980).
    """
    time_s = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    buzz = sawtooth(2 * np.pi * np.cumsum(pitch_hz * (1 + 0.1 * np.sin(2 * np.pi * 0.7 * time_s))) / SAMPLE_RATE)
    open_vowel = _resonate(buzz, [(700, 100), (1200, 120), (2600, 160)])
    close_vowel = _resonate(buzz, [(300, 80), (2200, 150), (2900, 200)])
    syllables = 0.25 - 0.25 * np.cos(2 * np.pi * 5 * time_s)
    return np.where(np.floor(5 * time_s) % 2 == 0, open_vowel, close_vowel) * syllables


def _resonate(sound: np.ndarray, formants: list[tuple[float, float]]) -> np.ndarray:
    """Sound through resonators, each of a frequency and a bandwidth in Hz; its peak is 1."""
    for frequency, width in formants:
        radius = np.exp(-np.pi * width / SAMPLE_RATE)
        turn = 2 * np.pi * frequency / SAMPLE_RATE
        sound = lfilter([1 - radius], [1, -2 * radius * np.cos(turn), radius**2], sound)
    return sound / np.abs(sound).max()


def data_url(data: bytes, kind: str = "video/mp4") -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def question(text: str, clip: bytes | None = None) -> dict[str, Any]:
    """A message of the user, about a clip if there is one."""
    content: list[dict[str, Any]] = [{"type": "text", "text": text}]
    if clip is not None:
        content.insert(0, {"type": "video_url", "video_url": {"url": data_url(clip)}})
    return {"role": "user", "content": content}


def body(messages: list[dict[str, Any]], tokens: int, *, think: bool = True, **more: Any) -> bytes:
    """A chat completion of at most ``tokens`` tokens."""
    options = {"max_tokens": tokens, "chat_template_kwargs": {"enable_thinking": think}, **more}
    return json.dumps({"model": MODEL, "messages": messages, **options}).encode()
