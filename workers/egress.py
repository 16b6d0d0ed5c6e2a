"""Connects to addresses that users gave us, outwards only: `Dialer` for webhooks, `guarded_connector` for aiohttp.

A name is resolved once, and the socket is made for one of the addresses that this look-up found, after each has been
judged by the policy (`schemas.egress`). So an answer that changes between check and connect changes nothing. Redirects
are not followed here, and whoever makes requests must not follow them either.
"""

import asyncio
import socket
import ssl
from collections.abc import Callable, Hashable
from typing import Any, NamedTuple, TypeVar

from aiohappyeyeballs import start_connection
from aiohttp import TCPConnector
from aiohttp.abc import AbstractResolver
from yarl import URL

from schemas.egress import DOTTED, EgressPolicy, GuardedResolver
from workers.names import Names

KEEP_ALIVE_S = 4.0
"""Idle connections are closed before most servers do it (uvicorn and Node.js: 5 s), so that none is found dead."""
LOOKUP_TIMEOUT_S = 5.0
"""So long an attempt waits for a name."""


class Origin(NamedTuple):
    """Where a URL's requests go."""

    host: str
    port: int
    tls: bool

    @classmethod
    def of_url(cls, url: URL) -> "Origin":
        """From a URL that `check_url` has passed."""
        assert url.raw_host is not None
        assert url.port is not None
        return cls(url.raw_host, url.port, url.scheme == "https")


class HandshakeFailure(OSError):
    """The connection was made, but broke before TLS was agreed upon."""


_Protocol = TypeVar("_Protocol", bound=asyncio.Protocol)


class Dialer:
    """Makes connections to permitted addresses only. For one event loop."""

    def __init__(
        self,
        policy: EgressPolicy,
        resolver: AbstractResolver | None = None,
        tls: ssl.SSLContext | None = None,
        lookup_timeout_s: float = LOOKUP_TIMEOUT_S,
    ) -> None:
        self._make_socket = _socket_factory(policy)
        self._names = Names(resolver or GuardedResolver(policy), lookup_timeout_s)
        if tls is None:
            tls = ssl.create_default_context()
            tls.set_alpn_protocols(["http/1.1"])
        self._tls = tls

    async def dial(self, origin: Origin, protocol: Callable[[], _Protocol], tenant: Hashable = None) -> _Protocol:
        """A new connection, for a tenant, whose names share his look-ups.

        Raises EgressError, LookupFailure, or whatever OSError connecting and TLS end in.
        """
        host, port, encrypted = origin
        addresses = await self._addresses(host, port, tenant)
        try:
            made = await start_connection(addresses, happy_eyeballs_delay=0.25, socket_factory=self._make_socket)
        except RuntimeError as error:  # which uvloop may raise where others raise OSError
            raise ConnectionError(str(error)) from error
        tls, name = (self._tls, host) if encrypted else (None, None)
        loop = asyncio.get_running_loop()
        try:
            _, connected = await loop.create_connection(protocol, sock=made, ssl=tls, server_hostname=name)
        except ConnectionError as error:
            if not encrypted:
                raise
            raise HandshakeFailure(f"The TLS handshake was cut off: {error}") from error
        return connected

    async def _addresses(self, host: str, port: int, tenant: Hashable) -> list[Any]:
        if ":" in host:
            return [(socket.AF_INET6, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (host, port, 0, 0))]
        if DOTTED.fullmatch(host):
            return [(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (host, port))]
        found = await self._names.addresses(host, port, tenant)
        return [(f["family"], socket.SOCK_STREAM, f["proto"], "", (f["host"], f["port"])) for f in found]

    async def close(self) -> None:
        """Look up no more names."""
        await self._names.close()


def _socket_factory(policy: EgressPolicy) -> Callable[[Any], socket.socket]:
    """Makes a socket for an address (as `getaddrinfo` gives it), or raises EgressError."""

    def make_socket(target: Any) -> socket.socket:
        family, kind, proto, _, address = target
        policy.check(str(address[0]))
        made = socket.socket(family, kind, proto)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return made

    return make_socket


def guarded_connector(policy: EgressPolicy, resolver: AbstractResolver, limit: int = 0) -> TCPConnector:
    """For aiohttp: makes sockets for permitted addresses only. Failures to connect carry EgressError.

    The resolver remembers: see `workers.names`.
    """
    return TCPConnector(
        resolver=resolver,
        socket_factory=_socket_factory(policy),
        limit=limit,
        keepalive_timeout=KEEP_ALIVE_S,
        use_dns_cache=False,
    )
