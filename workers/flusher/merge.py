"""Merges messages into the states of their devices, and makes the events that they become.

The log keeps the time that a device told. What orders its state is never further ahead than `AHEAD_MAX` of the
message's arrival, and a time from before the device was registered counts as none, so that no wrong clock freezes a
state.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec

from schemas.events import EventType
from schemas.mappings import EventMapping
from schemas.outcomes import Stored
from schemas.postgres import Connection
from schemas.telemetry import Telemetry
from workers import offline_incidents
from workers.flusher.messages import Message
from workers.flusher.rows import Mappings, Rows, labels_of
from workers.flusher.state import State

_STATES_TABLE = """
    CREATE TEMP TABLE IF NOT EXISTS flushed_states (
        shard smallint, device_id uuid, status text, telemetries json, times json, state_at timestamptz,
        floor_at timestamptz, last_seen_at timestamptz) ON COMMIT DELETE ROWS
"""

AHEAD_MAX = timedelta(minutes=1)

Outcomes = Counter[tuple[int, Stored]]
"""How many messages of a shard ended how."""


class _Device:
    """A device of the batch: what is known of it, and its state while messages are merged into it."""

    __slots__ = ("labels", "last_seen", "mapping", "project_id", "registered_at", "shard", "state")

    def __init__(self, row: Any, state: State, mapping: EventMapping | None, shard: int) -> None:
        self.shard = shard
        self.project_id: UUID | None = row["project_id"]
        self.registered_at: datetime = row["registered_at"]
        self.labels = labels_of(row)
        self.mapping = mapping
        self.state = state
        self.last_seen: datetime | None = None


async def merge(
    connection: Connection, messages: Sequence[Message], mappings: Mappings, rows: Rows, outcomes: Outcomes
) -> None:
    """Bring the states of the messages' devices up to date; adds the events of the messages to `rows`, in order."""
    if not messages:
        return
    known = await _devices(connection, {message.device_id for message in messages})
    stored = await _states(connection, {message.device_id: message.shard for message in messages})
    models = {row["model_id"] for row in known.values() if row["project_id"] is not None}
    mapped = await mappings.of(connection, models) if models else {}
    devices: dict[str, _Device] = {}
    for message in messages:
        device_id, row = message.device_id, known.get(message.device_id)
        if row is None or row["deleted"] or row["key_version"] != message.key_version:
            if message.telemetry is not None:
                reason = Stored.DELETED if row is None or row["deleted"] else Stored.OLD_KEY
                outcomes[message.shard, reason] += 1
            continue
        device = devices.get(device_id)
        if device is None:
            mapping = mapped.get(row["model_id"]) if row["project_id"] is not None else None
            device = devices[device_id] = _Device(row, _state(stored.get(device_id)), mapping, message.shard)
        device.last_seen = message.received_at
        if message.telemetry is not None:
            outcomes[message.shard, Stored.STORED] += 1
            _merge(message, message.telemetry, device, rows)
    if devices:
        await _write_states(connection, devices)
        if back := [device_id for device_id in devices if device_id in stored and stored[device_id]["offline"]]:
            await offline_incidents.close_for(connection, back, datetime.now(UTC))


def _merge(message: Message, content: Telemetry, device: _Device, rows: Rows) -> None:
    state, mapping = device.state, device.mapping
    ordered_at = _ordered_at(message.at, message.received_at, device.registered_at)
    late = mapping is not None and state.latest is not None and ordered_at < state.latest
    state.merge(content, ordered_at)
    data = _data(content, message.update_time)
    rows.add(message.shard, EventType.TELEMETRY, message.device_id, device.project_id, message.at, data, device.labels)
    if mapping is not None and content.telemetries is not msgspec.UNSET:
        events, unfit = mapping.events(content.telemetries, state.telemetries, message.at, late=late)
        rows.unfit += unfit
        for event_type, json in events:
            ids = message.shard, event_type, message.device_id, device.project_id
            rows.add_typed(*ids, message.at, json, device.labels, ordered_at=ordered_at)


def _ordered_at(stated: datetime, arrived: datetime, registered: datetime) -> datetime:
    """What orders a message whose device stated this time, or none, which is that of its arrival."""
    return arrived if stated < registered else min(stated, arrived + AHEAD_MAX)


async def _devices(connection: Connection, device_ids: Iterable[str]) -> dict[str, Any]:
    rows = await connection.fetch(
        """SELECT id, project_id, model_id, key_version, deleted_at IS NOT NULL AS deleted, name, description, labels,
                  registered_at
             FROM devices WHERE id = ANY($1::uuid[])""",
        list(device_ids),
    )
    return {str(row["id"]): row for row in rows}


async def _states(connection: Connection, shards: dict[str, int]) -> dict[str, Any]:
    rows = await connection.fetch(
        """SELECT s.device_id, s.status, s.telemetries, s.times, s.state_at, s.floor_at, s.offline
             FROM unnest($1::smallint[], $2::uuid[]) AS wanted (shard, device_id)
             JOIN device_state s ON s.shard = wanted.shard AND s.device_id = wanted.device_id
            WHERE s.shard = ANY($3::smallint[])""",
        list(shards.values()),
        list(shards),
        list(set(shards.values())),
    )
    return {str(row["device_id"]): row for row in rows}


async def _write_states(connection: Connection, devices: dict[str, _Device]) -> None:
    """By way of a temporary table: COPY takes a row in a third of the time that arrays of parameters need."""
    await connection.execute(_STATES_TABLE)
    await connection.copy_records_to_table(
        "flushed_states",
        records=[
            (d.shard, i, s.status, s.telemetries, s.times, s.latest, s.floor, d.last_seen)
            for i, d in devices.items()
            for s in (d.state,)
        ],
    )
    await connection.execute(
        """
        INSERT INTO device_state AS s
               (shard, device_id, status, telemetries, times, state_at, floor_at, last_seen_at, offline)
        SELECT shard, device_id, status, telemetries, times, state_at, floor_at, last_seen_at, false
          FROM flushed_states ORDER BY shard, device_id
        ON CONFLICT (shard, device_id) DO UPDATE SET
               status = excluded.status, telemetries = excluded.telemetries, times = excluded.times,
               state_at = excluded.state_at, floor_at = excluded.floor_at, offline = false,
               last_seen_at = greatest(s.last_seen_at, excluded.last_seen_at)
        """
    )


def _state(row: Any) -> State:
    if row is None:
        return State()
    return State(row["status"], row["telemetries"], row["times"], row["state_at"], row["floor_at"])


def _data(message: Telemetry, update_time: str) -> msgspec.Raw:
    """The event's data: the message as the device sent it, its time first."""
    return msgspec.Raw(
        b'{"telemetry":{"updateTime":"%b",%b}' % (update_time.encode(), msgspec.json.encode(message)[1:])
    )
