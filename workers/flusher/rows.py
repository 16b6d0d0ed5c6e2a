"""What one flush adds to the log: rows, and what must be remembered of them.

`device_reported` holds the newest event of each device and remembered type, by the time it happened: an older one that
comes late leaves it alone. What a device reports, and what a synchronized data connector gets, is read from there.
"""

from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime
from functools import cache
from struct import Struct
from typing import Any
from uuid import UUID

import msgspec

from schemas.events import REMEMBERED
from schemas.postgres import Connection
from workers.flusher.copying import NULL, Moments, copy, value

COLUMNS = ("shard", "seq", "stored_at", "type", "device_id", "project_id", "ts", "data", "labels")
_PLACE = Struct(">hihiqiq")
"""How many columns there are; shard, seq and stored_at, each behind its length."""
_TIME = Struct(">iqi")
"""ts behind its length, and the length of the data."""
_OWNED = Struct(">i16si16s")
"""A device and its project, each behind its length."""


class Subject:
    """The device of an event as the log's rows name it, packed once for all of its events."""

    __slots__ = ("device_id", "labels", "owned", "shard")

    def __init__(self, shard: int, device_id: UUID, project_id: UUID | None, row: Any) -> None:
        """`row` has the name, the description and the labels of the device."""
        self.shard = shard
        self.device_id = device_id
        if project_id is None:
            self.owned = value(device_id.bytes) + NULL
        else:
            self.owned = _OWNED.pack(16, device_id.bytes, 16, project_id.bytes)
        """The columns of the device and its project."""
        self.labels = NULL
        labels: dict[str, str] = row["labels"] or {}
        if row["name"]:
            labels["name"] = row["name"]
        if row["description"]:
            labels["description"] = row["description"]
        if labels:
            self.labels = value(msgspec.json.encode(labels))

    def __repr__(self) -> str:
        return f"<Subject {self.device_id}>"


class Rows:
    """The rows that one transaction adds to the log, each with the next number of its shard."""

    __slots__ = ("_newest", "_next", "_stored", "left_out", "moments", "packed", "stored_at", "unfit", "unknown")

    def __init__(self, next_seq: dict[int, int], stored_at: datetime) -> None:
        self.packed: list[bytes] = []
        """For COPY, in the order of `COLUMNS`."""
        self.moments = Moments()
        self.unfit = 0
        """Mapped values that do not fit their event type."""
        self.unknown: dict[int, set[str]] = defaultdict(set)
        """Devices of which there is no row, by shard."""
        self.left_out = 0
        """Values for which their state had no room."""
        self._next = next_seq
        self.stored_at = stored_at
        self._stored = self.moments[stored_at]
        self._newest: dict[tuple[int, UUID, str], tuple[datetime, int, msgspec.Raw]] = {}

    def __repr__(self) -> str:
        return f"<Rows {len(self.packed)}>"

    def add(self, subject: Subject, event_type: str, ts: datetime, data: bytes) -> int:
        """Add an event; returns its number."""
        shard = subject.shard
        seq = self._next[shard]
        self._next[shard] = seq + 1
        place, time = _PLACE.pack(9, 2, shard, 8, seq, 8, self._stored), _TIME.pack(8, self.moments[ts], len(data))
        self.packed.append(b"".join((place, _type(event_type), subject.owned, time, data, subject.labels)))
        return seq

    def add_remembered(
        self, subject: Subject, event_type: str, ts: datetime, data: bytes, *, ordered_at: datetime | None = None
    ) -> None:
        """Add an event that is remembered where it is the newest of its type; of equally new ones the last counts.

        Its own time `ts` decides, or `ordered_at` where the device's clock may be wrong.
        """
        key = (subject.shard, subject.device_id, event_type)
        newest, order = self._newest.get(key), ordered_at or ts
        if newest is None or order >= newest[0]:
            self._newest[key] = (order, self._next[subject.shard], msgspec.Raw(data))
        self.add(subject, event_type, ts, data)

    async def take_outbox(self, connection: Connection, shards: Iterable[int], events_max: int) -> None:
        """Move what others handed over for these shards to the end of the rows, at most so many events.

        The shards take turns, each in its own order, so that a long backlog of one does not hold up the others.
        """
        outbox = await connection.fetch(
            """WITH taken AS (
                   DELETE FROM event_outbox WHERE id IN
                       (SELECT waiting.id
                          FROM unnest($1::smallint[]) AS s (shard)
                         CROSS JOIN LATERAL
                               (SELECT o.id, row_number() OVER (ORDER BY o.id) AS turn
                                  FROM event_outbox o WHERE o.shard = s.shard ORDER BY o.id LIMIT $2) AS waiting
                         ORDER BY waiting.turn LIMIT $2)
                   RETURNING shard, id, type, device_id, project_id, ts, data)
               SELECT t.shard, t.type, t.device_id, t.project_id, t.ts, t.data::text, d.name, d.description,
                      d.labels
                 FROM taken t JOIN devices d ON d.id = t.device_id ORDER BY t.id""",
            list(shards),
            events_max,
        )
        for row in outbox:
            shard, event_type, device_id, project_id, ts, data = tuple(row)[:6]
            add = self.add_remembered if event_type in REMEMBERED else self.add
            add(Subject(shard, device_id, project_id, row), event_type, ts, data.encode())

    async def write(self, connection: Connection) -> None:
        """Store the rows, and remember the newest of each type."""
        if not self.packed:
            return
        await copy(connection, "events", COLUMNS, self.packed)
        if not self._newest:
            return
        keys = sorted(self._newest)
        newest = [self._newest[key] for key in keys]
        await connection.execute(
            """INSERT INTO device_reported AS r (shard, device_id, type, ts, seq, stored_at, data)
               SELECT n.shard, n.device_id, n.type, n.ts, n.seq, $1, n.data
                 FROM unnest($2::smallint[], $3::uuid[], $4::text[], $5::timestamptz[], $6::bigint[], $7::json[])
                        AS n (shard, device_id, type, ts, seq, data)
               ON CONFLICT (shard, device_id, type) DO UPDATE SET
                      ts = excluded.ts, seq = excluded.seq, stored_at = excluded.stored_at, data = excluded.data
                WHERE excluded.ts >= r.ts""",
            self.stored_at,
            [shard for shard, _, _ in keys],
            [device_id for _, device_id, _ in keys],
            [event_type for _, _, event_type in keys],
            [ts for ts, _, _ in newest],
            [seq for _, seq, _ in newest],
            [data for _, _, data in newest],
        )


@cache
def _type(event_type: str) -> bytes:
    return value(event_type.encode())
