"""What one connector owes: the part of it that is in memory. No I/O; every method leaves the whole consistent.

    log ──offer──▶ queued ──take──▶ in flight ──finish──▶ done ──collect──▶ committed
                                        │
                                        └─collect──▶ set apart: a straggler, its place passed, its end still to come

A place in the log is passed in order: `collect` takes what is done from the front of each shard's queue. A request that
takes long would hold up what is done behind it, so it is set apart: the transaction that passes it writes a row of
`waiting_deliveries` for it, which its end deletes.

`exposed` counts the requests begun whose end is not committed: what a crash would repeat. It never exceeds the limit.
"""

from collections import deque
from datetime import datetime

from workers.dispatcher.body import Event
from workers.dispatcher.cursors import CLOCK_SLACK, Cursor
from workers.dispatcher.delivery import Delivery, End, Kind, Stage
from workers.dispatcher.progress import Progress
from workers.dispatcher.request import Target

FRESH_MAX = 256
"""Events of the log that a connector keeps in memory; with more it falls behind, which costs nothing but reading."""
DUE_MAX = 64
SUSPECTS_MAX = 1_000
SUSPECTS_EVERY = 8
"""Every so many turns nobody has to let others pass."""
STRAGGLER_S = 1.0
PRESSED_STRAGGLER_S = 0.05
"""A request is set apart after this; sooner where it holds up enough work to matter."""


