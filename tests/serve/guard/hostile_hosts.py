"""A small internet on loopback: names that resolve as a test says, and servers that answer whatever a test says."""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import httpcore

from emollm.serve.guard.fetch import Network

HOST = "media.example.com"
PUBLIC = "93.184.215.14"

Page = bytes | Callable[[asyncio.StreamWriter], Awaitable[None]]


def page(body: bytes = b"", status: int = 200, length: int | None = None, **headers: str) -> bytes:
    """A response as it goes over the wire; ``content_type="video/mp4"`` becomes a header."""
    said = {"content-length": str(len(body) if length is None else length)}
    said |= {key.replace("_", "-"): value for key, value in headers.items()}
    lines = "".join(f"{key}: {value}\r\n" for key, value in said.items())
    return f"HTTP/1.1 {status} Whatever\r\n{lines}\r\n".encode() + body


@dataclass
class World(httpcore.AsyncNetworkBackend):
    """Every address leads to the one server, also those that must never be reached: only ``reached`` tells.

    Attributes:
        pages: what the server says, by path.
        names: what a name resolves to the first time, the second time and so on; the last answer stays.
        tls: how the server shows who it is, if it speaks TLS.
        trust: what the client trusts then.
    """

    pages: dict[str, Page] = field(default_factory=dict)
    names: dict[str, list[list[str]]] = field(default_factory=lambda: {HOST: [[PUBLIC]]})
    tls: Any = None
    trust: Any = None
    asked: list[str] = field(default_factory=list)
    reached: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    @property
    def network(self) -> Network:
        return Network(self.resolve, self, lambda: self.trust)

    def run(self, make: Callable[[], Awaitable[Any]]) -> Any:
        """Await what ``make`` returns while the server runs."""

        async def main() -> Any:
            server = await asyncio.start_server(self._answer, "127.0.0.1", 0, ssl=self.tls)
            self._port = server.sockets[0].getsockname()[1]
            try:
                return await make()
            finally:
                server.close()

        return asyncio.run(main())

    async def resolve(self, host: str, port: int) -> list[str]:
        self.asked.append(host)
        if host not in self.names:
            raise socket.gaierror("unknown")
        answers = self.names[host]
        return answers.pop(0) if len(answers) > 1 else answers[0]

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        self.reached.append(host)
        return await httpcore.AnyIOBackend().connect_tcp("127.0.0.1", self._port, timeout)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            request = (await reader.readuntil(b"\r\n\r\n")).decode()
            self.requests.append(request)
            found = self.pages.get(request.split(" ")[1], page(status=404))
            if isinstance(found, bytes):
                writer.write(found)
                await writer.drain()
            else:
                await found(writer)
        except (OSError, asyncio.IncompleteReadError):
            pass  # the client had enough
        finally:
            writer.close()
