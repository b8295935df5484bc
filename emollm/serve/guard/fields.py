"""What a chat completion may say: the part of OpenAI's format that is served, and nothing else.

Whatever is not written here is refused: also the options by which vLLM lets a request change how media are decoded,
how the prompt is built, which cached media it means or which priority it has.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, FailFast, Field


class _Exact(BaseModel):
    """No conversions, no unknown fields."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class TextPart(_Exact):
    type: Literal["text"]
    text: str


class Url(_Exact):
    url: str


class ImageUrl(Url):
    detail: Literal["auto", "low", "high"] | None = None  # faces are cut out at one size, so it changes nothing


class Sound(_Exact):
    data: str
    format: str


class ImagePart(_Exact):
    type: Literal["image_url"]
    image_url: ImageUrl


class VideoPart(_Exact):
    type: Literal["video_url"]
    video_url: Url


class AudioPart(_Exact):
    type: Literal["audio_url"]
    audio_url: Url


class InputAudioPart(_Exact):
    type: Literal["input_audio"]
    input_audio: Sound


def _as_parts(content: Any) -> Any:
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def _as_list(stop: Any) -> Any:
    return [stop] if isinstance(stop, str) else stop


def _as_answer(content: Any) -> Any:
    return _as_parts("" if content is None else content)


MediaPart = ImagePart | VideoPart | AudioPart | InputAudioPart
AnyPart = Annotated[TextPart | MediaPart, Field(discriminator="type")]
Text = Annotated[list[TextPart], FailFast(), BeforeValidator(_as_parts)]
Content = Annotated[list[AnyPart], FailFast(), BeforeValidator(_as_parts)]
Answer = Annotated[list[TextPart], FailFast(), BeforeValidator(_as_answer)]
Nothing = Annotated[list[Any], Field(max_length=0)] | None


class SystemMessage(_Exact):
    role: Literal["system"]
    content: Text
    name: str | None = None


class UserMessage(_Exact):
    role: Literal["user"]
    content: Content
    name: str | None = None


class AssistantMessage(_Exact):
    """An earlier answer, as it came from this server: what else it held is left out or has to be empty."""

    role: Literal["assistant"]
    content: Answer = []
    name: str | None = None
    reasoning: str | None = None
    reasoning_content: str | None = None
    refusal: None = None
    annotations: Nothing = None
    audio: None = None
    function_call: None = None
    tool_calls: Nothing = None


class JsonSchema(_Exact):
    name: Annotated[str, Field(max_length=64)]
    description: Annotated[str, Field(max_length=1024)] | None = None
    schema_: Annotated[dict[str, Any], Field(alias="schema")]
    strict: bool | None = None


class PlainFormat(_Exact):
    type: Literal["text", "json_object"]


class SchemaFormat(_Exact):
    type: Literal["json_schema"]
    json_schema: JsonSchema


class StreamOptions(_Exact):
    include_usage: bool | None = None


class TemplateOptions(_Exact):
    enable_thinking: bool


Message = Annotated[SystemMessage | UserMessage | AssistantMessage, Field(discriminator="role")]
Format = Annotated[PlainFormat | SchemaFormat, Field(discriminator="type")]
Stop = Annotated[str, Field(min_length=1, max_length=64)]
Tokens = Annotated[int, Field(ge=1, le=1 << 20)]
Penalty = Annotated[float, Field(ge=-2, le=2)]


class ChatCompletion(_Exact):
    messages: Annotated[list[Message], FailFast(), Field(min_length=1)]
    model: Annotated[str, Field(max_length=256)] | None = None
    max_tokens: Tokens | None = None
    max_completion_tokens: Tokens | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    frequency_penalty: Penalty | None = None
    presence_penalty: Penalty | None = None
    seed: Annotated[int, Field(ge=-(1 << 63), lt=1 << 63)] | None = None
    n: Literal[1] | None = None
    stop: Annotated[list[Stop], Field(max_length=4), BeforeValidator(_as_list)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    response_format: Format | None = None
    user: Annotated[str, Field(max_length=256)] | None = None
    chat_template_kwargs: TemplateOptions | None = None
