"""States of devices between their rows and their messages, so that a merge costs what its message does.

    telemetries, times               the whole state of most devices; of a large one what changed lately
    settled, settled_times, …_at     the rest of a large one

A message whose keys all lie in the recent part is merged into that alone: what is there is newer than what is settled.
For another one the settled part is read as well, and its keys belong to the recent part from then on. When that has
grown the two become one again, which settles anew: the settled part is written once for some kilobytes of news.

`check_at`, by which the offline sweep finds devices, is indexed: it moves on only when most of the time to it has
passed, so that most writes touch no index.

A state has limits by its model: values that would pass them are left out, and the device is marked as full.
"""

from collections.abc import Collection, Iterable
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import msgspec
from msgspec import UNSET, Raw

from schemas.postgres import Connection
from schemas.telemetry import Telemetry
from workers.flusher.state import STATUS, State, microseconds

RECENT_BYTES_MAX = 4_096
"""A larger state is split, and a recent part that is larger is settled."""
ROOM_RATIO = 0.9
"""A state that was full has room again when it is less full than this."""

_TABLE = """
    CREATE TEMP TABLE IF NOT EXISTS flushed_states (
        shard smallint, device_id uuid, status text, telemetries json, times json, state_at timestamptz,
        floor_at timestamptz, last_seen_at timestamptz, check_at timestamptz, message_seq bigint) ON COMMIT DELETE ROWS
"""

Settled = tuple[Raw | None, Raw | None, datetime | None]
"""The columns of the settled part; all None where there is none."""


class Limits(NamedTuple):
    """Limits of a state."""

    keys: int
    bytes: int


class StoredState:
    """The state of one device: all of it, or the recent part of a large one until `is_whole`."""

    __slots__ = (
        "_check_after",
        "_floor",
        "_limits",
        "_news",
        "_oversize",
        "device_id",
        "is_whole",
        "last_seen",
        "message_seq",
        "offline",
        "settled",
        "shard",
        "state",
    )

    def __init__(self, shard: int, device_id: str, row: Any, limits: Limits, check_after: timedelta) -> None:
        self.shard = shard
        self.device_id = device_id
        self.last_seen: datetime | None = None
        self.message_seq: int | None = None
        """The number in the log of the newest message, if that is one of this batch."""
        self.offline = row is not None and row["offline"]
        self.is_whole = row is None or row["settled_at"] is None
        self.settled: Settled | None = None
        """What to write of the settled part; None where it stays as it is."""
        if row is None:
            self.state = State(keys_max=limits.keys)
        else:
            known = row["status"], row["telemetries"], row["times"], row["state_at"], row["floor_at"]
            self.state = State(*known, keys_max=limits.keys)
        self._limits = limits
        self._check_after = check_after
        self._floor = self.state.floor
        self._oversize = False
        self._news: set[str] | None = None
        """The keys of the recent part, where the state is whole and has a settled one, too."""

    def __repr__(self) -> str:
        return f"<StoredState of {self.device_id}>"

    def needs_whole(self, message: Telemetry, *, full: bool, others: Collection[str] = ()) -> bool:
        """Whether a message cannot be merged into the recent part alone.

        `full` says whether the state was found full, which a removal may end; `others` are keys that are read with the
        message.
        """
        values = {} if message.telemetries is UNSET else message.telemetries
        if message.override or (full and None in values.values()):
            return True
        recent, times = self.state.telemetries, self.state.times
        return any(key not in recent and key not in times for keys in (values, others) for key in keys)

    def complete(self, row: Any) -> None:
        """Put the settled part of the row below the recent one."""
        state, settled, times = self.state, row["settled"], row["settled_times"]
        self._news = {*state.telemetries, *state.times} - {STATUS}
        if row["settled_at"] != state.latest:
            times = dict.fromkeys(settled, microseconds(row["settled_at"])) | times
        state.telemetries = {key: settled[key] for key in settled if key not in state.times} | state.telemetries
        state.times = {key: times[key] for key in times if key not in self._news} | state.times
        self.is_whole = True
        self._oversize = len(state.telemetries) > self._limits.keys

    def merge(self, message: Telemetry, at: datetime) -> None:
        """Merge a message whose time is `at`."""
        self.state.merge(message, at)
        if self._news is not None and message.telemetries is not UNSET:
            self._news.update(message.telemetries)

    def is_swollen(self) -> bool:
        """Whether the recent part is so large that it must be settled, for which the state is not whole."""
        return not self.is_whole and sum(map(len, self._recent())) > RECENT_BYTES_MAX

    def has_room(self) -> bool:
        """Whether the state, if it is whole, is well below its limits."""
        if not self.is_whole or self.state.left_out or len(self.state.telemetries) > ROOM_RATIO * self._limits.keys:
            return False
        return len(msgspec.json.encode(self.state.telemetries)) <= ROOM_RATIO * self._limits.bytes

    def row(self) -> tuple[Any, ...]:
        """The row in the order of `_TABLE`; sets `settled` where that changes."""
        state = self.state
        telemetries, times = self._recent()
        must = self._oversize or state.forgot or (self._news is not None and state.floor != self._floor)
        if self.is_whole and (must or len(telemetries) + len(times) > RECENT_BYTES_MAX):
            telemetries, times = self._settle()
        values = Raw(telemetries), Raw(times)
        assert self.last_seen is not None
        times_of = state.latest, state.floor, self.last_seen, self.last_seen + self._check_after
        return self.shard, self.device_id, state.status, *values, *times_of, self.message_seq

    def _recent(self) -> tuple[bytes, bytes]:
        telemetries, times = self.state.telemetries, self.state.times
        if self._news is not None:
            telemetries = {key: telemetries[key] for key in self._news if key in telemetries}
            times = {key: times[key] for key in (*self._news, STATUS) if key in times}
        return msgspec.json.encode(telemetries), msgspec.json.encode(times)

    def _settle(self) -> tuple[bytes, bytes]:
        """Cut the state down to its limits and settle all of it, or none where it is small; what is left as recent."""
        state, bytes_max = self.state, self._limits.bytes
        telemetries, times = msgspec.json.encode(state.telemetries), msgspec.json.encode(state.times)
        excess = len(telemetries) - bytes_max
        if excess > 0:
            left_out = 0
            for item in reversed(state.telemetries.items()):
                if excess <= 0:
                    break
                excess -= len(msgspec.json.encode(dict([item]))) - 1
                left_out += 1
            state.leave_out(left_out)
            telemetries, times = msgspec.json.encode(state.telemetries), msgspec.json.encode(state.times)
        kept = self._limits.keys // 2
        while len(times) > bytes_max and kept:
            kept //= 2
            state.forget_removals(kept)
            times = msgspec.json.encode(state.times)
        if len(telemetries) + len(times) <= RECENT_BYTES_MAX:
            self.settled = None, None, None
            return telemetries, times
        of_status = {STATUS: state.times[STATUS]} if STATUS in state.times else {}
        others = {key: time for key, time in state.times.items() if key != STATUS}
        self.settled = Raw(telemetries), Raw(msgspec.json.encode(others)), state.latest
        return b"{}", msgspec.json.encode(of_status)


