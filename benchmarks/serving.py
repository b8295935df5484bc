"""Tokens a second of the server against transformers, and against vLLM without us, measured in the same run.

    python benchmarks/serving.py [--clients 1 4 16 64] [--model FOLDER] [--json]

All answer with exactly 64 tokens, greedy, in one dtype, to thinking prompts about pieces of the example clip:

transformers  the engine without a server, one request after the other (its rate is the same for any number of clients)
server        our server over HTTP; every request carries its clip as a data URL
bound         vLLM on the language model alone, in its own process: prompts of as many tokens, no clips, no HTTP

Who answers has met the clip before, but not the question: transformers holds it encoded, the server in its caches,
the bound has the prefix of the prompt. N clients ask at once, wait for all answers, and ask again. ``new_clips`` is
the same with clips that are new to both, so it holds decoding, face finding and towers. For exact lengths the model is
served from a copy of its folder whose end token is one that it never writes.
"""

import argparse
import asyncio
import gc
import json
import os
import random
import shutil
import tempfile
import time
from pathlib import Path
from statistics import mean, median
from typing import Any

import httpx
from common import Figure, show
from server import Server, body, make_clips, question, running

from emollm.model.checkpoint import default_model
from emollm.model.processing_emollm import FACE_TOKEN
from emollm.reading import read
from emollm.reasoning.prompts import clip_message
from emollm.weights import fetch

TOKENS = 64
LEVELS = (1, 4, 16, 64)
WAVES = {1: 4, 4: 3, 16: 3, 64: 2}
ALONE = 6  # requests that transformers answers, one after the other
NEW = 16  # clients in the measurement with new clips
TURNS = 5  # clips of the measurement of the time to first token
SECONDS = 2.0
QUESTIONS = (
    "How does this person feel, and what shows it?",
    "What does the face do, and when does it change?",
    "Which emotion is it, and how sure can one be?",
    "Describe what is seen and heard, and what it means.",
)
TAIL = 24  # tokens of a prompt that are new when a clip is known, roughly: the question and the marks around it
Raw = dict[str, Any]


def endless(folder: Path, target: Path) -> Path:
    """A copy of a checkpoint that does not stop by itself."""
    target.mkdir()
    for file in folder.iterdir():
        if file.suffix == ".safetensors":
            (target / file.name).symlink_to(file.resolve())
        else:
            shutil.copy(file, target)
    tokenizer = json.loads((target / "tokenizer_config.json").read_text())
    vocabulary = json.loads((target / "tokenizer.json").read_text())["added_tokens"]
    number = next(token["id"] for token in vocabulary if token["content"] == FACE_TOKEN)
    (target / "tokenizer_config.json").write_text(json.dumps(tokenizer | {"eos_token": FACE_TOKEN}))
    generation = json.loads((target / "generation_config.json").read_text())
    (target / "generation_config.json").write_text(json.dumps(generation | {"eos_token_id": number}))
    return target


def measure_transformers(model: Path, clips: list[Path], new: list[Path]) -> Raw:
    """Seconds of each request, with clips that are encoded already and with new ones."""
    from emollm.api import clip_inputs
    from emollm.serve import transformers_engine
    from emollm.serve.engine import Request

    transformers_engine.MAX_NEW_TOKENS = TOKENS
    engine = transformers_engine.TransformersEngine(model)
    steps = [0]
    engine.model.lm_head.register_forward_hook(lambda *_: steps.__setitem__(0, steps[0] + 1))

    def encode(path: Path) -> Any:
        reading = read(path)
        return engine.encode(clip_inputs(reading.perception, reading.people[0]))

    def ask(encoded: Any, text: str) -> int:
        (reply,) = engine.generate_batch([Request([clip_message(text)], encoded)], True)
        return len(engine.processor.tokenizer(reply.prompt, add_special_tokens=False)["input_ids"])

    known = [encode(path) for path in clips[:ALONE]]
    ask(known[0], "Warm up.")
    steps[0] = 0
    seconds, lengths = [], []
    for number, encoded in enumerate(known):
        started = time.perf_counter()
        lengths.append(ask(encoded, QUESTIONS[number % len(QUESTIONS)]))
        seconds.append(time.perf_counter() - started)
    if steps[0] != TOKENS * len(known):
        raise SystemExit(f"transformers wrote {steps[0]} tokens and not {TOKENS} for each request.")
    fresh = []
    for path in new:
        started = time.perf_counter()
        ask(encode(path), QUESTIONS[0])
        fresh.append(time.perf_counter() - started)
    return {"known_s": seconds, "new_s": fresh, "prompt_tokens": lengths}


