"""The events of one device, newest first, read from the log by index.

An event's own time may lie long before it was stored, so a time range says only from which partition on to look: no
event is dated more than a day later than it was stored. Within a partition the index of the device's events gives them
in their order, and the partitions are merged: a page costs what it looks at (`examining`), whatever else the log holds.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from msgspec import Struct

from gateway.stores.events import by_index
from gateway.stores.events.examining import Examined, Part, Range, Sources
from gateway.stores.events.tiers import Tiers
from schemas import ids, rendering
from schemas.postgres import Executor


class StoredEvent(Struct):
    """An event as JSON, with its place in the order of the list."""

    json: bytes
    ts: datetime
    seq: int

    def place(self) -> list[Any]:
        """The place among the events of one device."""
        return [self.ts, self.seq]


def examined(project_id: UUID, device_id: UUID, shard: int, within: Range, event_types: Sequence[str]) -> Examined:
    """What happened to a device, of this shard, while it was in the project."""
    events = Examined(Sources("device_id", [device_id], [shard]), within)
    events.only_projects([project_id])
    if event_types:
        events.only_types(event_types)
    return events


async def page(
    tiers: Tiers,
    project_id: UUID,
    device_id: UUID,
    shard: int,
    within: Range,
    *,
    event_types: Sequence[str],
    limit: int,
) -> Part[StoredEvent]:
    """The newest of them; fewer than `limit` where they are more than a page holds (see `by_index.rows`)."""
    events = examined(project_id, device_id, shard, within, event_types)
    async with by_index.reading(tiers) as connection:
        return await events.read(tiers, connection, lambda row: _event(row, project_id, device_id), limit=limit)


def _event(row: Any, project_id: UUID, device_id: UUID) -> StoredEvent:
    event_id = ids.event_id(int(row["stored_at"].timestamp()), row["shard"], row["seq"])
    json = rendering.event(event_id, row["type"], project_id, device_id, row["ts"], row["data"])
    return StoredEvent(json, row["ts"], row["seq"])


async def belongs(connection: Executor, project_id: UUID, device_id: UUID) -> bool:
    """Whether a device is in a project, or was until it was deleted."""
    found: bool = await connection.fetchval(
        "SELECT EXISTS (SELECT FROM devices WHERE id = $1 AND project_id = $2)", device_id, project_id
    )
    return found
