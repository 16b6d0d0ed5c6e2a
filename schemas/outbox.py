"""How a change hands its events to the log.

The log (`events`) has one writer per shard. Everyone else appends to `event_outbox` in the transaction of the change
that the event tells of; the flusher that owns the shard moves it into the log. Nobody else writes to that table.

Events belong to projects, by default to the one that the device is in when they are appended: what happens to a device
that nobody claimed is told to nobody.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

import msgspec

from schemas.events import EventType
from schemas.life_cycle import LifeCycle
from schemas.postgres import Connection

STATEMENT_S = 600.0
"""A million events take about a minute."""
_INSERT = "INSERT INTO event_outbox (shard, type, device_id, project_id, ts, data)"


class Event(NamedTuple):
    """One event, its data ready-made as JSON."""

    device_id: UUID
    type: EventType
    ts: datetime
    data: bytes
    project_id: UUID | None = None
    """Which project it belongs to, where that is not the one the device is in."""


def event(device_id: UUID, happened: LifeCycle, moment: datetime, project_id: UUID | None = None) -> Event:
    """A life-cycle event of a device, from its data."""
    return Event(device_id, happened.TYPE, moment, happened.data(moment), project_id)


async def append(connection: Connection, events: Iterable[Event]) -> None:
    """Hand over events in this order, with one statement, inside the transaction of the change."""
    columns = list(zip(*events, strict=True))
    if not columns:
        return
    device_ids, types, moments, data, project_ids = columns
    await connection.execute(
        f"""{_INSERT}
            SELECT d.shard, e.type, d.id, coalesce(e.project_id, d.project_id), e.ts, e.data
              FROM unnest($1::uuid[], $2::text[], $3::timestamptz[], $4::json[], $5::uuid[])
                   WITH ORDINALITY AS e (device_id, type, ts, data, project_id, position)
              JOIN devices d ON d.id = e.device_id
             WHERE coalesce(e.project_id, d.project_id) IS NOT NULL ORDER BY e.position""",
        device_ids,
        types,
        moments,
        [msgspec.Raw(one) for one in data],
        project_ids,
    )


async def append_selected(
    connection: Connection,
    event_type: EventType,
    moment: datetime,
    query: str,
    *arguments: Any,
) -> None:
    """Hand over an event of each living device that a query yields as (`device_id`, `data`).

    The query's own arguments begin with $3. For as many devices as there are: nothing of them leaves the database.
    """
    await connection.execute(
        f"""{_INSERT}
            SELECT d.shard, $1, d.id, d.project_id, $2, q.data FROM ({query}) q JOIN devices d ON d.id = q.device_id
             WHERE d.project_id IS NOT NULL AND d.deleted_at IS NULL""",
        event_type,
        moment,
        *arguments,
        timeout=STATEMENT_S,
    )


async def append_to_each(
    connection: Connection,
    happened: LifeCycle,
    moment: datetime,
    query: str,
    *arguments: Any,
) -> None:
    """Hand over the same event of each living device whose `device_id` a query yields; its arguments begin with $4."""
    await append_selected(
        connection,
        happened.TYPE,
        moment,
        f"SELECT t.device_id, $3::json AS data FROM ({query}) t",
        msgspec.Raw(happened.data(moment)),
        *arguments,
    )
