"""What one flush adds to the log: rows, and what must be remembered of them.

`device_reported` holds the newest event of each type and device, by the time it happened: an older one that comes late
leaves it alone. What a device reports, and what a synchronized data connector gets, is read from there.
"""

import logging
from collections.abc import Iterable
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from schemas import logs, mappings
from schemas.mappings import EventMapping, MappingError
from schemas.postgres import Connection
from schemas.typed_events import TYPES

log = logging.getLogger(__name__)

PARSED_MAX = 10_000


class Mappings:
    """Mappings of models, parsed once while they stay the same."""

    def __init__(self) -> None:
        self._parsed: dict[tuple[str, str], EventMapping | None] = {}

    def __repr__(self) -> str:
        return f"<Mappings parsed={len(self._parsed)}>"

    async def of(self, connection: Connection, model_ids: Iterable[UUID]) -> dict[UUID, EventMapping]:
        """The mappings of those of these models that have one."""
        rows = await connection.fetch(
            """SELECT id, device_type, event_mappings::text AS mapping FROM device_models
                WHERE id = ANY($1::uuid[]) AND event_mappings::text <> '{}'""",
            list(model_ids),
        )
        found = {row["id"]: self._parse(row["device_type"], row["mapping"]) for row in rows}
        return {model_id: mapping for model_id, mapping in found.items() if mapping is not None}

    def _parse(self, device_type: str, text: str) -> EventMapping | None:
        key = (device_type, text)
        if key not in self._parsed:
            if len(self._parsed) >= PARSED_MAX:
                self._parsed.clear()
            try:
                self._parsed[key] = mappings.parse(device_type, msgspec.json.decode(text))
            except MappingError as error:
                logs.event(log, logging.ERROR, "mapping_ignored", mapping=text, cause=str(error))
                self._parsed[key] = None
        return self._parsed[key]


class Rows:
    """Rows for the log, in their order: type, device, project, time, data, labels."""

    __slots__ = ("_newest", "rows", "unfit")

    def __init__(self) -> None:
        self.rows: list[tuple[Any, ...]] = []
        self.unfit = 0
        """Mapped values that do not fit their event type."""
        self._newest: dict[tuple[str, str], tuple[datetime, int, msgspec.Raw]] = {}

    def add_typed(
        self,
        event_type: str,
        device_id: str,
        project_id: UUID,
        ts: datetime,
        json: bytes,
        labels: msgspec.Raw | None,
    ) -> None:
        """Add an event that may be the newest of its type; of equally new ones the last counts."""
        data, key = msgspec.Raw(json), (device_id, event_type)
        newest = self._newest.get(key)
        if newest is None or ts >= newest[0]:
            self._newest[key] = (ts, len(self.rows), data)
        self.rows.append((event_type, device_id, project_id, ts, data, labels))

    async def take_outbox(self, connection: Connection, shard: int, events_max: int) -> None:
        """Move what others handed over to the end of the rows."""
        outbox = await connection.fetch(
            """WITH taken AS (
                   DELETE FROM event_outbox WHERE id IN
                       (SELECT id FROM event_outbox WHERE shard = $1 ORDER BY id LIMIT $2)
                   RETURNING id, type, device_id, project_id, ts, data)
               SELECT t.type, t.device_id, t.project_id, t.ts, t.data::text, d.name, d.description, d.labels
                 FROM taken t JOIN devices d ON d.id = t.device_id ORDER BY t.id""",
            shard,
            events_max,
        )
        for row in outbox:
            event_type, device_id, project_id, ts, data = tuple(row)[:5]
            if event_type in TYPES:
                self.add_typed(event_type, str(device_id), project_id, ts, data.encode(), labels_of(row))
            else:
                self.rows.append((event_type, device_id, project_id, ts, msgspec.Raw(data.encode()), labels_of(row)))

    async def write_reported(self, connection: Connection, shard: int, first_seq: int, stored_at: datetime) -> None:
        """Remember the newest typed events, in the transaction that stores the rows from `first_seq` on."""
        if not self._newest:
            return
        keys = sorted(self._newest)
        newest = [self._newest[key] for key in keys]
        await connection.execute(
            """INSERT INTO device_reported AS r (device_id, type, ts, shard, seq, stored_at, data)
               SELECT n.device_id, n.type, n.ts, $1, n.seq, $2, n.data
                 FROM unnest($3::uuid[], $4::text[], $5::timestamptz[], $6::bigint[], $7::json[])
                        AS n (device_id, type, ts, seq, data)
               ON CONFLICT (device_id, type) DO UPDATE SET
                      ts = excluded.ts, seq = excluded.seq, stored_at = excluded.stored_at, data = excluded.data
                WHERE excluded.ts >= r.ts""",
            shard,
            stored_at,
            [device_id for device_id, _ in keys],
            [event_type for _, event_type in keys],
            [ts for ts, _, _ in newest],
            [first_seq + place for _, place, _ in newest],
            [data for _, _, data in newest],
        )


def labels_of(row: Any) -> msgspec.Raw | None:
    """The labels of a device, its name and description among them; None when it has none."""
    labels: dict[str, str] = row["labels"]
    if row["name"]:
        labels["name"] = row["name"]
    if row["description"]:
        labels["description"] = row["description"]
    return msgspec.Raw(msgspec.json.encode(labels)) if labels else None
