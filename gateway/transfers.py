"""How many files go in or out of an edge at once: all together, and of one caller.

A transfer may take hours and holds a connection, a thread now and then and some hundred kilobytes. So there are only so
many, and who comes too many is asked to come back, in telemetry's words: 503 with `Retry-After`. Nobody waits in line,
for a line would be of connections as well.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from uuid import UUID

from gateway.refusals import Unavailable, retry_after_s
from schemas.metrics import Metrics

OF_ONE_MAX = 4
"""Transfers at once of one organization, one vendor or one device."""
TURNS_S, TURNS_AT_ONCE = 50, 1_000
"""Requests for ranges that one device may make in a second, and before that counts: a file of 2 GiB in pieces of 2 KiB
is a million of them."""
BESIDE_TELEMETRY = 0.03
"""The share of an edge's time that all its downloads have while telemetry comes in."""
ROUND_S = 0.001
"""The longest that downloads keep the event loop to themselves, whoever else waits for it."""
TELEMETRY_S = 0.25
"""For so long after a message was sent to Redis the next one is expected."""
FIRST_COST_S = 1e-8
"""Of a byte, until it is known: that of a slow machine."""
FORGET_COST = 1.02
AWAY_S = 10.0
"""A device that asked for nothing for so long is noted as seen when it asks again."""
BUSY = "Too many transfers are under way, try again"
OWN_BUSY = "Too many transfers of yours are under way, try again"


class Transfers:
    """Transfers of one direction in one edge."""

    def __init__(self, name: str, most: int, metrics: Metrics) -> None:
        self._name = name
        self._most = most
        self._metrics = metrics
        self._callers: Counter[UUID] = Counter()

    def __repr__(self) -> str:
        return f"<Transfers {self._name} {self.under_way} callers={len(self._callers)}>"

    @property
    def under_way(self) -> int:
        """How many there are."""
        return self._callers.total()

    def begin(self, caller: UUID) -> Callable[[], None]:
        """Take a place; returns what gives it back, once. Raises Unavailable."""
        if self._callers[caller] >= OF_ONE_MAX:
            self._refuse(OWN_BUSY)
        if self.under_way >= self._most:
            self._refuse(BUSY)
        self._callers[caller] += 1
        ended = False

        def end() -> None:
            nonlocal ended
            if not ended:
                ended = True
                self._callers[caller] -= 1
                if not self._callers[caller]:
                    del self._callers[caller]

        return end

    def _refuse(self, text: str) -> None:
        self._metrics.limited.labels(self._name).inc()
        raise Unavailable(text, retry_after_s=retry_after_s())


class Downloads(Transfers):
    """Downloads of one edge, which leave its time to telemetry, and no device more than its share of it."""

    def __init__(
        self,
        most: int,
        metrics: Metrics,
        trips: Callable[[], int],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__("downloads", most, metrics)
        self._trips = trips
        self._trips_seen = 0
        self._telemetry_at = -TELEMETRY_S
        self._cost_s = FIRST_COST_S
        """What sending a byte takes of the loop: the least that was measured lately, since what is measured may hold
        what others did meanwhile."""
        self._clock = clock
        self._turns: dict[UUID, float] = {}
        """When the turns that each device took so far are over, at the pace of `TURNS_S`."""
        self._seen: dict[UUID, float] = {}
        self._tidied = 0.0
        self._one_at_a_time = asyncio.Lock()
        self._round_at = 0.0
        self._free = 0.0
        """When what was sent beside telemetry is paid for, at its share of the time."""

    async def turn(self, caller: UUID) -> None:
        """Wait until a device may ask for the next range: at once, unless it asked for very many."""
        now = self._clock()
        over = self._turns[caller] = max(now, self._turns.get(caller, 0.0)) + 1 / TURNS_S
        self._tidy(now)
        wait_s = over - now - TURNS_AT_ONCE / TURNS_S
        if wait_s > 0:
            await asyncio.sleep(wait_s)

    def was_away(self, caller: UUID) -> bool:
        """Whether a device asks for the first time in a while."""
        now = self._clock()
        seen, self._seen[caller] = self._seen.get(caller, -AWAY_S), now
        if now - seen < AWAY_S:
            self._seen[caller] = seen
            return False
        return True

    async def yield_to_telemetry(self, sent_bytes: int, took_s: float) -> None:
        """Wait, while telemetry comes in, until what was sent fits into the share of downloads.

        Otherwise, every `ROUND_S`, until the event loop has been round once: a client may take pieces as fast as they
        are read, so that nothing else would ever make its download wait. One download goes on in a round, lest what
        comes waits behind all of them.

        `took_s` is how long this thread was busy meanwhile, with the sending or with anything else.
        """
        now, trips = self._clock(), self._trips()
        self._cost_s = min(self._cost_s * FORGET_COST, took_s / sent_bytes)
        if trips != self._trips_seen:
            self._trips_seen, self._telemetry_at = trips, now
        if now - self._telemetry_at >= TELEMETRY_S:
            if now - self._round_at >= ROUND_S:
                async with self._one_at_a_time:
                    await asyncio.sleep(0)
                    self._round_at = self._clock()
            return
        self._free = max(now, self._free) + sent_bytes * self._cost_s / BESIDE_TELEMETRY
        await asyncio.sleep(self._free - now)

    def _tidy(self, now: float) -> None:
        """Forget devices that have been away for long enough."""
        if now - self._tidied < AWAY_S:
            return
        self._tidied = now
        self._turns = {caller: over for caller, over in self._turns.items() if over > now}
        self._seen = {caller: seen for caller, seen in self._seen.items() if now - seen < AWAY_S}
