"""Media from other hosts: only from those an operator names, at public addresses, and never at any other.

A name is resolved once a hop; all its addresses are checked, and the connection goes to the very addresses that were
checked, so a name that resolves differently a moment later changes nothing. TLS still proves the name. Redirects are
followed by hand, each checked as the first URL was. Proxies of the environment are not used, and nothing is unpacked.
"""

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import httpcore

from emollm.serve.guard.address import is_public
from emollm.serve.guard.errors import Refused
from emollm.serve.guard.hosts import Hosts, Target
from emollm.serve.guard.limits import Limits
from emollm.serve.guard.media import check_type, too_large

_REDIRECTS = (301, 302, 303, 307, 308)
_UNDECLARED = ("", "application/octet-stream", "binary/octet-stream")
_MAX_ADDRESSES = 4  # tried one after the other


async def resolve(host: str, port: int) -> list[str]:
    """The addresses of a name, by the resolver of this machine. Raises OSError if it knows none."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(address[0]) for *_, address in found]


@cache
def public_tls() -> ssl.SSLContext:
    """Trusts the certificates that browsers trust."""
    return httpcore.default_ssl_context()


@dataclass(frozen=True)
class Network:
    """How hosts are reached; tests put their own world here."""

    resolve: Callable[[str, int], Awaitable[list[str]]] = resolve
    backend: httpcore.AsyncNetworkBackend = field(default_factory=httpcore.AnyIOBackend)
    tls: Callable[[], ssl.SSLContext] = public_tls


INTERNET = Network()


async def fetch(
    url: str,
    limits: Limits,
    hosts: Hosts,
    most: int,
    name: str = "The clip",
    network: Network = INTERNET,
) -> tuple[bytes, str | None]:
    """Get the file at a URL, and the content type that its server declares (None if it does not say).

    It may take for ever: the caller sets the time.

    Args:
        most: bytes of the file.
        name: what the sentence of a refusal calls the clip.

    Raises:
        Refused: 400 for a URL that may not be fetched or does not answer, 413 for too many bytes, 415 for a type that
            is no clip's.
    """
    target = hosts.check(url, name)
    for _ in range(limits.redirects + 1):
        try:
            addresses = await network.resolve(target.host, target.port)
        except (OSError, UnicodeError) as error:
            raise Refused(f"{name} is on a host that is not known.") from error
        if not addresses or not all(map(is_public, addresses)):
            raise Refused(f"{name} is on a host that is not on the public network.")
        try:
            got = await _get(target, addresses[:_MAX_ADDRESSES], network, most, name)
        except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException, OSError) as error:
            raise Refused(f"{name} cannot be fetched: its server does not answer properly.") from error
        if not isinstance(got, str):
            return got
        target = hosts.check_redirect(target, got, name)
    raise Refused(f"{name} cannot be fetched: it is redirected more than {limits.redirects} times.")


async def _get(
    target: Target, addresses: list[str], network: Network, most: int, name: str
) -> tuple[bytes, str | None] | str:
    """The file and its declared type, or where it is redirected to."""
    url = httpcore.URL(scheme=target.scheme, host=target.host, port=target.port, target=target.path)
    headers = [("Host", target.place), ("Accept-Encoding", "identity"), ("User-Agent", "EmoLLM")]
    pinned = _Pinned(addresses, network.backend)
    tls = network.tls() if target.scheme == "https" else None
    async with (
        httpcore.AsyncConnectionPool(ssl_context=tls, network_backend=pinned) as pool,
        pool.stream("GET", url, headers=headers) as response,
    ):
        said = {key.decode("latin-1").lower(): value.decode("latin-1").strip() for key, value in response.headers}
        if response.status in _REDIRECTS and "location" in said:
            return said["location"]
        if response.status != 200:
            raise Refused(f"{name} cannot be fetched: its server answers with status {response.status}.")
        if said.get("content-encoding", "identity").lower() != "identity":
            raise Refused(f"{name} cannot be fetched: its server packs it, although it was asked not to.")
        declared = said.get("content-type", "").partition(";")[0].strip().lower()
        if declared not in _UNDECLARED:
            check_type(declared, name)
        if int(said.get("content-length", 0)) > most:  # a number, or the response would not have been read so far
            raise too_large(name, most)
        data = bytearray()
        async for piece in response.aiter_stream():
            data += piece
            if len(data) > most:
                raise too_large(name, most)
        return bytes(data), None if declared in _UNDECLARED else declared


class _Pinned(httpcore.AsyncNetworkBackend):
    """Connects to checked addresses, whatever the name would resolve to now."""

    def __init__(self, addresses: list[str], backend: httpcore.AsyncNetworkBackend):
        self.addresses, self.backend = addresses, backend

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        for address in self.addresses[:-1]:
            try:
                return await self.backend.connect_tcp(address, port, timeout, local_address, socket_options)
            except (httpcore.NetworkError, httpcore.TimeoutException, OSError):
                continue
        return await self.backend.connect_tcp(self.addresses[-1], port, timeout, local_address, socket_options)