class Queue:
    """The deliveries of one connector."""

    def __init__(self, cursors: dict[int, Cursor], exposed_max: int) -> None:
        self.cursors = cursors
        self.fresh: deque[Delivery] = deque()
        self.due: deque[Delivery] = deque()
        """Rows that have not been tried yet."""
        self.retries: deque[Delivery] = deque()
        """And those that failed before: a line of their own, which never holds the others up."""
        self.retrying = 0
        """How many of these are in flight."""
        self.retries_max = exposed_max
        """How many of them may be."""
        self.tests: deque[Delivery] = deque()
        self.loaded: set[int] = set()
        """Rows of `waiting_deliveries` that are in memory."""
        self.exposed = 0
        self.in_flight = 0
        self._exposed_max = exposed_max
        self._finished: list[Delivery] = []
        self._turn = 0
        self._suspects: dict[Kind, None] = {}
        """What failed when it was last tried."""

    def __repr__(self) -> str:
        return f"<Queue fresh={len(self.fresh)} due={len(self.due)}+{len(self.retries)} exposed={self.exposed}>"

    # In

    def offer(self, event: Event) -> None:
        """Add the next event of its shard."""
        delivery = Delivery(event, event.stored_at.timestamp())
        self.cursors[event.shard].queue.append(delivery)
        self.fresh.append(delivery)

    def offer_due(self, delivery: Delivery) -> None:
        """Add a row of `waiting_deliveries` whose time has come."""
        self.loaded.add(delivery.waiting_id)
        (self.tests if delivery.test else self.retries if delivery.attempts else self.due).append(delivery)

    # Out

    def has_work(self) -> bool:
        """Whether `take` would find something."""
        return self.exposed < self._exposed_max and bool(self.fresh or self.due or self._may_retry())

    def due_count(self) -> int:
        """Rows of `waiting_deliveries` that are in memory and not begun."""
        return len(self.due) + len(self.retries)

    def _may_retry(self) -> bool:
        return bool(self.retries) and self.retrying < self.retries_max

    def take(self, now_s: float, monotonic_s: float, target: Target, *, probing: bool = False) -> Delivery | None:
        """Begin the next delivery. What expired on the way ends here.

        Events of the log and rows take turns. What is like something that failed last (the same type of the same
        device) lets the others pass, and what failed itself does while the endpoint is probed: they may have failed
        for what they are.
        """
        while self.exposed < self._exposed_max:
            delivery = self._choose(probing=probing)
            if delivery is None:
                return None
            if (end := self._end_unsent(delivery, now_s, target)) is None:
                return self._begin(delivery, monotonic_s)
            self._finish(delivery, end)
        return None

    def _choose(self, *, probing: bool) -> Delivery | None:
        self._turn += 1
        sources = [self.fresh, self.due] if self._turn % 2 else [self.due, self.fresh]
        # A place in the log is passed in order: not too much may be done behind those that let others pass.
        if self._suspects and self._turn % SUSPECTS_EVERY and not self.pressed():
            for source in sources:
                for place, delivery in enumerate(source):
                    if delivery.kind not in self._suspects:
                        del source[place]
                        return delivery
        if self._may_retry():
            sources.insert(len(sources) if probing else self._turn // 2 % 2, self.retries)
        return next((source.popleft() for source in sources if source), None)

    def take_test(self, monotonic_s: float) -> Delivery | None:
        """Begin a test event, whatever the pace."""
        return self._begin(self.tests.popleft(), monotonic_s) if self.tests else None

    def expire(self, now_s: float, target: Target) -> int:
        """End what must not be sent any more, for a connector that takes nothing for the moment; returns how many."""
        count = 0
        for source in (self.fresh, self.due, self.retries):
            while source and (end := self._end_unsent(source[0], now_s, target)) is not None:
                self._finish(source.popleft(), end)
                count += 1
        return count

    def _end_unsent(self, delivery: Delivery, now_s: float, target: Target) -> End | None:
        event = delivery.event
        if event is None or now_s - delivery.owed_since >= target.retry_window_s:
            return End.EXPIRED
        if not target.wants(event.type):
            return End.DROPPED if delivery.waiting_id else End.SKIPPED
        return None

    def _begin(self, delivery: Delivery, monotonic_s: float) -> Delivery:
        delivery.stage = Stage.IN_FLIGHT
        delivery.began = monotonic_s
        self.exposed += 1
        self.in_flight += 1
        self.retrying += delivery.attempts > 0
        return delivery

    def finish(self, delivery: Delivery, end: End, next_at: float = 0.0) -> None:
        """An attempt is over. FAILED is tried again at `next_at`."""
        self.in_flight -= 1
        self.retrying -= delivery.attempts > 0
        delivery.attempts += 1
        delivery.next_at = next_at
        if end is End.FAILED:
            self._suspects[delivery.kind] = None
            if len(self._suspects) > SUSPECTS_MAX:
                del self._suspects[next(iter(self._suspects))]
        elif self._suspects:
            self._suspects.pop(delivery.kind, None)
        self._finish(delivery, end)

    def _finish(self, delivery: Delivery, end: End) -> None:
        delivery.stage = Stage.DONE
        delivery.end = end
        if delivery.waiting_id:
            self._finished.append(delivery)

    # Committing

    def uncommitted(self) -> bool:
        """Whether something is done that no commit has told of."""
        return bool(self._finished) or any(
            cursor.queue and cursor.queue[0].stage is Stage.DONE for cursor in self.cursors.values()
        )

    def ahead(self) -> tuple[int, datetime | None]:
        """The events in memory whose places no commit has passed: how many, and when the oldest was stored."""
        queues = [cursor.queue for cursor in self.cursors.values() if cursor.queue]
        stored = [queue[0].event.stored_at for queue in queues if queue[0].event is not None]
        return sum(map(len, queues)), min(stored, default=None)

    def held_up(self) -> bool:
        """Whether something done waits behind requests under way, which may have to be set apart for it."""
        return self.exposed > self.in_flight

    def pressed(self) -> bool:
        """Whether what is done and not committed is about to hold up deliveries."""
        return 2 * (self.exposed - self.in_flight) >= self._exposed_max

    def collect(self, monotonic_s: float, *, idle_since: datetime | None = None) -> Progress:
        """Take out what the next commit must tell. With `idle_since`, also places passed with nothing to deliver;
        no event after them was stored before that time.
        """
        progress = Progress()
        blocking = 4 * (self.exposed - self.in_flight) >= self._exposed_max
        patience_s = PRESSED_STRAGGLER_S if blocking else STRAGGLER_S
        for shard, cursor in self.cursors.items():
            self._collect_shard(progress, cursor, monotonic_s - patience_s)
            seq = cursor.place()
            if seq == cursor.committed:
                continue
            if idle_since is not None and not cursor.queue:
                cursor.stored_at = max(cursor.stored_at, idle_since - CLOCK_SLACK)
            progress.positions.append((shard, seq, cursor.stored_at))
        if not progress.accepted and idle_since is None:
            progress.positions.clear()
        for shard, seq, _ in progress.positions:
            self.cursors[shard].committed = seq
        for delivery in self._finished:
            progress.exposed += delivery.began > 0
            (progress.retried if delivery.end is End.FAILED else progress.ended).append(delivery)
        self._finished = []
        return progress

    def _collect_shard(self, progress: Progress, cursor: Cursor, straggling_before: float) -> None:
        queue = cursor.queue
        while queue:
            delivery = queue[0]
            if delivery.stage is Stage.IN_FLIGHT and delivery.began < straggling_before:
                delivery.apart = True
                progress.apart.append(delivery)
                progress.accepted += 1
            elif delivery.stage is Stage.DONE:
                progress.exposed += delivery.began > 0
                progress.accepted += delivery.end is not End.SKIPPED
                progress.delivered += delivery.end is End.DELIVERED
                progress.expired += delivery.end is End.EXPIRED
                if delivery.end is End.FAILED:
                    progress.failed.append(delivery)
            else:
                break
            queue.popleft()
            if delivery.event is not None:
                cursor.stored_at = max(cursor.stored_at, delivery.event.stored_at - CLOCK_SLACK)

    def committed(self, progress: Progress) -> None:
        """The commit is done, and the deliveries set apart have their rows' ids."""
        self.exposed -= progress.exposed
        for delivery in progress.ended + progress.retried:
            self.loaded.discard(delivery.waiting_id)
        for delivery in progress.apart:
            self.loaded.add(delivery.waiting_id)
            if delivery.stage is Stage.DONE:
                self._finished.append(delivery)
