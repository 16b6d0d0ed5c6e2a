"""One attempt: a POST, what became of it, and nothing else.

The deadline covers all of it, from the look-up of the name to the status line. Of the answer at most 64 KiB are read,
and only for a moment: an endless or dripping one costs its connection. No redirect is followed, no cookie kept, nothing
decompressed. Every failure of the world becomes a cause; anything else is a fault of ours and is raised.
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Hashable
from enum import StrEnum
from ssl import SSLError
from typing import NamedTuple

from schemas.egress import EgressError
from workers.dispatcher.connection import Connection, ProtocolError
from workers.dispatcher.retry import parse_retry_after
from workers.egress import KEEP_ALIVE_S, Dialer, HandshakeFailure, Origin
from workers.names import LookupFailure

CONNECTION_LIFE_S = 30.0
"""However busy a connection is, so long after it was made the name is looked up again: receivers move."""
ANSWER_TIMEOUT_S = 1.0
"""How long the rest of an answer may take after its status line; the status has told all that matters."""
ANSWER_KEPT_CHARS = 256


class Cause(StrEnum):
    """Why an attempt failed."""

    DNS = "dns"
    CONNECT = "connect"
    TLS = "tls"
    TIMEOUT = "timeout"
    EGRESS = "egress"
    STATUS = "status"
    PROTOCOL = "protocol"


class Answer(NamedTuple):
    """What became of an attempt. `cause` is None for a 2xx; `text` is the beginning of the answer, or the error."""

    cause: Cause | None
    status: int | None
    latency_s: float
    text: str
    retry_after_s: float | None = None


class Client:
    """Sends requests, with connections kept and shared between connectors of the same host."""

    def __init__(self, dialer: Dialer, timeout_s: float, clock: Callable[[], float] = time.time) -> None:
        self._dialer = dialer
        self._timeout_s = timeout_s
        self._clock = clock
        self._idle: defaultdict[Origin, list[Connection]] = defaultdict(list)
        """Those used last at the end."""
        self._sweeping: asyncio.TimerHandle | None = None

    async def close(self) -> None:
        """Close the connections that nobody uses."""
        if self._sweeping is not None:
            self._sweeping.cancel()
        for connections in self._idle.values():
            for connection in connections:
                connection.abort()
        self._idle.clear()
        await self._dialer.close()

    async def post(self, origin: Origin, request: bytes, tenant: Hashable = None) -> Answer:
        """Make one attempt, for a tenant (see `workers.names`).

        Raises nothing that the receiver or the network can bring about.
        """
        began = time.perf_counter()
        try:
            connection = await self._exchange(origin, request, tenant)
        except (OSError, ProtocolError) as error:
            latency_s = min(self._timeout_s, time.perf_counter() - began)
            return Answer(cause_of(error), None, latency_s, self._sentence(error))
        latency_s = min(self._timeout_s, time.perf_counter() - began)
        if not connection.complete:
            await connection.rest(ANSWER_TIMEOUT_S)
        if connection.usable():
            self._keep(origin, connection)
        else:
            connection.abort()
        status = connection.status
        text = _text(connection.text) if connection.text else ""
        if 200 <= status < 300:
            return Answer(None, status, latency_s, text)
        retry_after_s = parse_retry_after(connection.retry_after, self._clock())
        return Answer(Cause.STATUS, status, latency_s, text, retry_after_s)

    async def _exchange(self, origin: Origin, request: bytes, tenant: Hashable) -> Connection:
        deadline = asyncio.get_running_loop().time() + self._timeout_s
        connection = self._take(origin)
        if connection is not None:
            try:
                await connection.exchange(request, deadline)
                return connection
            except ConnectionError:
                if not connection.silent():
                    raise
                # The receiver closed it while it was idle, which says nothing of this request. Should it have arrived
                # all the same, it comes twice: deliveries may.
        async with asyncio.timeout_at(deadline):
            connection = await self._dialer.dial(origin, Connection, tenant)
        await connection.exchange(request, deadline)
        return connection

    def _take(self, origin: Origin) -> Connection | None:
        """A connection that waits, if it has not waited for too long."""
        connections = self._idle.get(origin)
        if not connections:
            return None
        now = asyncio.get_running_loop().time()
        while connections:
            connection = connections.pop()
            young = connection.idle_since >= now - KEEP_ALIVE_S and connection.made_at >= now - CONNECTION_LIFE_S
            if young and connection.usable():
                return connection
            connection.abort()
        return None

    def _keep(self, origin: Origin, connection: Connection) -> None:
        loop = asyncio.get_running_loop()
        connection.idle_since = loop.time()
        self._idle[origin].append(connection)
        if self._sweeping is None:
            self._sweeping = loop.call_later(KEEP_ALIVE_S, self._sweep)

    def _sweep(self) -> None:
        """Close what nobody has used for a while."""
        loop = asyncio.get_running_loop()
        before = loop.time() - KEEP_ALIVE_S
        for origin, connections in list(self._idle.items()):
            kept = [connection for connection in connections if connection.idle_since > before and connection.usable()]
            for connection in set(connections).difference(kept):
                connection.abort()
            if kept:
                self._idle[origin] = kept
            else:
                del self._idle[origin]
        self._sweeping = loop.call_later(KEEP_ALIVE_S / 2, self._sweep) if self._idle else None

    def _sentence(self, error: BaseException) -> str:
        if isinstance(error, TimeoutError) and not str(error):
            return f"No answer within {self._timeout_s:g} s."
        return (str(error) or type(error).__name__).replace("\0", "\ufffd")[:ANSWER_KEPT_CHARS]


def cause_of(error: OSError | ProtocolError) -> Cause:
    """The class of a failure to get an answer."""
    match error:
        case ProtocolError():
            return Cause.PROTOCOL
        case EgressError():
            return Cause.EGRESS
        case LookupFailure():
            return Cause.DNS
        case SSLError() | HandshakeFailure():
            return Cause.TLS
        case TimeoutError():
            return Cause.TIMEOUT
        case _:
            return Cause.CONNECT


def _text(answer: bytearray) -> str:
    return answer.decode(errors="replace").replace("\0", "\ufffd")[:ANSWER_KEPT_CHARS]
