"""Merges messages into the states of their devices, and makes the events that they become.

The log keeps the time that a device told. What orders its state is never further ahead than `AHEAD_MAX` of the
message's arrival, and a time from before the device was registered counts as none, so that no wrong clock freezes a
state.
"""

import logging
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
from msgspec import UNSET

from schemas import logs, replies
from schemas.events import EventType
from schemas.mappings import EventMapping
from schemas.outcomes import Stored
from schemas.postgres import Connection
from schemas.telemetry import Telemetry
from workers import key_overlaps, offline_incidents
from workers.flusher import states
from workers.flusher.messages import Message
from workers.flusher.models import Models
from workers.flusher.rows import Rows, labels_of
from workers.flusher.states import StoredState

log = logging.getLogger(__name__)
AHEAD_MAX = timedelta(minutes=1)

Outcomes = Counter[tuple[int, Stored]]
"""How many messages of a shard ended how."""


class _Device:
    """A device of the batch: what is known of it, and its state while messages are merged into it."""

    __slots__ = ("full", "labels", "mapping", "project_id", "registered_at", "stored")

    def __init__(self, row: Any, mapping: EventMapping | None, stored: StoredState) -> None:
        self.project_id: UUID | None = row["project_id"]
        self.registered_at: datetime = row["registered_at"]
        self.full: bool = row["full"]
        self.labels = labels_of(row)
        self.mapping = mapping
        self.stored = stored


async def merge(
    connection: Connection, messages: Sequence[Message], models: Models, rows: Rows, outcomes: Outcomes
) -> None:
    """Bring the states of the messages' devices up to date; adds the events of the messages to `rows`, in order."""
    if not messages:
        return
    known = await _devices(connection, {message.device_id for message in messages})
    found = await states.read(connection, {message.device_id: message.shard for message in messages})
    rules = await models.of(connection, {row["model_id"] for row in known.values()})
    devices: dict[str, _Device] = {}
    taken: list[tuple[Message, _Device]] = []
    parted: list[StoredState] = []
    deleted: set[str] = set()
    arrived: set[str] = set()
    for message in messages:
        device_id, row, telemetry = message.device_id, known.get(message.device_id), message.telemetry
        if row is None or row["deleted"] or not _has_good_key(message, row):
            if telemetry is not None:
                reason = Stored.DELETED if row is None or row["deleted"] else Stored.OLD_KEY
                outcomes[message.shard, reason] += 1
                if row is None:
                    rows.unknown[message.shard].add(device_id)
                elif row["deleted"]:
                    deleted.add(device_id)
            continue
        device = devices.get(device_id)
        if device is None:
            limits, mapping, check_after = rules[row["model_id"]]
            stored = StoredState(message.shard, device_id, found.get(device_id), limits, check_after)
            device = devices[device_id] = _Device(row, None if row["project_id"] is None else mapping, stored)
        device.stored.last_seen = message.received_at
        if row["previous_key_good"] and message.key_version == row["key_version"]:
            arrived.add(device_id)
        if telemetry is not None:
            taken.append((message, device))
            if not device.stored.is_whole and _needs_whole(device, telemetry):
                parted.append(device.stored)
    if deleted:
        await replies.turn_away(connection, deleted)
    await states.complete(connection, parted)
    for message, device in taken:
        outcomes[message.shard, Stored.STORED] += 1
        _merge(message, device, rows)
    if arrived:
        await key_overlaps.end_for(connection, arrived)
    if devices:
        await _write(connection, devices.values(), rows)


def _has_good_key(message: Message, row: Any) -> bool:
    return message.key_version == row["key_version"] or key_overlaps.was_good(
        row, message.key_version, message.received_at
    )


async def _write(connection: Connection, devices: Collection[_Device], rows: Rows) -> None:
    now = rows.stored_at
    stored = [device.stored for device in devices]
    await states.write(connection, stored, rows.stored_at)
    if back := [one.device_id for one in stored if one.offline]:
        await offline_incidents.close_for(connection, back, now)
    rows.left_out += sum(one.state.left_out for one in stored)
    if full := [one.stored.device_id for one in devices if one.stored.state.left_out and not one.full]:
        await _mark(connection, full, now)
    if roomy := [one.stored.device_id for one in devices if one.full and one.stored.has_room()]:
        await _mark(connection, roomy, None)


def _needs_whole(device: _Device, telemetry: Telemetry) -> bool:
    mapped: Collection[str] = ()
    if device.mapping is not None and telemetry.telemetries is not UNSET:
        mapped = device.mapping.read_with(telemetry.telemetries)
    return device.stored.needs_whole(telemetry, full=device.full, others=mapped)


def _merge(message: Message, device: _Device, rows: Rows) -> None:
    content, state, mapping = message.telemetry, device.stored.state, device.mapping
    assert content is not None
    ordered_at = _ordered_at(message.at, message.received_at, device.registered_at)
    late = state.latest is not None and ordered_at < state.latest
    device.stored.merge(content, ordered_at)
    data = _data(content, message.update_time)
    ids = message.shard, EventType.TELEMETRY, message.device_id, device.project_id
    seq = rows.add(*ids, message.at, data, device.labels)
    if not late:
        device.stored.message_seq = seq
    if mapping is not None and content.telemetries is not UNSET:
        events, unfit = mapping.events(content.telemetries, state.telemetries, message.at, late=late)
        rows.unfit += unfit
        for event_type, json in events:
            ids = message.shard, event_type, message.device_id, device.project_id
            rows.add_remembered(*ids, message.at, json, device.labels, ordered_at=ordered_at)


def _ordered_at(stated: datetime, arrived: datetime, registered: datetime) -> datetime:
    """What orders a message whose device stated this time, or none, which is that of its arrival."""
    return arrived if stated < registered else min(stated, arrived + AHEAD_MAX)


async def _devices(connection: Connection, device_ids: Iterable[str]) -> dict[str, Any]:
    rows = await connection.fetch(
        """SELECT id, project_id, model_id, key_version, deleted_at IS NOT NULL AS deleted, name, description, labels,
                  registered_at, state_full_at IS NOT NULL AS full, previous_key_version,
                  previous_key_until, previous_key_good
             FROM devices WHERE id = ANY($1::uuid[])""",
        list(device_ids),
    )
    return {str(row["id"]): row for row in rows}


async def _mark(connection: Connection, device_ids: Sequence[str], full_at: datetime | None) -> None:
    """Note since when states are full, or that they have room again. What is locked is left for the next message."""
    marked = await connection.fetch(
        """UPDATE devices d SET state_full_at = $2
             FROM (SELECT id FROM devices WHERE id = ANY($1::uuid[]) FOR NO KEY UPDATE SKIP LOCKED) AS free
            WHERE d.id = free.id RETURNING d.id""",
        device_ids,
        full_at,
    )
    for row in marked:
        if full_at is None:
            logs.event(log, logging.INFO, "state_has_room", device=str(row["id"]))
        else:
            logs.event(log, logging.WARNING, "state_full", device=str(row["id"]))


def _data(message: Telemetry, update_time: str) -> msgspec.Raw:
    """The event's data: the message as the device sent it, its time first."""
    return msgspec.Raw(
        b'{"telemetry":{"updateTime":"%b",%b}' % (update_time.encode(), msgspec.json.encode(message)[1:])
    )
