"""What a client reads when a request is turned down."""

from emollm.errors import EmoLLMError


class Refused(EmoLLMError):
    """The client has to change something. ``str(error)`` is one sentence without paths; ``status`` is a 4xx code.

    400 the request is wrong or not allowed, 413 it is too large, 415 its type is wrong, 422 its media cannot be used.
    """

    def __init__(self, sentence: str, status: int = 400):
        super().__init__(sentence)
        self.status = status