async def read(connection: Connection, shards: dict[str, int]) -> dict[str, Any]:
    """The rows of devices' states, without what is settled; `shards` has each device's shard."""
    rows = await connection.fetch(
        """SELECT s.device_id, s.status, s.telemetries, s.times, s.state_at, s.floor_at, s.offline, s.settled_at
             FROM unnest($1::smallint[], $2::uuid[]) AS wanted (shard, device_id)
             JOIN device_state s ON s.shard = wanted.shard AND s.device_id = wanted.device_id
            WHERE s.shard = ANY($3::smallint[])""",
        list(shards.values()),
        list(shards),
        list(set(shards.values())),
    )
    return {str(row["device_id"]): row for row in rows}


async def complete(connection: Connection, states: Iterable[StoredState]) -> None:
    """Read what is settled of these, so that they are whole."""
    wanted = {state.device_id: state for state in states}
    if not wanted:
        return
    rows = await connection.fetch(
        """SELECT s.device_id, s.settled, s.settled_times, s.settled_at
             FROM unnest($1::smallint[], $2::uuid[]) AS wanted (shard, device_id)
             JOIN device_state s ON s.shard = wanted.shard AND s.device_id = wanted.device_id
            WHERE s.shard = ANY($3::smallint[])""",
        [state.shard for state in wanted.values()],
        list(wanted),
        list({state.shard for state in wanted.values()}),
    )
    for row in rows:
        wanted[str(row["device_id"])].complete(row)


async def write(connection: Connection, states: Collection[StoredState], stored_at: datetime) -> None:
    """Write them, with the places of messages stored at this time.

    By way of a temporary table: COPY takes a row in a third of the time that arrays of parameters need.
    """
    await complete(connection, [state for state in states if state.is_swollen()])
    await connection.execute(_TABLE)
    await connection.copy_records_to_table("flushed_states", records=[state.row() for state in states])
    await connection.execute(
        """
        INSERT INTO device_state AS s
               (shard, device_id, status, telemetries, times, state_at, floor_at, last_seen_at, check_at,
                offline, message_seq, message_stored_at)
        SELECT shard, device_id, status, telemetries, times, state_at, floor_at, last_seen_at, check_at, false,
               message_seq, CASE WHEN message_seq IS NOT NULL THEN $1::timestamptz END
          FROM flushed_states ORDER BY shard, device_id
        ON CONFLICT (shard, device_id) DO UPDATE SET
               status = excluded.status, telemetries = excluded.telemetries, times = excluded.times,
               state_at = excluded.state_at, floor_at = excluded.floor_at, offline = false,
               last_seen_at = greatest(s.last_seen_at, excluded.last_seen_at),
               check_at = CASE
                   WHEN s.offline
                     OR s.check_at < excluded.last_seen_at + (excluded.check_at - excluded.last_seen_at) / 5
                   THEN excluded.check_at ELSE s.check_at END,
               message_seq = coalesce(excluded.message_seq, s.message_seq),
               message_stored_at = coalesce(excluded.message_stored_at, s.message_stored_at)
        """,
        stored_at,
    )
    if settled := [(state.shard, state.device_id, *state.settled) for state in states if state.settled is not None]:
        await connection.executemany(
            """UPDATE device_state SET settled = $3, settled_times = $4, settled_at = $5
                WHERE shard = $1 AND device_id = $2""",
            settled,
        )
