"""The rows of devices' states: read before a batch is merged, written after it.

`check_at`, by which the offline sweep finds devices, is indexed: it moves on only when most of the time to it has
passed, so that most writes touch no index.
"""

from collections import Counter
from collections.abc import Collection, Iterable
from datetime import timedelta
from functools import cache
from struct import Struct
from typing import Any

from msgspec import Raw

from schemas.postgres import Connection
from workers.flusher.copying import NULL, Moments, copy, value
from workers.flusher.devices import Device
from workers.flusher.rows import Rows

_COLUMNS = (
    "shard", "device_id", "last_seen_at", "check_at", "status", "telemetries", "times", "state_at", "floor_at",
    "message_seq", "message_stored_at", "rule_states",
)  # fmt: skip
_SEEN = Struct(">hihi16siqiq")
"""How many columns there are; the first four, each behind its length."""
_TIME = Struct(">iq")
_NO_TIMES = value(b"{}")
_TABLE = """
    CREATE TEMP TABLE IF NOT EXISTS flushed_states (
        shard smallint, device_id uuid, last_seen_at timestamptz, check_at timestamptz, status text, telemetries json,
        times json, state_at timestamptz, floor_at timestamptz, message_seq bigint, message_stored_at timestamptz,
        rule_states json) ON COMMIT DELETE ROWS
"""


_UPDATE = """
    INSERT INTO device_state AS s
           (shard, device_id, status, telemetries, times, state_at, floor_at, last_seen_at, check_at,
            offline, message_seq, message_stored_at, rule_states)
    SELECT shard, device_id, status, telemetries, times, state_at, floor_at, last_seen_at, check_at, false,
           message_seq, message_stored_at, rule_states
      FROM {flushed} ORDER BY shard, device_id
    ON CONFLICT (shard, device_id) DO UPDATE SET
           status = excluded.status, telemetries = excluded.telemetries, times = excluded.times,
           state_at = excluded.state_at, floor_at = excluded.floor_at, offline = false,
           last_seen_at = greatest(s.last_seen_at, excluded.last_seen_at),
           check_at = CASE
               WHEN s.offline OR NOT isfinite(s.check_at) THEN excluded.check_at
               WHEN s.check_at - excluded.last_seen_at < (excluded.check_at - excluded.last_seen_at) / 5
               THEN excluded.check_at ELSE s.check_at END,
           message_seq = coalesce(excluded.message_seq, s.message_seq),
           message_stored_at = coalesce(excluded.message_stored_at, s.message_stored_at),
           rule_states = coalesce(excluded.rule_states, s.rule_states)
"""
_UPDATE_MANY = _UPDATE.format(flushed="flushed_states")
_UPDATE_FEW = _UPDATE.format(
    flushed=f"""unnest($1::smallint[], $2::uuid[], $3::timestamptz[], $4::timestamptz[], $5::text[], $6::json[],
                       $7::json[], $8::timestamptz[], $9::timestamptz[], $10::bigint[], $11::timestamptz[],
                       $12::json[]) AS flushed ({", ".join(_COLUMNS)})"""
)
FEW = 32
"""States that are written without the temporary table."""


async def read(connection: Connection, shards: dict[str, int]) -> dict[str, Any]:
    """The rows of devices' states, without what is settled; `shards` has each device's shard.

    The index is read once for each shard, with all of its devices, not once for each device.
    """
    counts, first, last = Counter(shards.values()), [], []
    begin = 1
    for shard in sorted(counts):
        first.append(begin)
        begin += counts[shard]
        last.append(begin - 1)
    rows = await connection.fetch(
        """SELECT s.device_id, s.status, s.telemetries, CASE WHEN s.times::text <> '{}' THEN s.times END AS times,
                  s.state_at, s.floor_at, s.offline, s.settled_at, s.rule_states::text AS rule_states
             FROM unnest($1::smallint[], $2::integer[], $3::integer[]) AS wanted (shard, first, last)
             JOIN device_state s ON s.shard = wanted.shard
                  AND s.device_id = ANY (($4::uuid[])[wanted.first:wanted.last])
            WHERE s.shard = ANY($1::smallint[])""",
        sorted(counts),
        first,
        last,
        sorted(shards, key=shards.__getitem__),
    )
    return {str(row[0]): row for row in rows}