async def wave(client: httpx.AsyncClient, bodies: list[bytes]) -> tuple[float, list[int]]:
    """Send all at once; seconds until the last answer, and the tokens of each prompt."""
    started = time.perf_counter()
    answers = await asyncio.gather(*(client.post("/v1/chat/completions", content=sent) for sent in bodies))
    seconds = time.perf_counter() - started
    lengths = []
    for answer in answers:
        if answer.status_code != 200:
            raise SystemExit(f"The server answers {answer.status_code}: {answer.text[:300]}")
        usage = answer.json()["usage"]
        if usage["completion_tokens"] != TOKENS:
            raise SystemExit(f"The server wrote {usage['completion_tokens']} tokens and not {TOKENS}.")
        lengths.append(usage["prompt_tokens"])
    return seconds, lengths


async def first_token(client: httpx.AsyncClient, messages: list[dict[str, Any]]) -> tuple[float, str]:
    """Seconds to the first piece of a streamed answer, and the answer."""
    started, first, pieces = time.perf_counter(), 0.0, []
    async with client.stream("POST", "/v1/chat/completions", content=body(messages, TOKENS, stream=True)) as answer:
        async for line in answer.aiter_lines():
            if not line.startswith("data: {"):
                continue
            for choice in json.loads(line[6:]).get("choices", []):
                delta = choice["delta"]
                if delta.get("content") or delta.get("reasoning") or delta.get("reasoning_content"):
                    first = first or time.perf_counter() - started
                    pieces.append(delta.get("content") or "")
    if not first:
        raise SystemExit("The server streamed nothing.")
    return first, "".join(pieces)


async def measure_server(
    server: Server, levels: list[int], clips: list[Path], new: list[Path], turns: list[Path]
) -> Raw:
    headers = {"Content-Type": "application/json"}
    limits = httpx.Limits(max_connections=None)
    raw: Raw = {"waves_s": {}, "prompt_tokens": {}, "first_s": [], "second_s": []}
    async with httpx.AsyncClient(base_url=server.url, headers=headers, timeout=600, limits=limits) as client:
        known = [path.read_bytes() for path in clips[: max(levels)]]
        for clip in known:
            await wave(client, [body([question("Warm up.", clip)], TOKENS)])
        for clients in levels:
            results = []
            for number in range(WAVES.get(clients, 2)):
                text = f"{QUESTIONS[number % len(QUESTIONS)]} ({clients} ask)"  # new at every level
                results.append(await wave(client, [body([question(text, c)], TOKENS) for c in known[:clients]]))
            raw["waves_s"][clients] = [seconds for seconds, _ in results]
            raw["prompt_tokens"][clients] = round(mean(length for _, lengths in results for length in lengths))
        for path in turns:
            asked = question(QUESTIONS[0], path.read_bytes())
            seconds, said = await first_token(client, [asked])
            raw["first_s"].append(seconds)
            talk = [asked, {"role": "assistant", "content": said}, question(QUESTIONS[1])]
            raw["second_s"].append((await first_token(client, talk))[0])
        raw["new_s"], _ = await wave(
            client, [body([question(QUESTIONS[0], path.read_bytes())], TOKENS) for path in new]
        )
    return raw


