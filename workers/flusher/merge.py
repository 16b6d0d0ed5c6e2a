"""Merges messages into the states of their devices, and makes the events that they become.

The log keeps the time that a device told. What orders its state is never further ahead than `AHEAD_MAX` of the
message's arrival, and a time from before the device was registered counts as none, so that no wrong clock freezes a
state.
"""

from collections import Counter
from collections.abc import Collection, Sequence
from datetime import datetime, timedelta

import msgspec
from msgspec import UNSET

from schemas import device_status, replies
from schemas.events import EventType
from schemas.outcomes import Stored
from schemas.postgres import Connection
from schemas.telemetry import Telemetry
from workers import key_overlaps, offline_incidents
from workers.flusher import devices, rule_incidents, state_rows
from workers.flusher.devices import MODEL_ID, Device
from workers.flusher.messages import Message
from workers.flusher.models import Models
from workers.flusher.rows import Rows

TELEMETRY = str(EventType.TELEMETRY)
AHEAD_MAX = timedelta(minutes=1)
_USUAL = b'{"telemetry":{"updateTime":"%b","status":"%b","telemetries":%b}}'
"""What `_data` makes of a message with nothing but these."""

_encode = msgspec.json.Encoder().encode

Outcomes = Counter[tuple[int, Stored]]
"""How many messages of a shard ended how."""


async def merge(
    connection: Connection, messages: Sequence[Message], models: Models, rows: Rows, outcomes: Outcomes
) -> None:
    """Bring the states of the messages' devices up to date; adds the events of the messages to `rows`, in order."""
    if not messages:
        return
    shards = {message.device_id: message.shard for message in messages}
    known = await devices.read(connection, shards)
    found = await state_rows.read(connection, shards)
    rules = await models.of(connection, {row[MODEL_ID].bytes: row[MODEL_ID] for row in known.values()}.values())
    of_id = {
        device_id: Device(
            shards[device_id], row, found.get(device_id), rules[row[MODEL_ID].bytes], models.incident_rules
        )
        for device_id, row in known.items()
    }
    taken: list[tuple[Message, Device]] = []
    parted: list[Device] = []
    deleted: set[str] = set()
    arrived: set[str] = set()
    for message in messages:
        device_id, telemetry = message.device_id, message.telemetry
        device = of_id.get(device_id)
        if (
            device is None
            or device.deleted
            or (message.key_version != device.key_version and not device.has_good_key(message))
        ):
            if telemetry is not None:
                reason = Stored.DELETED if device is None or device.deleted else Stored.OLD_KEY
                outcomes[message.shard, reason] += 1
                if device is None:
                    rows.unknown[message.shard].add(device_id)
                elif device.deleted:
                    deleted.add(device_id)
            continue
        device.stored.last_seen = message.received_at
        if device.awaits_key and message.key_version == device.key_version:
            arrived.add(device_id)
        if telemetry is not None:
            taken.append((message, device))
            if not device.stored.is_whole and device.needs_whole(telemetry):
                parted.append(device)
    if deleted:
        await replies.turn_away(connection, deleted)
    await state_rows.complete(connection, parted)
    for message, device in taken:
        _merge(message, device, rows)
    for shard, count in Counter(message.shard for message, _ in taken).items():
        outcomes[shard, Stored.STORED] += count
    if arrived:
        await key_overlaps.end_for(connection, arrived)
    if seen := [device for device in of_id.values() if device.stored.last_seen is not None]:
        await _write(connection, seen, rows)


async def _write(connection: Connection, seen: Collection[Device], rows: Rows) -> None:
    now = rows.stored_at
    if watches := [(device.device_id, device.watch) for device in seen if device.watch and device.watch.steps]:
        await rule_incidents.settle(connection, watches, now)
    await state_rows.write(connection, seen, rows)
    if back := [device.device_id for device in seen if device.stored.offline]:
        await offline_incidents.close_for(connection, back, now)
    if moved := [device.device_id for device in seen if device.stored.is_seen_otherwise()]:
        await device_status.make_due(connection, moved)
    rows.left_out += sum(device.stored.left_out for device in seen)
    if full := [device for device in seen if device.stored.left_out and not device.full]:
        await devices.mark_full(connection, full, now)
    if roomy := [device for device in seen if device.full and device.stored.has_room()]:
        await devices.mark_full(connection, roomy, None)


def _merge(message: Message, device: Device, rows: Rows) -> None:
    content, stored, mapping = message.telemetry, device.stored, device.mapping
    assert content is not None
    at = message.at
    ordered_at = _ordered_at(at, message.received_at, device.registered_at)
    late = stored.latest is not None and ordered_at < stored.latest
    if device.is_watched:
        device.look(content, ordered_at, late=late)
    values = content.telemetries
    if content.override or content.message is not None or content.status is None or values is UNSET:
        stored.merge(content, ordered_at)
        data = _data(content, message.update_time)
    else:
        encoded = _encode(values)
        if not stored.merge_same(content, ordered_at, encoded):
            stored.merge(content, ordered_at)
        data = _USUAL % (message.update_time, content.status.encode(), encoded)
    seq = rows.add(device, TELEMETRY, at, data)
    if not late:
        stored.message_seq = seq
    if mapping is not None and content.telemetries is not UNSET:
        events, unfit = mapping.events(content.telemetries, stored.telemetries, at, late=late)
        rows.unfit += unfit
        for event_type, json in events:
            rows.add_remembered(device, event_type, at, json, ordered_at=ordered_at)


def _ordered_at(stated: datetime, arrived: datetime, registered: datetime) -> datetime:
    """What orders a message whose device stated this time, or none, which is that of its arrival."""
    if stated is arrived or stated < registered:
        return arrived
    return min(stated, arrived + AHEAD_MAX)


def _data(message: Telemetry, update_time: bytes) -> bytes:
    """The event's data: the message as the device sent it, its time first."""
    return b"".join((b'{"telemetry":{"updateTime":"', update_time, b'",', _encode(message)[1:], b"}"))
