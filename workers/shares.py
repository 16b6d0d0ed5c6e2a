"""Distributes work over workers: numbered slots, each worked on by one worker at a time, the same number for each.

A worker owns a slot while it holds the slot's Postgres advisory lock. Every worker also holds one lock in shared
mode; the number of its holders is the number of workers. A worker with fewer slots than its share takes a free one, a
worker with more gives one back after the current step. All locks of a worker are on one session, so they are released
when the session is lost or the process dies. Workers look again all the time; one that is alone and has all slots does
so seldom, and is told when another one comes.

The locks avoid double work; they do not protect the data. A worker that has not noticed the loss of its session goes on
for a moment beside the new owner, and the work itself must allow for that (see `flusher`).
"""

import asyncio
import contextlib
import logging
import random
from collections.abc import Awaitable, Callable

from schemas import logs, postgres
from schemas.postgres import Connection, PostgresAway
from schemas.redis import RedisAway

log = logging.getLogger(__name__)

TICK_S, ALONE_S = 0.5, 5.0
"""How often a worker looks, and how often one that is alone and has all there is."""
CHANNEL = "workers"
PRESENCE = 0xFFFF
"""The number of the lock that every worker holds in shared mode."""

Work = Callable[[int, asyncio.Event], Awaitable[None]]
"""Works on one slot until the event is set."""


class LostSlotError(Exception):
    """Another worker owns this slot: stop, and work on it again only after taking its lock."""


class Shares:
    """This worker's share of one kind of work. `lock_class` tells kinds apart, `count` is the number of slots."""

    def __init__(self, dsn: str, kind: str, lock_class: int, count: int, work: Work) -> None:
        self._dsn = dsn
        self._kind = kind
        self._class = lock_class
        self._count = count
        self._work = work
        self._running: dict[int, tuple[asyncio.Task[None], asyncio.Event]] = {}
        self._told = asyncio.Event()
        """Set when there is a reason to look."""

    def __repr__(self) -> str:
        return f"<Shares {self._kind} {sorted(self._running)} of {self._count}>"

    @property
    def slots(self) -> set[int]:
        """The slots that this worker works on now."""
        return set(self._running)

    async def run(self, stop: asyncio.Event) -> None:
        """Take and give back slots until `stop` is set; then end all work, and with it the session."""
        stopping = asyncio.create_task(self._tell_at_the_end(stop))
        try:
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
        finally:
            stopping.cancel()

    async def _tell_at_the_end(self, stop: asyncio.Event) -> None:
        await stop.wait()
        self._told.set()

    async def _hold(self, session: Connection, stop: asyncio.Event) -> None:
        await session.add_listener(CHANNEL, lambda *_: self._told.set())
        session.add_termination_listener(lambda _: self._told.set())
        await session.execute("SELECT pg_advisory_lock_shared($1, $2)", self._class, PRESENCE)
        await session.execute("SELECT pg_notify($1, '')", CHANNEL)
        while not stop.is_set():
            self._told.clear()
            for slot in [slot for slot, (task, _) in self._running.items() if task.done()]:
                await self._give_back(session, slot)
            workers = await self._workers(session)
            share = -(-self._count // workers)
            if len(self._running) > share:
                await self._give_back(session, random.choice(sorted(self._running)))  # noqa: S311
            while len(self._running) < share and (free := await self._take(session)) is not None:
                self._begin(free)
            await _pause(stop)
            if workers == 1 and len(self._running) == self._count:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(ALONE_S):
                        await self._told.wait()

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
        free = [slot for slot in range(self._count) if slot not in self._running]
        # Row by row, up to the first that can be had.
        taken: int | None = await session.fetchval(
            "SELECT slot FROM unnest($2::integer[]) AS slot WHERE pg_try_advisory_lock($1, slot) LIMIT 1",
            self._class,
            random.sample(free, len(free)),
        )
        return taken

    def _begin(self, slot: int) -> None:
        done = asyncio.Event()
        task = asyncio.create_task(self._attend(slot, done), name=f"{self._kind} {slot}")
        task.add_done_callback(lambda _: self._told.set())
        self._running[slot] = task, done
        logs.event(log, logging.INFO, "slot_taken", kind=self._kind, slot=slot)

    async def _attend(self, slot: int, done: asyncio.Event) -> None:
        try:
            await self._work(slot, done)
        except (LostSlotError, RedisAway, PostgresAway) as error:
            logs.event(log, logging.WARNING, "slot_lost", kind=self._kind, slot=slot, cause=repr(error))

    async def _give_back(self, session: Connection, slot: int) -> None:
        await self._end({slot})
        await session.execute("SELECT pg_advisory_unlock($1, $2)", self._class, slot)
        logs.event(log, logging.INFO, "slot_given_back", kind=self._kind, slot=slot)

    async def _end(self, slots: set[int]) -> None:
        """Stop the work on these slots and wait for its end. Raises the error of work that a bug of ours ended."""
        ending = [self._running.pop(slot) for slot in slots]
        for _, done in ending:
            done.set()
        await asyncio.gather(*(task for task, _ in ending))


async def _pause(stop: asyncio.Event) -> None:
    try:
        await asyncio.wait_for(stop.wait(), TICK_S * random.uniform(0.7, 1.3))  # noqa: S311
    except TimeoutError:
        return
