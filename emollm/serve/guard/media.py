"""Bytes that claim to be a clip: what they really are, and whether decoding them stays under the limits."""

import base64
import binascii
import re
import tempfile
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path, PurePath
from threading import Lock
from typing import Any, Literal

from cachetools import LRUCache
from PIL import Image

from emollm.errors import ClipError
from emollm.media.clip import read_clip
from emollm.media.guard import Limits as ClipLimits
from emollm.media.guard import open_container
from emollm.serve.guard.errors import Refused
from emollm.serve.guard.limits import Limits

Kind = Literal["image", "video", "audio"]

_ISO = "mov,mp4,m4a,3gp,3g2,mj2"
_MATROSKA = "matroska,webm"

# What a declared type promises: container (as Pillow or FFmpeg call it) and kind. The first type of a pair names it.
_TYPES: dict[str, tuple[str, Kind]] = {
    "image/jpeg": ("JPEG", "image"),
    "image/jpg": ("JPEG", "image"),
    "image/png": ("PNG", "image"),
    "image/webp": ("WEBP", "image"),
    "image/bmp": ("BMP", "image"),
    "image/gif": ("gif", "video"),
    "video/mp4": (_ISO, "video"),
    "video/quicktime": (_ISO, "video"),
    "video/x-m4v": (_ISO, "video"),
    "video/3gpp": (_ISO, "video"),
    "video/webm": (_MATROSKA, "video"),
    "video/x-matroska": (_MATROSKA, "video"),
    "video/matroska": (_MATROSKA, "video"),
    "video/x-msvideo": ("avi", "video"),
    "video/avi": ("avi", "video"),
    "video/ogg": ("ogg", "video"),
    "audio/wav": ("wav", "audio"),
    "audio/x-wav": ("wav", "audio"),
    "audio/wave": ("wav", "audio"),
    "audio/vnd.wave": ("wav", "audio"),
    "audio/mpeg": ("mp3", "audio"),
    "audio/mp3": ("mp3", "audio"),
    "audio/flac": ("flac", "audio"),
    "audio/x-flac": ("flac", "audio"),
    "audio/mp4": (_ISO, "audio"),
    "audio/x-m4a": (_ISO, "audio"),
    "audio/m4a": (_ISO, "audio"),
    "audio/aac": ("aac", "audio"),
    "audio/ogg": ("ogg", "audio"),
    "audio/opus": ("ogg", "audio"),
    "audio/webm": (_MATROSKA, "audio"),
    "audio/x-matroska": (_MATROSKA, "audio"),
}
_PICTURES = sorted({container for container, kind in _TYPES.values() if kind == "image"})
_NAMES: dict[tuple[str, Kind], str] = {found: name for name, found in reversed(list(_TYPES.items()))}

SUFFIX_TYPES = {
    ".mp4": "video/mp4", ".m4v": "video/mp4", ".mov": "video/quicktime", ".webm": "video/webm",
    ".mkv": "video/x-matroska", ".avi": "video/x-msvideo", ".gif": "image/gif", ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg", ".png": "image/png", ".webp": "image/webp", ".bmp": "image/bmp", ".wav": "audio/wav",
    ".mp3": "audio/mpeg", ".flac": "audio/flac", ".m4a": "audio/mp4", ".aac": "audio/aac", ".ogg": "audio/ogg",
    ".opus": "audio/ogg",
}  # fmt: skip

_DATA_URL = re.compile(r"data:([\w.+-]+/[\w.+-]+)((?:;[\w.+-]+=[\w.+, \"-]*)*);base64,", re.ASCII | re.IGNORECASE)


_KEPT = 4096  # verdicts, of some hundred bytes each


@dataclass(frozen=True)
class Media:
    """A clip that was decoded under the limits.

    Attributes:
        mime: its real type, such as ``video/mp4``.
        seconds: its length; 0 for a picture.
    """

    data: bytes
    kind: Kind
    mime: str
    seconds: float

    @property
    def url(self) -> str:
        return f"data:{self.mime};base64,{base64.b64encode(self.data).decode('ascii')}"


