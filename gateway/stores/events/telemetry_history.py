"""Telemetry history, newest first, read from the event log.

A device's telemetry belongs to the project that the device was in when it was sent; what it sent before it was claimed
is nobody's but the vendor's.
"""

import functools
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

import asyncpg
import msgspec
from msgspec import Raw, Struct

from gateway.stores.devices.owner_view import SUBTREE
from gateway.stores.events import by_index
from gateway.stores.events.examining import Examined, Part, Range, Sources
from gateway.stores.events.tiers import Position, Tiers
from schemas import ids
from schemas.events import EventType
from schemas.postgres import Connection
from schemas.telemetry import DeviceStatus
from schemas.times import EPOCH

FEW_DEVICES = 20
"""Messages of so many devices are read device by device, those of more by project."""


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

    def boundary(self) -> list[str | int]:
        """The position as plain numbers."""
        return numbers((self.ts, self.shard, self.seq))


def numbers(position: Position) -> list[str | int]:
    """A position as plain numbers, time in µs since 1970."""
    moment, shard, seq = position
    return [(moment - EPOCH) // timedelta(microseconds=1), shard, seq]


def position(plain: list[Any]) -> Position:
    """A position from its plain numbers."""
    time_us, shard, seq = plain
    return EPOCH + timedelta(microseconds=time_us), shard, seq


async def page(
    tiers: Tiers,
    shards: int,
    project_ids: Sequence[UUID],
    within: Range,
    *,
    device_id: UUID | None,
    space_id: UUID | None,
    name: str | None,
    status: DeviceStatus | None,
    offset: int,
    limit: int,
) -> Part[ListedMessage]:
    """The messages of these projects.

    `space_id` stands for the devices now at or below it, `name` for those that now have it.
    """
    async with by_index.reading(tiers) as connection:
        of_devices = await _devices(connection, project_ids, device_id, space_id, name)
        if of_devices.few is not None:
            examined = Examined(Sources("device_id", of_devices.few, _shards_of(of_devices.few, shards)), within)
            examined.only_projects(project_ids)
        else:
            examined = Examined(Sources("project_id", project_ids, range(shards)), within)
            if of_devices.conditions:
                meeting = functools.partial(_meeting, connection, of_devices.conditions, of_devices.arguments)
                await examined.only_devices(connection, meeting)
        return await _read(tiers, connection, examined, status, offset, limit)


async def page_of_devices(
    tiers: Tiers,
    shards: int,
    device_ids: list[UUID],
    within: Range,
    *,
    project_ids: Sequence[UUID] | None = None,
    status: DeviceStatus | None = None,
    offset: int,
    limit: int,
) -> Part[ListedMessage]:
    """The messages of a few devices, whoever owned them; or only those of these projects."""
    async with by_index.reading(tiers) as connection:
        examined = Examined(Sources("device_id", device_ids, _shards_of(device_ids, shards)), within)
        if project_ids is not None:
            examined.only_projects(project_ids)
        return await _read(tiers, connection, examined, status, offset, limit)


class _Devices(NamedTuple):
    """Whose messages are asked for: of these devices, when they are few; or of those that meet a condition."""

    few: list[UUID] | None
    conditions: list[str]
    arguments: list[Any]


async def _devices(
    connection: Connection, project_ids: Sequence[UUID], device_id: UUID | None, space_id: UUID | None, name: str | None
) -> _Devices:
    conditions: list[str] = []
    arguments: list[Any] = []
    if space_id is not None:
        arguments.append(space_id)
        conditions.append(f"d.space_id IN ({SUBTREE.format(top='$1')})")
    if name is not None:
        arguments.append(name)
        conditions.append(f"d.name = ${len(arguments)}")
    if not conditions:
        return _Devices(None if device_id is None else [device_id], conditions, arguments)
    if device_id is not None:
        return _Devices(await _meeting(connection, conditions, arguments, [device_id]), conditions, arguments)
    within, of_projects = list(conditions), list(arguments)
    if space_id is None:
        of_projects.append(project_ids)
        within.append(f"d.project_id = ANY(${len(of_projects)}::uuid[])")
    rows = await connection.fetch(
        f"SELECT d.id FROM devices d WHERE {' AND '.join(within)} LIMIT {FEW_DEVICES + 1}", *of_projects
    )
    few = [row["id"] for row in rows] if len(rows) <= FEW_DEVICES else None
    return _Devices(few, conditions, arguments)


async def _meeting(
    connection: Connection, conditions: list[str], arguments: list[Any], device_ids: list[UUID]
) -> list[UUID]:
    """Those of these devices that meet the conditions."""
    where = " AND ".join([*conditions, f"d.id = ANY(${len(arguments) + 1}::uuid[])"])
    rows = await connection.fetch(f"SELECT d.id FROM devices d WHERE {where}", *arguments, device_ids)
    return [row["id"] for row in rows]


def _shards_of(device_ids: list[UUID], shards: int) -> list[int]:
    return sorted({ids.shard_of(str(device_id).encode(), shards) for device_id in device_ids})


async def _read(
    tiers: Tiers, connection: Connection, examined: Examined, status: DeviceStatus | None, offset: int, limit: int
) -> Part[ListedMessage]:
    examined.only_types([EventType.TELEMETRY])
    if status is not None:
        examined.only_status(status)
    return await examined.read(tiers, connection, _listed, offset=offset, limit=limit)


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
