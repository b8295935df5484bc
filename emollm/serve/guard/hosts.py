"""Which hosts media may be fetched from: those that an operator names, and no address however it is spelled."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urljoin, urlsplit

from emollm.errors import BadArgumentError
from emollm.serve.guard.errors import Refused

PORTS = {"https": 443, "http": 80}
_MAX_URL = 2048
_LABEL = "[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
# At least two labels, and the last begins with a letter: not 127.1, 0x7f.1 or 2130706433, nor a name of this network.
_HOST = re.compile(rf"(?=.{{1,253}}\Z)(?:{_LABEL}\.)+(?=[a-z]){_LABEL}\Z")
_PLAIN = re.compile(r"[!-\[\]-~]+")  # printable ASCII without the backslash, which clients read in different ways


@dataclass(frozen=True)
class Target:
    """Where a checked URL leads; ``path`` begins with a slash and holds the query."""

    scheme: str
    host: str
    port: int
    path: str

    @property
    def place(self) -> str:
        """``host``, or ``host:port`` where that is not the scheme's own port."""
        return self.host if self.port == PORTS[self.scheme] else f"{self.host}:{self.port}"


@dataclass(frozen=True)
class Hosts:
    """What an operator allows. Nothing by default.

    Attributes:
        names: ``example.com``, ``*.example.com`` (its subdomains); with ``:port`` if that is not the scheme's own.
        schemes: ``https``, and ``http`` only where the operator says so.
    """

    names: frozenset[str] = frozenset()
    schemes: frozenset[str] = frozenset(("https",))

    @classmethod
    def parse(cls, names: Iterable[str], *, plain_http: bool = False) -> "Hosts":
        """Hosts of ``--allow-media-host`` options. Raises BadArgumentError for what is no name of a host."""
        kept = frozenset(name.lower() for name in names)
        for name in kept:
            host, colon, port = name.removeprefix("*.").partition(":")
            if not _HOST.match(host) or (colon and not re.fullmatch("[0-9]{1,5}", port)):
                raise BadArgumentError(f"'{name}' is not the name of a host, such as media.example.com.")
        return cls(kept, frozenset(PORTS) if plain_http else frozenset(("https",)))

    def check(self, url: str, name: str = "The clip") -> Target:
        """Where ``url`` leads, if it may be fetched at all; Refused if not. ``name`` is what the sentence calls it."""
        if not _PLAIN.fullmatch(url[: _MAX_URL + 1]) or len(url) > _MAX_URL:
            raise Refused(f"{name} has no valid URL.")
        try:
            parts = urlsplit(url)
            host, port = parts.hostname or "", parts.port
        except ValueError as error:
            raise Refused(f"{name} has no valid URL.") from error
        if parts.scheme not in PORTS:
            raise Refused(f"{name} must be sent as a data URL; other kinds are not read.")
        if not self.names:
            raise Refused(f"{name} must be sent as a data URL; this server fetches nothing.")
        if parts.scheme not in self.schemes:
            raise Refused(f"{name} must be fetched by https.")
        if "@" in parts.netloc:
            raise Refused(f"{name} has a URL with a user name or password, which are not sent on.")
        if not _HOST.match(host):
            raise Refused(f"{name} has a URL that does not name a public host.")
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        target = Target(parts.scheme, host, PORTS[parts.scheme] if port is None else port, path)
        if not self._lists(target.place):
            raise Refused(f"{name} is on a host that this server does not fetch from.")
        return target

    def check_redirect(self, target: Target, location: str, name: str = "The clip") -> Target:
        """As `check`, for what ``target`` redirects to."""
        try:
            url = urljoin(f"{target.scheme}://{target.place}{target.path}", location)
        except ValueError as error:
            raise Refused(f"{name} is redirected to no valid URL.") from error
        return self.check(url, name)

    def _lists(self, place: str) -> bool:
        labels = place.split(".")
        return place in self.names or any(f"*.{'.'.join(labels[i:])}" in self.names for i in range(1, len(labels)))
