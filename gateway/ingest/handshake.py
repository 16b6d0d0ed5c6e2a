"""TLS before a connection is one: each handshake counts as a connection, and must be over within a set time.

A server that leaves TLS to the event loop learns of a connection when its handshake is done. Until then whoever says
nothing holds a socket and TLS's buffers outside every limit, for the loop's minute. So sockets are accepted bare here:

    accepted ──counted; too many: aborted──▶ handshake ──in time──▶ `protocol.HotProtocol`
                                                 └──── or aborted
"""

import asyncio
import functools
import ssl
from asyncio import Transport
from collections.abc import Callable, Coroutine, Generator
from typing import Any

from gateway.ingest.hot_state import HotState


class Handshake(asyncio.Protocol):
    """One connection until TLS is agreed on; what the client sends right behind that is kept for its successor."""

    def __init__(
        self,
        context: ssl.SSLContext,
        timeout_s: float,
        protocol: Callable[..., asyncio.Protocol],
        *,
        server_state: Any,
        app_state: dict[str, Any],
        **options: Any,
    ) -> None:
        self._context = context
        self._timeout_s = timeout_s
        self._hot: HotState = app_state["hot"]
        self._connections = server_state.connections
        self._make = functools.partial(protocol, server_state=server_state, app_state=app_state, **options)
        self._task: asyncio.Task[None] | None = None
        self._transport: Transport | None = None
        self._early = b""
        self._ended = False

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        hot = self._hot
        if len(self._connections) + len(hot.handshakes) >= hot.connections_max:
            transport.abort()
            return
        hot.handshakes.add(self)
        self._transport = transport
        agreeing = asyncio.get_running_loop().start_tls(
            transport, self, self._context, server_side=True, ssl_handshake_timeout=self._timeout_s
        )
        self._task = asyncio.create_task(self._agree(transport, _Begun(agreeing)), name="tls handshake")

    def data_received(self, data: bytes) -> None:
        self._early += data

    def eof_received(self) -> bool:
        self._ended = True
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._ended = True

    def abort(self) -> None:
        """The edge shuts down."""
        if self._transport is not None:
            self._transport.abort()

    async def _agree(self, transport: Transport, agreeing: "_Begun") -> None:
        try:
            encrypted = await agreeing
        except OSError:  # no TLS, none in common, not in time, or gone
            transport.abort()
            return
        finally:
            self._hot.handshakes.discard(self)
        if self._ended or encrypted is None:
            transport.abort()
            return
        protocol = self._make()
        encrypted.set_protocol(protocol)
        protocol.connection_made(encrypted)
        if self._early and not encrypted.is_closing():
            protocol.data_received(self._early)


class _Begun:
    """A coroutine that has run to where it first waits: `start_tls` must have the transport before that reads.

    uvloop reads from a new connection as soon as `connection_made` returns, which no task of ours can be ahead of.
    """

    def __init__(self, coroutine: Coroutine[Any, Any, Transport | None]) -> None:
        self._coroutine = coroutine
        self._waits_for = coroutine.send(None)

    def __await__(self) -> Generator[Any, None, Transport | None]:
        yield self._waits_for
        return (yield from self._coroutine.__await__())