def measure_bound(levels: list[int], lengths: dict[int, int]) -> Raw:
    """Seconds of each wave of vLLM on the language model alone, with the options of our server."""
    from emollm.serve.settings import Settings
    from emollm.serve.vllm_options import vllm_arguments
    from emollm.serve.vllm_setup import prepare_vllm

    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")
    prepare_vllm()
    from vllm import LLM, SamplingParams

    folder = fetch("llm")
    options = vars(vllm_arguments(Settings.model_validate({}), folder))
    same = {name: options[name] for name in ("dtype", "enforce_eager", "max_num_seqs")}
    llm = LLM(model=str(folder), max_model_len=2048, disable_log_stats=True, **same)
    exact = SamplingParams(temperature=0.0, max_tokens=TOKENS, min_tokens=TOKENS, ignore_eos=True)
    chance = random.Random(0)

    def words(count: int) -> list[int]:
        return [chance.randrange(1000, 40_000) for _ in range(count)]

    def run(prompts: list[list[int]]) -> float:
        started = time.perf_counter()
        replies = llm.generate([{"prompt_token_ids": prompt} for prompt in prompts], exact, use_tqdm=False)
        seconds = time.perf_counter() - started
        if any(len(reply.outputs[0].token_ids) != TOKENS for reply in replies):
            raise SystemExit("vLLM did not write as many tokens as it was told.")
        return seconds

    raw: Raw = {"waves_s": {}}
    for clients in levels:
        prefixes = [words(max(lengths[clients] - TAIL, 1)) for _ in range(clients)]
        run(prefixes)  # each is known by then, as the clips are
        raw["waves_s"][clients] = [
            run([prefix + words(TAIL) for prefix in prefixes]) for _ in range(WAVES.get(clients, 2))
        ]
    return raw


def rate(clients: int, waves_s: list[float]) -> float:
    """Tokens a second of the wave in the middle."""
    return clients * TOKENS / median(waves_s)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, nargs="+", default=list(LEVELS), choices=range(1, 65), metavar="N")
    parser.add_argument("--model", type=Path, help="folder of a merged checkpoint; default: the embedded model")
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line")
    arguments = parser.parse_args()

    levels = sorted(set(arguments.clients))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = endless(arguments.model or default_model(), folder / "model")
        clips = make_clips(max(*levels, ALONE), SECONDS, folder)
        new = make_clips(NEW, SECONDS + 0.2, folder)
        turns = make_clips(TURNS, SECONDS + 1, folder)
        alone = measure_transformers(model, clips, new[:4])
        gc.collect()
        with running(model, {"max_requests_per_client": 128}) as server:
            served = asyncio.run(measure_server(server, levels, clips, new, turns))
        bound = measure_bound(levels, served["prompt_tokens"])

    print("raw", json.dumps({"transformers": alone, "server": served, "bound": bound}))
    one = TOKENS / median(alone["known_s"])
    figures = [
        Figure("prompt_tokens", served["prompt_tokens"][levels[-1]]),
        Figure("prompt_tokens_transformers", round(mean(alone["prompt_tokens"]))),
        Figure("new_tokens", TOKENS),
        Figure("transformers_tokens_per_s", one, "1/s"),
    ]
    for clients in levels:
        ours, theirs = rate(clients, served["waves_s"][clients]), rate(clients, bound["waves_s"][clients])
        goals = (10.0, 0.9) if clients == 16 else (None, None)
        figures += [
            Figure(f"server_tokens_per_s_{clients}", ours, "1/s"),
            Figure(f"bound_tokens_per_s_{clients}", theirs, "1/s"),
            Figure(f"ratio_{clients}", ours / one, goal=goals[0]),
            Figure(f"bound_ratio_{clients}", ours / theirs, goal=goals[1]),
        ]
    first, second = median(served["first_s"]), median(served["second_s"])
    fresh = (TOKENS / median(alone["new_s"]), NEW * TOKENS / served["new_s"])
    figures += [
        Figure("first_question_ttft_s", first, "s"),
        Figure("second_question_ttft_s", second, "s"),
        Figure("second_to_first_ttft", second / first, goal=0.25, at_most=True),
        Figure("new_clips_transformers_tokens_per_s", fresh[0], "1/s"),
        Figure(f"new_clips_server_tokens_per_s_{NEW}", fresh[1], "1/s"),
        Figure(f"new_clips_ratio_{NEW}", fresh[1] / fresh[0]),
    ]
    show("serving", figures, arguments.json)


if __name__ == "__main__":
    main()