_lock = Lock()
_found_good: LRUCache[Any, Media] = LRUCache(_KEPT)


def read_data_url(url: str, most: int, name: str = "The clip") -> tuple[bytes, str]:
    """The bytes in a base64 ``data:`` URL and the type it declares, such as ``video/mp4``.

    Raises Refused for another form, for an unknown type, and for more than ``most`` bytes, before they are decoded.
    """
    found = _DATA_URL.match(url[:256])
    if not found:
        raise Refused(f"{name} is no data URL of the form data:TYPE;base64,DATA.")
    return read_base64(url[found.end() :], most, name), check_type(found[1], name)


def read_base64(text: str, most: int, name: str = "The clip") -> bytes:
    """Decode strict base64 of at most ``most`` bytes; Refused for anything else."""
    if len(text) * 3 // 4 - 2 > most:
        raise too_large(name, most)
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:  # ValueError: not ASCII
        raise Refused(f"{name} is not valid base64.") from error
    if len(data) > most:
        raise too_large(name, most)
    return data


def check_type(declared: str, name: str = "The clip") -> str:
    """A content type in lower case and without parameters; Refused (415) unless it is one that is served."""
    mime = declared.partition(";")[0].strip().lower()
    if mime not in _TYPES:
        raise Refused(f"{name} has a type that this server does not take.", 415)
    return mime


def check_media(data: bytes, declared: str | None, limits: Limits, name: str = "The clip") -> Media:
    """Open a clip, decode its sound and first picture, and read all timestamps, in a thread's time and little memory.

    Later decoding is bound by the same ``limits.clip``, and is refused for the same reasons. A clip that was found
    good is not opened again when it comes with a further question.

    Args:
        declared: content type; None takes what the bytes are.
        name: what the sentence of a refusal calls the clip.

    Raises:
        Refused: 413 if it is too large, 415 if it is of no known type or not of the declared one, 422 if it cannot be
            decoded or is over a limit.
    """
    if len(data) > limits.clip.file_bytes:
        raise too_large(name, limits.clip.file_bytes)
    promised = None if declared is None else _TYPES[check_type(declared, name)]
    key = (sha256(data).digest(), promised, limits.clip)
    with _lock:
        known = _found_good.get(key)
    if known is not None:
        return replace(known, data=data)
    with tempfile.TemporaryDirectory(prefix="emollm-") as folder:
        path = Path(folder) / "clip"
        path.write_bytes(data)
        try:
            clip = read_clip(path, transcript="none", limits=limits.clip)
            found = (_container(path, clip.kind, limits.clip), clip.kind)
        except ClipError as error:
            raise Refused(str(error).replace(str(path), name), 422) from error
    if found not in _NAMES:
        raise Refused(f"{name} has a type that this server does not take.", 415)
    if promised not in (None, found):
        raise Refused(f"{name} is declared as another type than it is, which is {_NAMES[found]}.", 415)
    media = Media(data, clip.kind, _NAMES[found], clip.duration_s)
    with _lock:
        _found_good[key] = replace(media, data=b"")
    return media


def check_upload(filename: str, data: bytes, limits: Limits) -> Media:
    """As `check_media`, for a file whose name says by its suffix what it holds, such as ``clip.mp4``."""
    declared = SUFFIX_TYPES.get(PurePath(filename).suffix.lower())
    if declared is None:
        raise Refused(f"The upload's name must end in one of {', '.join(SUFFIX_TYPES)}.", 415)
    return check_media(data, declared, limits, "The upload")


def _container(path: Path, kind: Kind, limits: ClipLimits) -> str:
    if kind == "image":
        with Image.open(path, formats=_PICTURES) as picture:
            return picture.format or ""
    with open_container(path, limits) as container:
        return container.format.name


def too_large(name: str, most: int) -> Refused:
    """The refusal of a clip of more than ``most`` bytes."""
    return Refused(f"{name} is larger than the limit of {most / 2**20:,.1f} MiB.", 413)
