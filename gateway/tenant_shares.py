"""Fair shares of an edge's Postgres connections: calls of one organization hold a part of them at most.

    20 slow calls of one organization ──▶ its 3 of 10 connections; the other 17 wait in their own queue
    a call of anybody else            ──▶ finds a connection, as if they were not there

A call takes a place of its organization before its function runs, when its body is read and its caller proven, and
gives it back when the answer is known. What does not get one within `WAIT_S`, or finds `WAITING_MAX` before it, is
refused. Devices take none: their calls are short, and limited one by one.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

from gateway.refusals import TooMany, retry_after_s
from schemas.metrics import Metrics

WAIT_S = 5.0
WAITING_MAX = 200
"""Of one organization; each holds a connection of a client and a decoded body."""
BUSY = "Too many calls of the organization are under way: wait for some of them"


class _Places:
    """Of one organization: as many as it may hold, and how many calls have one or wait for one."""

    __slots__ = ("calls", "free")

    def __init__(self, places: int) -> None:
        self.free = asyncio.Semaphore(places)
        self.calls = 0


class TenantShares:
    """Who holds how many places; knows only organizations that have calls under way."""

    def __init__(self, connections: int, share: float, metrics: Metrics, wait_s: float = WAIT_S) -> None:
        self.places = max(1, int(connections * share))
        self._metrics = metrics
        self._wait_s = wait_s
        self._tenants: dict[UUID | str, _Places] = {}

    def __repr__(self) -> str:
        return f"<TenantShares places={self.places} tenants={len(self._tenants)}>"

    @asynccontextmanager
    async def place(self, tenant: UUID | str) -> AsyncIterator[None]:
        """Hold a place of this organization. Raises TooMany."""
        known = self._tenants.get(tenant) or self._tenants.setdefault(tenant, _Places(self.places))
        if known.calls >= self.places + WAITING_MAX:
            raise self._busy()
        known.calls += 1
        try:
            try:
                async with asyncio.timeout(self._wait_s):
                    await known.free.acquire()
            except TimeoutError:
                raise self._busy() from None
            try:
                yield
            finally:
                known.free.release()
        finally:
            known.calls -= 1
            if not known.calls:
                del self._tenants[tenant]

    def _busy(self) -> TooMany:
        self._metrics.limited.labels("organization").inc()
        return TooMany(BUSY, retry_after_s=retry_after_s())
