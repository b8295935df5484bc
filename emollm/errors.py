"""The errors a user can meet, each with the exit code of the command line (design: one sentence, no traceback)."""


class EmoLLMError(Exception):
    """Base of every error EmoLLM raises on purpose. ``str(error)`` is one sentence for a person."""

    exit_code = 1


class BadArgumentError(EmoLLMError):
    """The call itself is wrong: an unknown option value, a path that cannot be written."""

    exit_code = 2


class ClipError(EmoLLMError):
    """The clip is missing, unreadable, or refused because it exceeds a limit."""

    exit_code = 3


class NothingToReadError(EmoLLMError):
    """The clip was decoded but holds neither a face nor a voice."""

    exit_code = 4


class WeightsError(EmoLLMError):
    """A pretrained part could not be fetched, verified or loaded."""


class EngineError(EmoLLMError):
    """What runs the model is not installed, cannot be reached, or has failed."""
