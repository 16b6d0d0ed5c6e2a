"""Sends what connectors owe: as many requests at once as each may have, none at the cost of another.

A lane is a task that takes a connector's deliveries one after another, for as long as there are some and its pace
allows. A delivery is taken before its lane begins, so there are no idle lanes.

The process as a whole has a limit too. A connector may take a part of what is free of it, so the more hang, the less
each of them gets. One whose last answer was no success, or that has had none yet, takes a small part, and nothing of
the last quarter: something is always left for those that answer. Those that are turned away wait in line, and the next
lane that ends makes room for them.

No wake-up is lost: whoever finds that a connector may not send yet sees to it that it is looked at again. A timer that
fires early (they keep another clock than ours) is set anew, and while somebody waits in line a lane is under way that
will let them in. `overlooked` says whether that holds; see `stalls`.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable

import msgspec

from schemas.signing import SigningKey
from workers.dispatcher.client import Answer, Cause, Client
from workers.dispatcher.connector import Connector
from workers.dispatcher.delivery import Delivery, End
from workers.dispatcher.governor import Governor
from workers.dispatcher.journal import Journal
from workers.dispatcher.pace import Pace, is_overload
from workers.dispatcher.request import Requests
from workers.dispatcher.requesting import Spawn
from workers.dispatcher.retry import Random, delay_s

log = logging.getLogger(__name__)

SHARE = 1 / 4
UNPROVEN_SHARE = 1 / 32
RESERVED = 1 / 4
ADMITTED_MAX = 8
"""So many of the line are asked when a lane ends; when the last one does, all of it."""
TIMER_S = 0.001
"""Timers fire up to so much early."""
LIVE_AGE_S = 1.0
"""An event older than this is no longer live: the last of a backlog, say."""

Note = Callable[[Connector], None]


class _EventId(msgspec.Struct):
    eventId: str = ""  # noqa: N815


class _Body(msgspec.Struct):
    event: _EventId = msgspec.field(default_factory=_EventId)


def event_id_of(body: bytes) -> str:
    """The id of the event in a ready body."""
    return msgspec.json.decode(body, type=_Body).event.eventId


class Lanes:
    """All requests under way in this process."""

    def __init__(
        self,
        client: Client,
        journal: Journal,
        governor: Governor,
        lanes_max: int,
        *,
        done: Note,
        low: Note,
        spawn: Spawn,
        clock: Callable[[], float],
        random: Random,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`done` is called when a connector has something to commit, `low` when its queue could take more."""
        self.in_flight = 0
        self.spawn = spawn
        self._key: SigningKey | None = None
        """Makes asymmetric signatures; connectors that want them wait until it is there."""
        self._done = done
        self._low = low
        self._client = client
        self._journal = journal
        self._governor = governor
        self._max = lanes_max
        self._reserved = int(lanes_max * RESERVED)
        self._clock = clock
        self._random = random
        self._monotonic = monotonic
        self._line: deque[Connector] = deque()
        self._queued: set[str] = set()
        self._capped: set[Connector] = set()
        """Those that the governor let have fewer lanes than they had work for."""

    def __repr__(self) -> str:
        return f"<Lanes in_flight={self.in_flight} of {self._max}>"

    def sign_with(self, key: SigningKey) -> None:
        """The key of asymmetric signatures from now on."""
        self._key = key

    def pump(self, connector: Connector) -> None:
        """Begin what may begin now."""
        queue, pace = connector.queue, connector.pace
        if connector.closed or connector.leaving or (connector.target.asymmetric and self._key is None):
            return
        now = self._monotonic()
        while queue.tests and (delivery := queue.take_test(now)) is not None:
            self._open(connector, delivery)
        if pace.paused(now):
            self._wake_at(connector, pace.resume_at - now)
        else:
            now_s = self._clock()
            lanes = self._allowed(connector)
            while connector.lanes < lanes:
                if not self._has_room(connector, connector.lanes):
                    if queue.has_work():
                        self._wait_in_line(connector)
                    break
                if (delivery := self._take(connector, now_s, now)) is None:
                    break
                self._open(connector, delivery)
            if lanes < pace.lanes and queue.has_work():
                self._capped.add(connector)
        if queue.uncommitted():
            self._done(connector)
        if connector.hungry() or connector.expecting():
            self._low(connector)

    def _wake_at(self, connector: Connector, delay_s: float) -> None:
        """Look at it again when its pause is over."""

        def wake() -> None:
            connector.waking = None
            self.pump(connector)

        if connector.waking is None and connector.queue.has_work():
            connector.waking = asyncio.get_running_loop().call_later(delay_s + TIMER_S, wake)

    def raised(self) -> None:
        """The governor allows more lanes."""
        capped, self._capped = self._capped, set()
        for connector in capped:
            self.pump(connector)

    def overlooked(self, connector: Connector) -> bool:
        """Whether it could send something and nothing under way will make it do so. Never, between two callbacks."""
        if connector.closed or connector.leaving or connector.waking is not None or not connector.queue.has_work():
            return False
        if connector.target.asymmetric and self._key is None:
            return False
        if connector.id in self._queued:
            return not self.in_flight
        return connector.pace.paused(self._monotonic()) or connector.lanes < self._allowed(connector)

    def _next(self, connector: Connector) -> Delivery | None:
        """What a lane goes on with, if it may."""
        pace, queue = connector.pace, connector.queue
        lanes = self._allowed(connector)
        if connector.closed or connector.leaving or self._line or connector.lanes > lanes:
            return None
        now = self._monotonic()
        if pace.paused(now) or (connector.lanes > 1 and not self._has_room(connector, connector.lanes - 1)):
            return None
        delivery = self._take(connector, self._clock(), now)
        if delivery is not None:
            delivery.beside = connector.lanes
        if queue.has_work():
            if connector.lanes < lanes:
                self.pump(connector)
            elif lanes < pace.lanes:
                self._capped.add(connector)
        return delivery

    def _take(self, connector: Connector, now_s: float, now: float) -> Delivery | None:
        return connector.queue.take(now_s, now, connector.target, probing=connector.pace.probing)

    def _allowed(self, connector: Connector) -> int:
        governor = self._governor
        return min(connector.pace.lanes, governor.backlog_lanes if connector.catching_up else governor.lanes)

    def _has_room(self, connector: Connector, lanes: int) -> bool:
        """Whether the process has room for one lane more than these."""
        free = self._max - self.in_flight
        if connector.pace.proven:
            return lanes < free * SHARE or (lanes == 0 and free > 0)
        free -= self._reserved
        return lanes < free * UNPROVEN_SHARE or (lanes == 0 and free > 0)

    def _wait_in_line(self, connector: Connector) -> None:
        if connector.id not in self._queued:
            self._queued.add(connector.id)
            self._line.append(connector)

    def _open(self, connector: Connector, delivery: Delivery) -> None:
        if not connector.catching_up and self._clock() - delivery.owed_since < LIVE_AGE_S:
            self._governor.live_at = delivery.began
        connector.lanes += 1
        delivery.beside = connector.lanes
        self.in_flight += 1
        self.spawn(self._lane(connector, delivery))

    async def _lane(self, connector: Connector, first: Delivery) -> None:
        delivery: Delivery | None = first
        while delivery is not None:
            await self._attempt(connector, delivery)
            delivery = self._next(connector)
        connector.lanes -= 1
        self.in_flight -= 1
        self._admit()
        self.pump(connector)

    def _admit(self) -> None:
        """Let those who wait in line use the room that a lane has left."""
        under_way = self.in_flight
        for asked in range(len(self._line)):
            if self.in_flight > under_way or (asked >= ADMITTED_MAX and under_way):
                break
            first = self._line.popleft()
            self._queued.discard(first.id)
            self.pump(first)

    async def _attempt(self, connector: Connector, delivery: Delivery) -> None:
        connector.begun += 1
        if delivery.body is not None and not delivery.event_id:
            delivery.event_id = event_id_of(delivery.body)
        body = delivery.body
        if body is None:
            assert delivery.event is not None
            body = delivery.event.body(connector.target.label_keys)
        self._conclude(connector, delivery, await self.send(connector.requests, delivery.event_id, body))

    async def send(self, requests: Requests, event_id: str, body: bytes) -> Answer:
        """One attempt, now."""
        if requests.origin is None:
            return Answer(Cause.EGRESS, None, 0.0, requests.target.refusal)
        request = requests.make(event_id, body, self._key)
        answer = await self._client.post(requests.origin, request, requests.target.organization_id)
        requests.heard(event_id, answer.status)
        return answer

    def _conclude(self, connector: Connector, delivery: Delivery, answer: Answer) -> None:
        now_s, now = self._clock(), self._monotonic()
        self._adapt(connector.pace, delivery, answer, now)
        connector.queue.retries_max = connector.pace.retry_lanes
        if answer.cause is None:
            connector.health.succeeded(now_s)
            connector.queue.finish(delivery, End.DELIVERED)
        else:
            connector.health.failed(now_s)
            expires_at = delivery.owed_since + connector.target.retry_window_s
            if delivery.test or now_s >= expires_at:
                connector.queue.finish(delivery, End.EXPIRED)
            else:
                cap_s = connector.pace.retry_cap_s(answer.status)
                wait_s = delay_s(delivery.attempts + 1, answer.retry_after_s, self._random, cap_s)
                connector.queue.finish(delivery, End.FAILED, min(now_s + wait_s, expires_at))
        self._journal.note(connector.id, delivery, answer, now_s)
        self._done(connector)

    def _adapt(self, pace: Pace, delivery: Delivery, answer: Answer, now: float) -> None:
        """Let the connector's limit follow what became of an attempt."""
        retried = delivery.attempts > 0
        if answer.cause is None:
            pace.succeeded(now, delivery.began, answer.latency_s, delivery.beside, retried=retried)
        elif answer.status is not None and not is_overload(answer.status):
            pace.rejected(now, delivery.began, answer.latency_s, delivery.beside, retried=retried)
        else:
            pace.failed(now, delivery.began, answer.status, answer.retry_after_s, self._random)
