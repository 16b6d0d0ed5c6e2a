"""The events of one device, newest first, read from the log by index.

An event's own time may lie long before it was stored, so a time range says only from which partition on to look: no
event is dated more than a day later than it was stored. Within a partition the index of the device's events gives them
in their order, and the partitions are merged: a page costs what it shows, whatever else the log holds.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from msgspec import Struct

from gateway.stores.events import by_index
from gateway.stores.events.by_index import STORED_SLACK
from schemas import ids, rendering
from schemas.postgres import Executor, Pool

# For IS NOT DISTINCT FROM PostgreSQL uses no index: it must not walk through all events of the project.
PAGE = """
    SELECT e.shard, e.seq, e.stored_at, e.type, e.ts, e.data::text
      FROM events e
     WHERE e.shard = $7 AND e.device_id = $1 AND e.project_id IS NOT DISTINCT FROM $2
       AND e.ts >= $3 AND e.ts < $4 AND e.stored_at >= $5{conditions}
     ORDER BY e.ts DESC, e.seq DESC LIMIT $6
"""
OF_TYPES = " AND e.type = ANY(${})"
BEFORE = " AND (e.ts, e.seq) < (${}, ${})"


class StoredEvent(Struct):
    """An event as JSON, with its place in the order of the list."""

    json: bytes
    ts: datetime
    seq: int


async def page(
    pool: Pool,
    project_id: UUID,
    device_id: UUID,
    shard: int,
    *,
    since: datetime,
    until: datetime,
    event_types: Sequence[str],
    before: tuple[datetime, int] | None,
    limit: int,
) -> list[StoredEvent]:
    """What happened to a device, of this shard, in `[since, until)`, while it was in the project.

    Fewer than `limit` where they are more than a page holds (see `by_index.page`).
    """
    arguments: list[Any] = [device_id, project_id, since, until, since - STORED_SLACK, limit, shard]
    conditions = ""
    if event_types:
        arguments.append(list(event_types))
        conditions += OF_TYPES.format(len(arguments))
    if before is not None:
        arguments += before
        conditions += BEFORE.format(len(arguments) - 1, len(arguments))
    return await by_index.page(
        pool, lambda row: _event(row, project_id, device_id), PAGE.format(conditions=conditions), *arguments
    )


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
