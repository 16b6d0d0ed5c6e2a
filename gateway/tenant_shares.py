"""Fair shares of an edge's time: calls of one organization hold a part of its Postgres connections at most, and what
takes long of them is done one after the other, with rests between.

    20 slow calls of one organization ──▶ its 3 of 10 connections; the other 17 wait in their own queue
    20 long reads of one organization ──▶ one at a time; the time it took three times over is left to others, or nine
                                          times where others called meanwhile
    a call of anybody else            ──▶ finds a connection, as if they were not there

A call takes a place of its organization before its function runs, when its body is read and its caller proven, and
gives it back when the answer is known. A long read, a list that is large, deep or searched, waits its turn before it
takes one, so short calls of the same organization do not wait behind it. What gets no place within `WAIT_S`, or finds
`WAITING_MAX` before it, is refused. Devices take none: their calls are short, and limited one by one.

A connection is not all that a long read takes: it is work of Postgres and of the edge's one event loop. Hence the
rests, which keep an organization that reads all it can below a quarter of either, below a tenth beside others. And
long reads are done in pieces of a millisecond or two (`gateway.giving_way`), each of which begins when no short call is
under way that it could delay: one that comes meanwhile waits for what is left of a piece at most. On an edge that is
never idle a piece is put off by `GIVE_WAY_S`, and no longer.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from uuid import UUID

from gateway.giving_way import PAUSE
from gateway.refusals import Refusal, TooMany, retry_after_s
from schemas.metrics import Metrics

WAIT_S = 5.0
WAITING_MAX = 200
"""Of one organization; each holds a connection of a client and a decoded body."""
REST = 3
"""So many times what a long read took passes before the next of its organization."""
REST_BESIDE_OTHERS = 9
"""The same where short calls began while it was read: a neighbour's p99 is told by the hundredth part of its calls."""
REST_S_MAX = 5.0
GIVE_WAY_S = 0.02
"""The longest that a piece of a long read is put off."""
REFUSED_REST_S = 0.05
"""The rest behind a long read that was refused: it took no time, and those that ask for it ask again at once."""
BUSY = "Too many calls of the organization are under way: wait for some of them"


class _Places:
    """Of one organization: as many as it may hold, whose turn it is for long reads, and how many calls hold a place,
    wait or rest."""

    __slots__ = ("calls", "free", "turn")

    def __init__(self, places: int) -> None:
        self.free = asyncio.Semaphore(places)
        self.turn = asyncio.Semaphore(1)
        self.calls = 0


class TenantShares:
    """Who holds how many places; knows only organizations that have calls under way."""

    def __init__(self, connections: int, share: float, metrics: Metrics, wait_s: float = WAIT_S) -> None:
        self.places = max(1, int(connections * share))
        self._metrics = metrics
        self._wait_s = wait_s
        self._tenants: dict[UUID | str, _Places] = {}
        self._short = self._short_begun = 0
        """Calls that are no long reads, or not known to be yet, those that wait for a place left out: that are under
        way, and that there were."""
        self._ended: asyncio.Event | None = None
        """Set when one of them ends, where a long read waits for that."""

    def __repr__(self) -> str:
        return f"<TenantShares places={self.places} tenants={len(self._tenants)}>"

    @contextmanager
    def short(self) -> Iterator[None]:
        """Long reads give way to what happens within."""
        self._short += 1
        self._short_begun += 1
        try:
            yield
        finally:
            self._short -= 1
            if self._ended is not None:
                self._ended.set()
                self._ended = None

    @asynccontextmanager
    async def place(self, tenant: UUID | str) -> AsyncIterator[None]:
        """Hold a place of this organization. Raises TooMany."""
        known = self._enter(tenant)
        try:
            await self._within(known.free)
            try:
                with self.short():
                    yield
            finally:
                known.free.release()
        finally:
            self._leave(tenant, known)

    @asynccontextmanager
    async def long_read(self, tenant: UUID | str) -> AsyncIterator[None]:
        """Hold a place in this organization's turn for a long read. Raises TooMany."""
        known = self._enter(tenant)
        loop = asyncio.get_running_loop()
        rest_s = 0.0
        try:
            await self._within(known.turn)
        except BaseException:
            self._leave(tenant, known)
            raise
        try:
            await self._within(known.free)
            began, gave_way_s, others = loop.time(), 0.0, self._short_begun

            async def give_way() -> None:
                nonlocal gave_way_s
                asked = loop.time()
                await self._give_way()
                gave_way_s += loop.time() - asked

            pause = PAUSE.set(give_way)
            try:
                yield
            except Refusal:
                rest_s = REFUSED_REST_S
                raise
            finally:
                PAUSE.reset(pause)
                known.free.release()
                rest = REST if self._short_begun == others else REST_BESIDE_OTHERS
                rest_s = min(max(rest_s, rest * (loop.time() - began - gave_way_s)), REST_S_MAX)
        finally:
            loop.call_later(rest_s, self._rested, tenant, known)

    async def _give_way(self) -> None:
        """Wait until no short call is under way, but not for ever."""
        with suppress(TimeoutError):
            async with asyncio.timeout(GIVE_WAY_S):
                while self._short:
                    self._ended = self._ended or asyncio.Event()
                    await self._ended.wait()

    def _enter(self, tenant: UUID | str) -> _Places:
        known = self._tenants.get(tenant) or self._tenants.setdefault(tenant, _Places(self.places))
        if known.calls >= self.places + WAITING_MAX:
            raise self._busy()
        known.calls += 1
        return known

    def _leave(self, tenant: UUID | str, known: _Places) -> None:
        known.calls -= 1
        if not known.calls:
            del self._tenants[tenant]

    def _rested(self, tenant: UUID | str, known: _Places) -> None:
        known.turn.release()
        self._leave(tenant, known)

    async def _within(self, semaphore: asyncio.Semaphore) -> None:
        try:
            async with asyncio.timeout(self._wait_s):
                await semaphore.acquire()
        except TimeoutError:
            raise self._busy() from None

    def _busy(self) -> TooMany:
        self._metrics.limited.labels("organization").inc()
        return TooMany(BUSY, retry_after_s=retry_after_s())
