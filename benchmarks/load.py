"""Many clients at once, a tenth of whose requests are bad: is every good one answered, and does memory stay flat?

    python benchmarks/load.py [--clients 32] [--seconds 600] [--max-requests 200000] [--model FOLDER] [--json]

Starts a server on loopback with an API key and low limits, and stops it in the end. ``--url http://127.0.0.1:PORT
--key KEY --process ID`` takes a running one instead; other addresses than those of this machine are refused. Ends with
1 when a check fails.

Good requests: clips, a picture, a sound, text, follow-up questions, JSON answers, uploads; streamed and not. Bad ones,
a tenth: see ``load_requests.py``. One passes if it gets a 4xx, or if its connection is closed while it is being sent.
"""

import argparse
import asyncio
import ipaddress
import random
import sys
import tempfile
import time
from collections import Counter
from contextlib import nullcontext
from pathlib import Path
from statistics import median
from urllib.parse import urlsplit

import httpx
import psutil
from common import Figure, show
from load_requests import BAD, GOOD, LARGEST, MAY_CLOSE, Load, Send, clip_whole, hang_up
from server import Server, healthy, running

from emollm.model.checkpoint import default_model

BAD_SHARE = 0.1
SAMPLE_S = 2.0
EARLY, LATE = (0.2, 0.4), (0.8, 1.0)  # parts of the run whose memory is compared; before, caches fill
MOST_GROWTH = 0.10
GIVE_UP_S = 300.0  # one request


async def one(load: Load, send: Send, good: bool, chance: random.Random) -> None:
    """Send one request, and count what came of it."""
    try:
        status, whole = await send(load, chance)
    except httpx.TransportError as error:
        status, whole = 0, False
        outcome = "closed" if send in MAY_CLOSE else f"no answer ({type(error).__name__})"
    else:
        outcome = f"{status}, cut off" if good and status == 200 and not whole else str(status)
    refused = 400 <= status < 500 or (status == 200 and send is hang_up) or outcome == "closed"
    load.results[(f"{'good' if good else 'bad'}: {send.__name__}", outcome)] += 1
    if not (whole if good else refused):
        load.failures.append(f"{send.__name__}: {outcome}")


async def client(load: Load, number: int, until: float, budget: list[int]) -> None:
    chance = random.Random(number)
    while time.monotonic() < until and budget[0] > 0:
        budget[0] -= 1
        good = chance.random() >= BAD_SHARE
        send = chance.choices(list(GOOD), list(GOOD.values()))[0] if good else chance.choice(BAD)
        await one(load, send, good, chance)


def memory(process: psutil.Process) -> int:
    """Bytes held by a server and its children."""
    total = 0
    for each in (process, *process.children(recursive=True)):
        try:
            total += each.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return total


async def watch(process: psutil.Process, started: float, samples: list[tuple[float, int]]) -> None:
    while process.is_running():
        samples.append((time.monotonic() - started, memory(process)))
        await asyncio.sleep(SAMPLE_S)


def window(samples: list[tuple[float, int]], part: tuple[float, float]) -> float:
    """Megabytes in the middle of a part of the run."""
    end = samples[-1][0]
    return median(held for at, held in samples if part[0] * end <= at <= part[1] * end) / 2**20


async def run(url: str, key: str, process: psutil.Process | None, arguments: argparse.Namespace) -> list[Figure]:
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=arguments.clients)
    with tempfile.TemporaryDirectory() as folder:
        async with httpx.AsyncClient(base_url=url, headers=headers, timeout=GIVE_UP_S, limits=limits) as connection:
            name = (await connection.get("/v1/models")).json()["data"][0]["id"]
            load = Load(connection, name, Path(folder))
            samples: list[tuple[float, int]] = []
            started = time.monotonic()
            watching = asyncio.create_task(watch(process, started, samples)) if process else None
            budget = [arguments.max_requests]
            until = started + arguments.seconds
            await asyncio.gather(*(client(load, number, until, budget) for number in range(arguments.clients)))
            seconds = time.monotonic() - started
            if watching:
                watching.cancel()
            load.failures += ["afterwards: not healthy"] * (not await asyncio.to_thread(healthy, url))
            await one(load, clip_whole, True, random.Random(0))
    return figures(load, seconds, samples)


def figures(load: Load, seconds: float, samples: list[tuple[float, int]]) -> list[Figure]:
    counts: Counter[str] = Counter()
    for (kind, outcome), count in load.results.items():
        counts[kind.partition(":")[0]] += count
        counts["5xx"] += count * outcome.startswith("5")
    shown = [Figure(f"{kind}: {outcome}", count) for (kind, outcome), count in sorted(load.results.items())]
    shown += [
        Figure("seconds", seconds, "s"),
        Figure("good", counts["good"]),
        Figure("bad", counts["bad"]),
        Figure("requests_per_s", (counts["good"] + counts["bad"]) / seconds, "1/s"),
        Figure("server_errors", counts["5xx"], goal=0, at_most=True),
        Figure("not_as_expected", len(load.failures), goal=0, at_most=True),
    ]
    if len(samples) > 1:
        early, late = window(samples, EARLY), window(samples, LATE)
        shown += [
            Figure("memory_early_mb", early, "MB"),
            Figure("memory_late_mb", late, "MB"),
            Figure("memory_growth", late / early - 1, goal=MOST_GROWTH, at_most=True),
        ]
    for failure in list(dict.fromkeys(load.failures))[:20]:
        print("not as expected:", failure)
    return shown


def loopback(url: str) -> str:
    """The address, if it is one of this machine."""
    parts = urlsplit(url)
    host = "127.0.0.1" if parts.hostname == "localhost" else parts.hostname or ""
    try:
        own = ipaddress.ip_address(host).is_loopback
    except ValueError:
        own = False
    if not own or parts.scheme != "http":
        raise argparse.ArgumentTypeError("only servers of this machine: http://127.0.0.1:PORT")
    return f"http://{f'[{host}]' if ':' in host else host}:{parts.port or 80}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=32, choices=range(1, 257), metavar="N")
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--max-requests", type=int, default=200_000)
    parser.add_argument("--model", type=Path, help="folder of a merged checkpoint; default: the embedded model")
    parser.add_argument("--url", type=loopback, help="a running server of this machine")
    parser.add_argument("--key", default="", help="its API key")
    parser.add_argument("--process", type=int, help="its process, whose memory is measured")
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line")
    arguments = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        keys = Path(folder) / "keys.txt"
        keys.write_text("load\n")
        settings = {
            "api_keys": str(keys),
            "max_requests_per_client": 2 * arguments.clients,
            "limits": {"request_bytes": LARGEST},
        }
        own = None if arguments.url else running(arguments.model or default_model(), settings)
        with own or nullcontext(Server(arguments.url, None)) as server:
            number = server.process.pid if server.process else arguments.process
            process = psutil.Process(number) if number else None
            key = "load" if own else arguments.key
            measured = asyncio.run(run(server.url, key, process, arguments))
    show("load", measured, arguments.json)
    sys.exit(any(figure.reached is False for figure in measured))


if __name__ == "__main__":
    main()
