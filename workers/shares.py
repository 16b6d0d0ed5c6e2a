"""Distributes work over workers: numbered pieces, each worked on by one worker at a time, the same number for each.

A worker owns a piece while it holds the piece's Postgres advisory lock. Every worker also holds one lock in shared
mode; the number of its holders is the number of workers. A worker with fewer pieces than its share takes a free one, a
worker with more gives one back after the current step. All locks of a worker are on one session, so they are released
when the session is lost or the process dies.

The locks avoid double work; they do not protect the data. A worker that has not noticed the loss of its session goes on
for a moment beside the new owner, and the work itself must allow for that (see `flusher`).
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable

from schemas import logs, postgres
from schemas.postgres import Connection, PostgresAway
from schemas.redis import RedisAway

log = logging.getLogger(__name__)

TICK_S = 0.5
PRESENCE = 0xFFFF
"""The number of the lock that every worker holds in shared mode."""

Work = Callable[[int, asyncio.Event], Awaitable[None]]
"""Works on one piece until the event is set."""


class LostPieceError(Exception):
    """Another worker owns this piece: stop, and work on it again only after taking its lock."""


class Shares:
    """This worker's share of one kind of work. `lock_class` tells kinds apart, `count` is the number of pieces."""

    def __init__(self, dsn: str, kind: str, lock_class: int, count: int, work: Work) -> None:
        self._dsn = dsn
        self._kind = kind
        self._class = lock_class
        self._count = count
        self._work = work
        self._running: dict[int, tuple[asyncio.Task[None], asyncio.Event]] = {}

    def __repr__(self) -> str:
        return f"<Shares {self._kind} {sorted(self._running)} of {self._count}>"

    @property
    def pieces(self) -> set[int]:
        """The pieces that this worker works on now."""
        return set(self._running)

    async def run(self, stop: asyncio.Event) -> None:
        """Take and give back pieces until `stop` is set; then end all work, and with it the session."""
        while not stop.is_set():
            try:
                session = await postgres.connect(self._dsn, f"worker {self._kind}")
                try:
                    await self._hold(session, stop)
                finally:
                    await self._end(set(self._running))
                    await session.close(timeout=2)
            except PostgresAway as error:
                logs.event(log, logging.WARNING, "shares_lost", kind=self._kind, cause=repr(error))
                await _pause(stop)

    async def _hold(self, session: Connection, stop: asyncio.Event) -> None:
        await session.execute("SELECT pg_advisory_lock_shared($1, $2)", self._class, PRESENCE)
        while not stop.is_set():
            for piece in [piece for piece, (task, _) in self._running.items() if task.done()]:
                await self._give_back(session, piece)
            share = -(-self._count // await self._workers(session))
            if len(self._running) > share:
                await self._give_back(session, random.choice(sorted(self._running)))  # noqa: S311
            while len(self._running) < share and (free := await self._take(session)) is not None:
                self._begin(free)
            await _pause(stop)

    async def _workers(self, session: Connection) -> int:
        workers = await session.fetchval(
            """SELECT count(*) FROM pg_locks
                WHERE locktype = 'advisory' AND classid = $1 AND objid = $2 AND granted
                  AND database = (SELECT oid FROM pg_database WHERE datname = current_database())""",
            self._class,
            PRESENCE,
        )
        return max(1, int(workers))

    async def _take(self, session: Connection) -> int | None:
        free = [piece for piece in range(self._count) if piece not in self._running]
        # Row by row, up to the first that can be had.
        taken: int | None = await session.fetchval(
            "SELECT piece FROM unnest($2::integer[]) AS piece WHERE pg_try_advisory_lock($1, piece) LIMIT 1",
            self._class,
            random.sample(free, len(free)),
        )
        return taken

    def _begin(self, piece: int) -> None:
        done = asyncio.Event()
        task = asyncio.create_task(self._attend(piece, done), name=f"{self._kind} {piece}")
        self._running[piece] = task, done
        logs.event(log, logging.INFO, "piece_taken", kind=self._kind, piece=piece)

    async def _attend(self, piece: int, done: asyncio.Event) -> None:
        try:
            await self._work(piece, done)
        except (LostPieceError, RedisAway, PostgresAway) as error:
            logs.event(log, logging.WARNING, "piece_lost", kind=self._kind, piece=piece, cause=repr(error))

    async def _give_back(self, session: Connection, piece: int) -> None:
        await self._end({piece})
        await session.execute("SELECT pg_advisory_unlock($1, $2)", self._class, piece)
        logs.event(log, logging.INFO, "piece_given_back", kind=self._kind, piece=piece)

    async def _end(self, pieces: set[int]) -> None:
        """Stop the work on these pieces and wait for its end. Raises the error of work that a bug of ours ended."""
        ending = [self._running.pop(piece) for piece in pieces]
        for _, done in ending:
            done.set()
        await asyncio.gather(*(task for task, _ in ending))


async def _pause(stop: asyncio.Event) -> None:
    try:
        await asyncio.wait_for(stop.wait(), TICK_S * random.uniform(0.7, 1.3))  # noqa: S311
    except TimeoutError:
        return
