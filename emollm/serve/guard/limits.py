"""How much one request may ask for, and how much each of its clips may cost."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from emollm.media.guard import Limits as ClipLimits

_8K = 7680 * 4320

# Lower than the defaults of the command line, where people run their own clips: a server decodes many at once.
PUBLIC = ClipLimits(
    file_bytes=32 << 20,
    seconds=300.0,
    frame_pixels=_8K,
    image_pixels=_8K,
    frames=300 * 120,
    audio_samples=300 * 48_000 * 8,
)

Count = Annotated[int, Field(ge=1)]


class Limits(BaseModel):
    """The most that one request may hold. The defaults suit a server that strangers reach.

    Attributes:
        request_bytes: of the body as sent. A clip in a data URL takes 4/3 of its size.
        media_bytes: of all clips of a request together, as files.
        media_parts: clips, pictures and sounds, over all messages.
        messages: of a dialogue.
        text_chars: over all messages and names.
        json_values: values, objects and arrays in the body.
        schema_bytes: of the JSON schema that an answer is to follow.
        redirects: followed for one URL.
        fetch_seconds: for fetching all URLs of a request, resolving and redirects included.
        clip: of one clip: bytes of the file, seconds, pixels of a frame and of a picture, frames, decoded samples.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    request_bytes: Count = 48 << 20
    media_bytes: Count = 64 << 20
    media_parts: Count = 8
    messages: Count = 64
    text_chars: Count = 32_768
    json_values: Count = 50_000
    schema_bytes: Count = 16_384
    redirects: Annotated[int, Field(ge=0)] = 3
    fetch_seconds: Annotated[float, Field(gt=0)] = 20.0
    clip: ClipLimits = PUBLIC
