"""A data connector as the process that owns it keeps it."""

import asyncio
import time
from datetime import datetime
from uuid import UUID

from workers.dispatcher.pace import Pace
from workers.dispatcher.queue import DUE_MAX, FRESH_MAX, Queue
from workers.dispatcher.request import Requests, Target


class Health:
    """The clock of automatic disabling, as it will be committed. Seconds since 1970."""

    __slots__ = ("attempted_at", "failing_since", "succeeded_at")

    def __init__(self, failing_since: float | None) -> None:
        self.failing_since = failing_since
        self.attempted_at: float | None = None
        self.succeeded_at: float | None = None

    def succeeded(self, now_s: float) -> None:
        """An attempt was answered with 2xx."""
        self.attempted_at = self.succeeded_at = now_s
        self.failing_since = None

    def failed(self, now_s: float) -> None:
        """An attempt failed. A clock that jumped back does not leave the first failure in the future."""
        self.attempted_at = now_s
        self.failing_since = now_s if self.failing_since is None else min(self.failing_since, now_s)

    def times(self) -> tuple[float | None, float | None, float | None]:
        """Of the last attempt and the last success (None: no news), and of the first failure since."""
        return self.attempted_at, self.succeeded_at, self.failing_since


class Connector:
    """One connector: what it owes, how fast it may, where it goes. Compared by identity: a reload makes another."""

    __slots__ = (
        "backlog",
        "begun",
        "catching_up",
        "check_at",
        "closed",
        "epoch",
        "health",
        "id",
        "lanes",
        "leaving",
        "pace",
        "project_id",
        "queue",
        "reading",
        "requests",
        "starts",
        "target",
        "unread",
        "waking",
    )

    def __init__(
        self,
        connector_id: str,
        project_id: UUID,
        epoch: int,
        starts: int,
        target: Target,
        requests: Requests,
        pace: Pace,
        queue: Queue,
        health: Health,
        backlog: tuple[int, datetime | None] = (0, None),
    ) -> None:
        self.id = connector_id
        self.project_id = project_id
        self.epoch = epoch
        self.starts = starts
        self.target = target
        self.requests = requests
        self.pace = pace
        self.queue = queue
        self.health = health
        self.backlog = backlog
        """How many events lie ahead of it and since when, as that is written in its row."""
        self.unread: int | None = None
        """Events in the log that it has to read by itself, as far as they are counted; None while that is not kept."""
        self.lanes = 0
        self.begun = 0
        """Requests begun so far."""
        self.closed = False
        """No longer served here: outcomes of requests in flight are ignored."""
        self.leaving = False
        """About to be handed over: no new requests."""
        self.reading = False
        self.catching_up = False
        """The last window read for it was full: more of the log waits."""
        self.waking: asyncio.TimerHandle | None = None
        """Set while its pause is waited for."""
        self.check_at = 0.0
        """Monotonic time at which `waiting_deliveries` may hold something due."""

    def __repr__(self) -> str:
        return f"<Connector {self.id} lanes={self.lanes} {self.queue!r} {self.pace!r}>"

    def close(self) -> None:
        """Stop serving it."""
        self.closed = True
        if self.waking is not None:
            self.waking.cancel()

    def behind(self) -> bool:
        """Whether the log holds events that this connector must read by itself."""
        return any(not cursor.live and cursor.read < cursor.tail.seq for cursor in self.queue.cursors.values())

    def pass_unread(self, count: int) -> None:
        """So many events more (or fewer) are in the log for it to read."""
        if self.unread is not None:
            self.unread += count

    def hungry(self) -> bool:
        """Whether more of the log should be read for it now."""
        return not self.closed and not self.reading and 2 * len(self.queue.fresh) < FRESH_MAX and self.behind()

    def expecting(self) -> bool:
        """Whether its waiting deliveries should be read now: some may be due, and there is room for them."""
        return not self.closed and self.check_at <= time.monotonic() and 2 * self.queue.due_count() < DUE_MAX

    def due_in(self, seconds: float) -> None:
        """Look at its waiting deliveries no later than in so many seconds."""
        self.check_at = min(self.check_at, time.monotonic() + max(0.0, seconds))
