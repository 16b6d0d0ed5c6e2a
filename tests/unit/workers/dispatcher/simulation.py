"""Lanes, pace and queue of connectors in simulated time: hours of deliveries in a second, and every run the same.

The loop's time passes only while nothing is ready, and its timers fire early, as uvloop's do. What
surrounds the lanes in a dispatcher is played: commits at once, and rows that failed come back when their time has come.
"""

import asyncio
import heapq
import random
import selectors
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any
from uuid import UUID

import msgspec
from test_queue import NOW_S, event, target
from yarl import URL

from workers.dispatcher.client import Answer, Cause
from workers.dispatcher.connector import Connector, Health
from workers.dispatcher.cursors import Cursor, Shard
from workers.dispatcher.delivery import Delivery
from workers.dispatcher.governor import Governor
from workers.dispatcher.lanes import Lanes
from workers.dispatcher.pace import Pace
from workers.dispatcher.queue import DUE_MAX, FRESH_MAX, Queue
from workers.dispatcher.request import Requests
from workers.egress import Origin

LANES_MAX = 32
TIMEOUT_S = 10.0
DEVICES = 8
EARLY_S = 0.003


class _Jump(selectors.BaseSelector):
    """Waits for nothing: passes the time instead."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        assert timeout is not None, "everybody waits, and nobody would be woken"
        self.now_s += max(0.0, timeout)
        return []

    def register(self, fileobj: Any, events: int, data: Any = None) -> Any:
        return selectors.SelectorKey(fileobj, fileobj, events, data)

    def unregister(self, fileobj: Any) -> Any:
        return None

    def get_map(self) -> dict[Any, Any]:
        return {}


class SimulatedLoop(asyncio.SelectorEventLoop):
    """Time that passes at once."""

    def __init__(self) -> None:
        self.jump = _Jump()
        super().__init__(self.jump)

    def time(self) -> float:
        return self.jump.now_s

    def call_later(self, delay: float, callback: Any, *args: Any, context: Any = None) -> asyncio.TimerHandle:
        """Early, unless it is soon."""
        early_s = EARLY_S if delay > 2 * EARLY_S else 0.0
        return super().call_later(delay - early_s, callback, *args, context=context)


def simulate(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run it in simulated time."""
    with asyncio.Runner(loop_factory=SimulatedLoop) as runner:
        runner.run(scenario())


Serve = Callable[[bytes], Awaitable[int]]
"""What a receiver does with a request: takes its time, and returns a status; raises OSError where there is none."""


async def acknowledges(_: bytes) -> int:
    """At once."""
    return 200


class Simulated:
    """One connector, its receiver, and the log that it is owed. `arrived` counts what the receiver saw of each."""

    def __init__(
        self, serve: Serve = acknowledges, seed: int = 1, connector_id: str = "c", deliveries_max: int = 2000
    ) -> None:
        self.chance = random.Random(seed)
        self.serve = serve
        self.arrived: Counter[str] = Counter()
        self.taken: Counter[str] = Counter()
        """Requests that the receiver went through with, though we may not have waited for its answer."""
        self.ended_at: dict[str, float] = {}
        self.log: deque[Delivery] = deque()
        self._due: list[tuple[float, int, Delivery]] = []
        self._number = 0
        self.pending = 0
        self.fault: BaseException | None = None
        loop = asyncio.get_running_loop()
        self._loop = loop
        self.lanes = Lanes(
            self,  # type: ignore[arg-type]
            self,  # type: ignore[arg-type]
            Governor(LANES_MAX),
            deliveries_max,
            done=self._commit,
            low=lambda _: None,
            spawn=self._spawn,
            clock=lambda: NOW_S + loop.time(),
            random=self.chance.random,
            monotonic=loop.time,
        )
        to = msgspec.structs.replace(target(retry_window_s=43200), url=URL("http://receiver.example/"))
        self.tail = Shard(0, 1, event(1).stored_at)
        self.connector = Connector(
            connector_id,
            UUID(int=0),
            0,
            0,
            to,
            Requests(to, "", lambda: NOW_S + loop.time()),
            Pace(LANES_MAX, timeout_s=TIMEOUT_S),
            Queue({0: Cursor(1, event(1).stored_at, self.tail)}, 2 * LANES_MAX),
            Health(None),
        )
        self._tasks: set[asyncio.Task[None]] = set()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self.fault = self.fault or (None if task.cancelled() else task.exception())

    def happen(self, count: int = 1, event_type: str = "touch") -> list[Delivery]:
        """Events are stored."""
        made = []
        for _ in range(count):
            self._number += 1
            stored = event(self._number, event_type=event_type)
            stored.device_id = UUID(int=self._number % DEVICES if event_type == "touch" else DEVICES)
            made.append(Delivery(stored, NOW_S + self._loop.time()))
        self.log += made
        self.pending += count
        self._feed()
        self.lanes.pump(self.connector)
        return made

    def _feed(self) -> None:
        queue = self.connector.queue
        while self.log and len(queue.fresh) < FRESH_MAX:
            delivery = self.log.popleft()
            assert delivery.event is not None
            cursor = queue.cursors[0]
            cursor.fall_behind(delivery.event.seq + 1)
            cursor.queue.append(delivery)
            queue.fresh.append(delivery)
        now_s = NOW_S + self._loop.time()
        while self._due and self._due[0][0] <= now_s and queue.due_count() < DUE_MAX:
            queue.offer_due(heapq.heappop(self._due)[2])

    def _come_back(self) -> None:
        self._feed()
        self.lanes.pump(self.connector)

    def _commit(self, _: Connector) -> None:
        queue = self.connector.queue
        progress = queue.collect(self._loop.time())
        for delivery in progress.apart:
            delivery.waiting_id = delivery.waiting_id or id(delivery)
        queue.committed(progress)
        self.pending -= progress.delivered + progress.expired + len(progress.ended)
        for delivery in progress.failed + progress.retried:
            again = Delivery(delivery.event, delivery.owed_since)
            again.waiting_id, again.attempts, again.next_at = id(again), delivery.attempts, delivery.next_at
            heapq.heappush(self._due, (again.next_at, id(again), again))
            self._loop.call_later(max(0.0, delivery.next_at - NOW_S - self._loop.time()) + 0.05, self._come_back)
        self._feed()

    # The client

    async def post(self, _origin: Origin, request: bytes, _tenant: object) -> Answer:
        event_id = msgspec.json.decode(request.partition(b"\r\n\r\n")[2])["event"]["eventId"]
        self.arrived[event_id] += 1
        began = self._loop.time()
        work = asyncio.ensure_future(self._serve(event_id, request))
        try:
            status = await asyncio.wait_for(asyncio.shield(work), TIMEOUT_S)
        except TimeoutError:
            work.add_done_callback(lambda done: done.cancelled() or done.exception())
            return Answer(Cause.TIMEOUT, None, TIMEOUT_S, "")
        except OSError:
            return Answer(Cause.CONNECT, None, self._loop.time() - began, "")
        latency_s = self._loop.time() - began
        if status == 200:
            self.ended_at.setdefault(event_id, self._loop.time())
            return Answer(None, status, latency_s, "")
        return Answer(Cause.STATUS, status, latency_s, "")

    async def _serve(self, event_id: str, request: bytes) -> int:
        status = await self.serve(request)
        if status == 200:
            self.taken[event_id] += 1
        return status

    # The journal

    def note(self, *_: object) -> None:
        return None

    async def drained(self) -> None:
        """Wait until nothing is owed any more."""
        while self.pending:
            assert self.fault is None
            assert not self.lanes.overlooked(self.connector)
            await asyncio.sleep(0.1)