async def complete(connection: Connection, devices: Iterable[Device]) -> None:
    """Read what is settled of their states, so that these are whole."""
    wanted = {device.device_id: device for device in devices}
    if not wanted:
        return
    shards = [device.shard for device in wanted.values()]
    rows = await connection.fetch(
        """SELECT s.device_id, s.settled, s.settled_times, s.settled_at
             FROM unnest($1::smallint[], $2::uuid[]) AS wanted (shard, device_id)
             JOIN device_state s ON s.shard = wanted.shard AND s.device_id = wanted.device_id
            WHERE s.shard = ANY($3::smallint[])""",
        shards,
        list(wanted),
        list(set(shards)),
    )
    for row in rows:
        wanted[row["device_id"]].stored.complete(row)


async def write(connection: Connection, devices: Collection[Device], rows: Rows) -> None:
    """Write the states of devices whose messages became these rows.

    Many that have a row come by way of a temporary table: COPY takes a row in a third of the time that arrays of
    parameters need, but costs three more round trips and a table to be emptied. A shard's flusher holds it and nobody
    else adds states, so those without one are simply added.
    """
    await complete(
        connection, [device for device in devices if not device.stored.is_whole and device.stored.is_swollen()]
    )
    known = [device for device in devices if device.stored.is_known]
    stored = _TIME.pack(8, rows.moments[rows.stored_at])
    if fresh := [_packed(device, rows.moments, stored) for device in devices if not device.stored.is_known]:
        await copy(connection, "device_state", _COLUMNS, fresh)
    if len(known) > FEW:
        await connection.execute(_TABLE)
        await copy(connection, "flushed_states", _COLUMNS, [_packed(device, rows.moments, stored) for device in known])
        await connection.execute(_UPDATE_MANY)
    elif known:
        await connection.execute(_UPDATE_FEW, *zip(*(_values(device, rows) for device in known), strict=True))
    if settled := [
        (device.shard, device.device_id, *device.stored.settled)
        for device in devices
        if device.stored.settled is not None
    ]:
        await connection.executemany(
            """UPDATE device_state SET settled = $3, settled_times = $4, settled_at = $5
                WHERE shard = $1 AND device_id = $2""",
            settled,
        )


def _packed(device: Device, moments: Moments, stored_at: bytes) -> bytes:
    """The row for COPY, in the order of `_COLUMNS`; `stored_at` is packed."""
    stored = device.stored
    assert stored.last_seen is not None
    seen = moments[stored.last_seen]
    telemetries, times = stored.parts()
    return b"".join(
        (
            _SEEN.pack(12, 2, device.shard, 16, device.device_id.bytes, 8, seen, 8, seen + device.check_after),
            NULL if stored.status is None else _status(stored.status),
            value(telemetries),
            _NO_TIMES if times == b"{}" else value(times),
            NULL if stored.latest is None else _TIME.pack(8, moments[stored.latest]),
            NULL if stored.floor is None else _TIME.pack(8, moments[stored.floor]),
            NULL + NULL if stored.message_seq is None else _TIME.pack(8, stored.message_seq) + stored_at,
            NULL if device.watch is None else value(device.watch.packed()),
        )
    )


@cache
def _status(status: str) -> bytes:
    return value(status.encode())


def _values(device: Device, rows: Rows) -> tuple[Any, ...]:
    """The row as values, in the order of `_COLUMNS`."""
    stored = device.stored
    assert stored.last_seen is not None
    telemetries, times = stored.parts()
    watched = None if device.watch is None else device.watch.packed()
    return (
        device.shard,
        device.device_id,
        stored.last_seen,
        stored.last_seen + timedelta(microseconds=device.check_after),
        stored.status,
        Raw(telemetries),
        Raw(times),
        stored.latest,
        stored.floor,
        stored.message_seq,
        None if stored.message_seq is None else rows.stored_at,
        None if watched is None else Raw(watched),
    )
