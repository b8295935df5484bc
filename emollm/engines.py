"""The names of engines, checked without loading one."""

from urllib.parse import urlsplit

from emollm.errors import BadArgumentError

ENGINES = ("auto", "transformers", "vllm")


def is_url(name: str) -> bool:
    """Whether an engine's name is the address of a server."""
    return name.startswith(("http://", "https://"))


def check_engine(name: str) -> None:
    """Raise BadArgumentError unless ``name`` is one of ``ENGINES`` or an address such as http://localhost:8000/v1."""
    if name in ENGINES:
        return
    if not is_url(name):
        raise BadArgumentError(f"There is no engine '{name}'; choose one of {', '.join(ENGINES)}, or a server's URL.")
    try:
        address = urlsplit(name)
        # A name and password would end up in reports and records; a key comes from the environment.
        strange = address.query or address.fragment or "@" in address.netloc
        whole = bool(address.hostname) and address.port != 0 and not strange
    except ValueError:  # a port that is no number, a bracket that is not closed
        whole = False
    if not whole:
        raise BadArgumentError(
            "The URL of a server is written as in http://localhost:8000/v1, without a name or password."
        )
