"""The snippets of docs/serving.md, run against a server on the scripted checkpoint as they are printed."""

import json
import os
import re
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import skimage.data
from media.conftest import write_clip
from serve.server_process import KEY, ServerProcess
from tiny import SCRIPT, make_speech

from emollm import EmotionReport
from emollm.errors import WeightsError
from emollm.weights import fetch

pytestmark = pytest.mark.skipif(find_spec("vllm") is None, reason="vLLM is not installed")

PAGE = (Path(__file__).parents[2] / "docs" / "serving.md").read_text()
ADDRESS = "http://127.0.0.1:8000"
CONTENT = "".join(SCRIPT[5:])
THOUGHT = "".join(SCRIPT[1:4])
STRICT = 'set -eu; curl() { command curl --silent --show-error --fail "$@"; echo; }\n'


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Where the reader of the page stands: with a clip."""
    try:
        fetch("face_landmarker", progress=False)
    except WeightsError as error:
        pytest.skip(f"the face landmarker is not in reach: {error}")
    made = tmp_path_factory.mktemp("reader")
    face = np.ascontiguousarray(skimage.data.astronaut()[:256, 96:352])
    speech = {"sound": make_speech(1.0), "rate": 16000}
    write_clip(
        made / "clip.mp4", times=np.arange(0, 1.0, 0.1).tolist(), pictures=[face] * 10, size=(256, 256), **speech
    )
    return made


@pytest.fixture(scope="module")
def server(tmp_path_factory, scripted_folder, folder):
    running = ServerProcess(tmp_path_factory.mktemp("server"), scripted_folder, "name=emollm-tiny")
    yield running
    running.end()


@pytest.fixture
def shell(server, folder):
    if not shutil.which("curl"):
        pytest.skip("there is no curl")

    def run(commands: str) -> list[str]:
        done = subprocess.run(
            ["bash", "-c", STRICT + commands.replace(ADDRESS, server.address)],
            cwd=folder,
            env={**os.environ, "KEY": KEY},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    return run


def test_reports_by_curl(shell):
    plain, asked = (EmotionReport.model_validate_json(line) for line in shell(blocks("bash")[0]))
    assert plain.people
    assert asked.question == "What does the face do?"


def test_a_chat_completion_by_curl(shell):
    (line,) = shell(blocks("bash")[1])
    assert SCRIPT[6] in line
    assert '"finish_reason":"stop"' in line


def test_what_operators_look_at(shell):
    lines = shell(blocks("bash")[2])
    assert lines[0] == '{"status":"ok"}'
    assert any(line.startswith("emollm_responses_total{") for line in lines)
    assert '"id":"emollm-tiny"' in lines[-1]


def test_all_blocks_that_can_run_are_run():
    assert (len(blocks("bash")), len(blocks("python"))) == (3, 3)


def test_the_openai_client(server, folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    monkeypatch.setenv("KEY", KEY)
    names: dict[str, object] = {}
    said = []
    for block in blocks("python"):
        exec(block.replace(ADDRESS, server.address), names)
        said.append(capsys.readouterr().out)
    assert said[0] == f"{THOUGHT}\n{CONTENT}\n"
    assert said[1] == THOUGHT + CONTENT
    assert set(json.loads(said[2])) == {"emotion", "answer"}
