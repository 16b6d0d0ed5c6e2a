"""The hot path's connection to one Redis node: round trips in order, nothing else.

A general client spends more time on each command than the edge has for a whole request. This one is handed bytes
that are already in Redis protocol, writes them in one piece, and hands the replies back in one list. It connects,
authenticates and comes back by itself; while it is away, `connected` is False and `send` must not be called.
"""

import asyncio
import logging
import random
from collections import deque
from collections.abc import Callable
from typing import Any, cast

import hiredis
from msgspec import Struct

from schemas import entries, logs
from schemas.redis import authorities
from schemas.settings import SettingsError

log = logging.getLogger(__name__)

RECONNECT_S = (0.05, 1.0)
CONNECT_TIMEOUT_S = 2.0

Replies = list[Any] | None
"""The replies of a round trip, in order; None when the connection was lost and nobody knows what happened."""


class Address(Struct, frozen=True, kw_only=True):
    """Where one node listens, and how to be let in."""

    host: str = ""
    port: int = 0
    path: str = ""
    username: str | None = None
    password: str | None = None
    database: int = 0
    tls: bool = False
    ca: str = ""

    def __repr__(self) -> str:
        return f"<Address {self.path or f'{self.host}:{self.port}'}>"


def command(*words: bytes) -> bytes:
    """One command in Redis protocol."""
    parts = [b"*%d\r\n" % len(words)]
    parts += [b"$%d\r\n%b\r\n" % (len(word), word) for word in words]
    return b"".join(parts)


class Pipe(asyncio.Protocol):
    """One connection. `on_change` is called whenever it was made or lost."""

    def __init__(self, address: Address, on_change: Callable[[], None]) -> None:
        self.address = address
        self.connected = False
        self.server = b""
        """The run of the server that it is connected to (see schemas.entries)."""
        self._on_change = on_change
        self._transport: asyncio.Transport | None = None
        self._reader = hiredis.Reader()
        self._replies: list[Any] = []
        self._under_way: deque[tuple[int, Callable[[Replies], None]]] = deque()
        self._lost = asyncio.Event()

    def __repr__(self) -> str:
        return f"<Pipe {self.address!r} connected={self.connected} under_way={len(self._under_way)}>"

    async def run(self) -> None:
        """Keep the connection up until cancelled."""
        wait_s, logged = RECONNECT_S[0], False
        try:
            while True:
                try:
                    await self._connect()
                    wait_s, logged = RECONNECT_S[0], False
                    await self._lost.wait()
                except (OSError, TimeoutError, hiredis.ReplyError, SettingsError) as error:  # authorities being renewed
                    if not logged:
                        logs.event(log, logging.WARNING, "redis_away", node=repr(self.address), cause=str(error))
                        logged = True
                await asyncio.sleep(wait_s * random.uniform(0.5, 1))  # noqa: S311
                wait_s = min(2 * wait_s, RECONNECT_S[1])
        finally:
            self.abort()

    def send(self, data: bytes, expected: int, done: Callable[[Replies], None]) -> None:
        """Write one round trip; `done` gets its `expected` replies, or None when the connection is lost first."""
        assert self._transport is not None
        self._under_way.append((expected, done))
        self._transport.write(data)

    def abort(self) -> None:
        """Give up on the connection and on the round trip under way."""
        if self._transport is not None:
            self._transport.abort()

    async def _connect(self) -> None:
        self._lost.clear()
        loop, at = asyncio.get_running_loop(), self.address
        context = authorities(at.ca) if at.tls else None
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                if at.path:
                    await loop.create_unix_connection(lambda: self, at.path, ssl=context)
                else:
                    await loop.create_connection(lambda: self, at.host, at.port, ssl=context)
                await self._greet()
        except BaseException:
            # Late replies to this greeting must never be taken for replies to what is sent over the next connection.
            self.abort()
            raise
        self.connected = True
        logs.event(log, logging.INFO, "redis_connected", node=repr(self.address))
        self._on_change()

    async def _greet(self) -> None:
        at = self.address
        greeting = [command(b"CLIENT", b"SETNAME", b"fleetgate-edge")]
        if at.password is not None:
            words = [at.username.encode()] if at.username else []
            greeting.insert(0, command(b"AUTH", *words, at.password.encode()))
        if at.database:
            greeting.append(command(b"SELECT", b"%d" % at.database))
        greeting.append(command(b"INFO", b"server"))
        answered: asyncio.Future[Replies] = asyncio.get_running_loop().create_future()

        def arrived(replies: Replies) -> None:
            if not answered.done():
                answered.set_result(replies)

        self.send(b"".join(greeting), len(greeting), arrived)
        replies = await answered
        if replies is None:
            raise ConnectionResetError("lost during the greeting")
        for reply in replies:
            if isinstance(reply, hiredis.ReplyError):
                raise reply
        _, _, run_id = replies[-1].partition(b"run_id:")
        self.server = entries.server_of(run_id.split(b"\r\n", 1)[0].decode())

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._reader = hiredis.Reader()
        self._replies = []

    def data_received(self, data: bytes) -> None:
        reader, replies = self._reader, self._replies
        reader.feed(data)
        try:
            while (reply := reader.gets()) is not False:
                replies.append(reply)
        except hiredis.ProtocolError as error:
            logs.event(log, logging.ERROR, "redis_protocol_error", node=repr(self.address), cause=str(error))
            self.abort()
            return
        under_way = self._under_way
        while under_way and len(replies) >= under_way[0][0]:
            expected, done = under_way.popleft()
            arrived = replies[:expected]
            del replies[:expected]
            done(arrived)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        under_way, self._under_way = self._under_way, deque()
        if self.connected:
            self.connected = False
            logs.event(log, logging.WARNING, "redis_lost", node=repr(self.address), cause=str(exc or "closed"))
        self._lost.set()
        for _, done in under_way:
            done(None)
        self._on_change()
