"""Telemetry history, newest first, read from the event log.

A device's telemetry belongs to the project that the device was in when it was sent; what it sent before it was claimed
is nobody's but the vendor's.
"""

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import msgspec
from msgspec import Raw, Struct

from gateway.stores.devices.owner_view import SUBTREE
from gateway.stores.events import by_index
from gateway.stores.events.by_index import STORED_SLACK
from schemas import ids
from schemas.postgres import Pool
from schemas.telemetry import DeviceStatus
from schemas.times import EPOCH

# Strings stored by earlier versions may hold \u0000, which PostgreSQL keeps in a json column and cannot take apart.
_STATUS = r"replace(e.data::text, '\u0000', '\ufffd')::json -> 'telemetry' ->> 'status'"

Position = tuple[datetime, int, int]
"""Where a message stands in the order of the list: its time, and shard and sequence to tell equals apart."""


class HistoryItem(Struct, kw_only=True):
    """One message of a device. `timestamp` is the device's own time, `stored_at` ours."""

    event_id: str
    device_id: UUID
    timestamp: datetime
    stored_at: datetime
    status: str | None
    telemetries: dict[str, Any]
    message: str | None


class _Message(Struct):
    status: str | None = None
    telemetries: Raw = Raw(b"{}")
    message: str | None = None


class _Stored(Struct):
    telemetry: _Message


_stored = msgspec.json.Decoder(_Stored)
_encode = msgspec.json.Encoder().encode


class ListedMessage(Struct):
    """A message as JSON (a `HistoryItem`), with its position in the list."""

    json: bytes
    ts: datetime
    shard: int
    seq: int

    def position(self) -> list[str | int]:
        """The position as plain numbers, time in µs since 1970."""
        return [(self.ts - EPOCH) // timedelta(microseconds=1), self.shard, self.seq]


def position(numbers: list[Any]) -> Position:
    """A position from its plain numbers."""
    time_us, shard, seq = numbers
    return EPOCH + timedelta(microseconds=time_us), shard, seq


async def page(
    pool: Pool,
    shards: int,
    project_ids: list[UUID],
    *,
    since: datetime,
    until: datetime,
    device_id: UUID | None,
    space_id: UUID | None,
    name: str | None,
    status: DeviceStatus | None,
    before: Position | None,
    offset: int,
    limit: int,
) -> list[ListedMessage]:
    """The messages of these projects in `[since, until)`.

    `space_id` stands for the devices now at or below it, `name` for those that now have it.
    """
    read_shards = list(range(shards)) if device_id is None else [ids.shard_of(str(device_id).encode(), shards)]
    arguments: list[Any] = [since, since - STORED_SLACK, until, read_shards]
    conditions = []
    if space_id is not None:
        within = SUBTREE.format(top="$1")
        rows = await pool.fetch(f"SELECT id FROM devices WHERE space_id IN ({within})", space_id)
        arguments.append([row["id"] for row in rows])
        conditions.append(f"e.device_id = ANY(${len(arguments)}::uuid[])")
    if name is not None:
        rows = await pool.fetch(
            "SELECT id FROM devices WHERE project_id = ANY($1::uuid[]) AND name = $2", project_ids, name
        )
        arguments.append([row["id"] for row in rows])
        conditions.append(f"e.device_id = ANY(${len(arguments)}::uuid[])")
    if device_id is not None:
        # One device has few messages of other projects: no need to take the projects one by one, and none to let
        # PostgreSQL walk through all of theirs, which it would where a partition has no statistics yet.
        arguments += [device_id, project_ids]
        of_projects = f"array_position(${len(arguments)}::uuid[], e.project_id) IS NOT NULL"
        conditions.append(f"e.device_id = ${len(arguments) - 1} AND {of_projects}")
        return await _read(pool, conditions, arguments, status, before, offset, limit)
    arguments.append(project_ids)
    source = f"unnest(${len(arguments)}::uuid[]) AS project (id) CROSS JOIN LATERAL"
    conditions.append("e.project_id = project.id")
    return await _read(pool, conditions, arguments, status, before, offset, limit, source)


async def page_of_device(
    pool: Pool,
    shards: int,
    device_id: UUID,
    *,
    since: datetime,
    until: datetime,
    before: Position | None,
    offset: int,
    limit: int,
) -> list[ListedMessage]:
    """The messages of one device in `[since, until)`, whoever owned it."""
    shard = ids.shard_of(str(device_id).encode(), shards)
    arguments: list[Any] = [since, since - STORED_SLACK, until, [shard], device_id]
    return await _read(pool, ["e.device_id = $5"], arguments, None, before, offset, limit)


async def _read(
    pool: Pool,
    conditions: list[str],
    arguments: list[Any],
    status: DeviceStatus | None,
    before: Position | None,
    offset: int,
    limit: int,
    source: str = "",
) -> list[ListedMessage]:
    """Read newest first; with a `source` the log is read once for each of its rows, each time by index."""
    if status is not None:
        arguments.append(status)
        conditions.append(f"{_STATUS} = ${len(arguments)}")
    if before is not None:
        arguments += before
        first = len(arguments) - 2
        conditions.append(f"(e.ts, e.shard, e.seq) < (${first}, ${first + 1}, ${first + 2})")
    arguments += [offset, limit]
    take = f"${len(arguments) - 1}::bigint + ${len(arguments)}::bigint"
    where = "".join(f" AND {condition}" for condition in conditions)
    statement = f"""
        SELECT found.device_id, found.ts, found.stored_at, found.shard, found.seq, found.data::text FROM {source} (
            SELECT e.device_id, e.ts, e.stored_at, e.shard, e.seq, e.data FROM events e
             WHERE e.shard = ANY($4::smallint[]) AND e.type = 'telemetry'
               AND e.ts >= $1 AND e.stored_at >= $2 AND e.ts < $3{where}
             ORDER BY e.ts DESC, e.shard DESC, e.seq DESC LIMIT {take}) found
         ORDER BY ts DESC, shard DESC, seq DESC OFFSET ${len(arguments) - 1} LIMIT ${len(arguments)}"""
    return await by_index.page(pool, _listed, statement, *arguments)


def _listed(row: asyncpg.Record) -> ListedMessage:
    message = _stored.decode(row["data"]).telemetry
    item = HistoryItem(
        event_id=ids.event_id(int(row["stored_at"].timestamp()), row["shard"], row["seq"]),
        device_id=row["device_id"],
        timestamp=row["ts"],
        stored_at=row["stored_at"],
        status=message.status,
        telemetries=message.telemetries,  # type: ignore[arg-type]  # their JSON stays as it is
        message=message.message,
    )
    return ListedMessage(_encode(item), row["ts"], row["shard"], row["seq"])
