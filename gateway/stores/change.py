"""A change of devices: one transaction, then what it means is told to the devices that it touched.

    async with change(services) as changed:
        device = await locking.lock(changed.connection, owner_id, device_id)
        await config.put_of_owner(changed, device, …)

Whoever changes a device notes it (`touched`) and says what happened (`record`) where it makes the change, so that no
endpoint can forget either. Events are appended with the last statement of the transaction; after the commit the
prepared replies of the touched devices are rewritten (see `schemas.replies`). What is left by an exception is rolled
back, and nobody hears of it.

Once committed a change stands. With Redis away, or Postgres lost right after the commit, the devices learn of it
later: triggers have noted them in `reply_queue`, and a worker writes what is there.
"""

from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Protocol
from uuid import UUID

from schemas import outbox, replies
from schemas.life_cycle import LifeCycle
from schemas.outbox import Event
from schemas.postgres import Connection, Pool
from schemas.redis import Redis

REPLIES_MAX = 1_000
"""Of a change that touches more devices, a worker writes the other replies within seconds."""


class Means(Protocol):
    """What a change is made with; the services of a process have it."""

    @property
    def postgres(self) -> Pool: ...
    @property
    def redis(self) -> Redis: ...
    @property
    def clock(self) -> Callable[[], datetime]: ...


class Change:
    """A transaction under way, and what it did so far."""

    __slots__ = ("_events", "_touched", "connection", "moment")

    def __init__(self, connection: Connection, moment: datetime) -> None:
        self.connection = connection
        self.moment = moment
        """The time of the change: what it writes and tells is dated so."""
        self._touched: dict[UUID, None] = {}
        self._events: list[Event] = []

    def __repr__(self) -> str:
        return f"<Change touched={len(self._touched)} events={len(self._events)}>"

    def touched(self, *device_ids: UUID) -> None:
        """The next reply to these devices is another one."""
        for device_id in device_ids[: REPLIES_MAX - len(self._touched)]:
            self._touched[device_id] = None

    def record(self, device_id: UUID, event: LifeCycle, project_id: UUID | None = None) -> None:
        """Something happened to a device; told to its project, or to the one that is named."""
        self._events.append(outbox.event(device_id, event, self.moment, project_id))

    def record_all(self, events: Iterable[Event]) -> None:
        """As `record`, for events that are ready-made."""
        self._events += events

    async def append_events(self) -> None:
        """Append what was recorded so far: at the end, and now and then by whoever changes very many devices."""
        events, self._events = self._events, []
        await outbox.append(self.connection, events)

    async def publish(self, redis: Redis) -> None:
        """Rewrite the replies of the touched devices; after the commit."""
        if self._touched:
            await replies.publish(self.connection, redis, list(self._touched))


@asynccontextmanager
async def change(means: Means) -> AsyncIterator[Change]:
    """Make a change."""
    async with means.postgres.acquire() as connection, change_over(means, connection) as changed:
        yield changed


@asynccontextmanager
async def change_over(means: Means, connection: Connection) -> AsyncIterator[Change]:
    """Make one of several changes, each with a transaction of its own, over the same connection."""
    changed = Change(connection, means.clock())
    async with connection.transaction():
        yield changed
        await changed.append_events()
    await changed.publish(means.redis)
