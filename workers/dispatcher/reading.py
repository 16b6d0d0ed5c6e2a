"""Reading events for connectors: from the end of the log, from a place far behind, or one by one when they are due.

Events lie by shard, and what is read with them (connectors' queues, models of devices) does not: each is read by a
statement of its own. A statement on events names the shards it goes to; which ones go together is the caller's choice.
"""

import logging
from collections.abc import Collection, Iterable, Sequence
from datetime import datetime, timedelta
from operator import itemgetter
from typing import Any, NamedTuple

from schemas import logs
from schemas import placement as placements
from schemas.archive.listing import DamagedError
from schemas.blobs.store import BlobsAway, NoBlobError
from schemas.device_models import DeviceModels
from schemas.placement import AWAY_S, Placement
from schemas.postgres import Connection, Executor
from workers.dispatcher.body import Event
from workers.dispatcher.delivery import Delivery
from workers.dispatcher.moved import MovedEvents
from workers.dispatcher.retry import CAP_S

log = logging.getLogger(__name__)

_EVENT = "e.shard, e.seq, e.stored_at, e.type, e.device_id, e.project_id, e.ts, e.data::text, e.labels::text"
PROJECTS_AT_ONCE = 100
"""So many projects are named to Postgres without looking first which of them have events."""
FILES_AWAY_S = 30.0
"""What lies in files that cannot be read is looked for again after so long."""
_CLOCK_JUMPED_S = CAP_S + 300
"""A row that is to wait longer than any does was written before the clock jumped back: it is due."""


async def by_index(connection: Connection) -> None:
    """Prepare a connection for reading: few rows, each by index, whatever the statistics say.

    A replay puts a million rows into a queue at once, and until they are analysed the planner takes them for forty and
    sorts them all for every read.
    """
    for node in ("seqscan", "bitmapscan", "hashjoin", "mergejoin"):
        await connection.execute(f"SET enable_{node} = off")


BY_INDEX_ON_NODES = "SET LOCAL enable_seqscan = off"
"""What matters of it where a window of the log is read on a node."""


class Span(NamedTuple):
    """A part of one shard's log: from `low` up to and not with `high`, stored since `since`."""

    shard: int
    low: int
    high: int
    since: datetime


class Due(NamedTuple):
    """A row of `waiting_deliveries`. `delivery` is None when it is not due, at `next_at` it will be."""

    connector_id: str
    next_at: float
    delivery: Delivery | None


class EventLog:
    """Reads events, each with what its body tells of its device."""

    def __init__(self, moved: MovedEvents | None = None, *, distributed: bool = False) -> None:
        self._models = DeviceModels()
        self._distributed = distributed
        self._moved = moved or MovedEvents(None)

    def __repr__(self) -> str:
        return f"<EventLog {self._models!r}>"

    async def read_tail(self, executor: Executor, spans: Sequence[Span], projects: Collection[Any]) -> list[Event]:
        """The events of these projects, in order in each shard.

        Of many projects those are asked for that have events there: what this costs follows the events.
        """
        if len(projects) > PROJECTS_AT_ONCE:
            found = await executor.fetch(
                """SELECT DISTINCT e.project_id
                     FROM unnest($1::smallint[], $2::bigint[], $3::bigint[], $4::timestamptz[])
                            AS s (shard, low, high, since)
                    CROSS JOIN LATERAL (
                          SELECT project_id FROM events WHERE shard = s.shard AND shard = ANY($1) AND seq >= s.low
                             AND seq < s.high AND stored_at >= s.since AND project_id IS NOT NULL) e""",
                *_columns(spans),
            )
            projects = [row["project_id"] for row in found if row["project_id"] in projects]
            if not projects:
                return []
        rows = await executor.fetch(
            f"""SELECT {_EVENT}
                  FROM unnest($1::smallint[], $2::bigint[], $3::bigint[], $4::timestamptz[])
                         AS s (shard, low, high, since)
                 CROSS JOIN LATERAL (
                       SELECT * FROM events WHERE shard = s.shard AND shard = ANY($1) AND seq >= s.low AND seq < s.high
                          AND stored_at >= s.since AND project_id = ANY($5) ORDER BY seq) e""",
            *_columns(spans),
            list(projects),
        )
        return await self._events(executor, rows)

    async def read_window(self, executor: Executor, project: Any, spans: Sequence[Span], limit: int) -> list[Event]:
        """The next events of one project, at most `limit` of each shard, in order in each shard."""
        if not self._distributed:
            return await self._events(executor, await self._window(executor, project, spans, limit))
        # What a session was told does not reach the nodes: there the statistics of an empty partition, a coming day's,
        # would have all that is left of the log sorted for each window.
        async with placements.on_nodes(executor, BY_INDEX_ON_NODES) as connection:
            rows = await self._window(connection, project, spans, limit)
        return await self._events(executor, rows)

    async def _window(self, executor: Executor, project: Any, spans: Sequence[Span], limit: int) -> list[Any]:
        rows: list[Any] = await executor.fetch(
            f"""SELECT {_EVENT}
                  FROM unnest($1::smallint[], $2::bigint[], $3::bigint[], $4::timestamptz[])
                         AS s (shard, low, high, since)
                 CROSS JOIN LATERAL (
                       SELECT * FROM events WHERE project_id = $5 AND shard = s.shard AND shard = ANY($1)
                          AND seq >= s.low AND seq < s.high AND stored_at >= s.since
                        ORDER BY project_id, shard, seq LIMIT $6) e""",
            *_columns(spans),
            project,
            limit,
        )
        return rows

    async def count(
        self, executor: Executor, project: Any, spans: Sequence[Span], limit: int, types: Sequence[str]
    ) -> dict[int, tuple[int, int | None]]:
        """Of each shard with events, how many of the next `limit` are of these types (none are all), and the number of
        the last that was looked at; None when it was the last of the span.
        """
        rows = await executor.fetch(
            """SELECT s.shard, count(*) FILTER (WHERE $7::text[] = '{}' OR e.type = ANY($7)) AS events,
                      CASE WHEN count(*) = $6 THEN max(e.seq) END AS last
                 FROM unnest($1::smallint[], $2::bigint[], $3::bigint[], $4::timestamptz[])
                        AS s (shard, low, high, since)
                CROSS JOIN LATERAL (
                      SELECT seq, type FROM events WHERE project_id = $5 AND shard = s.shard AND shard = ANY($1)
                         AND seq >= s.low AND seq < s.high AND stored_at >= s.since
                       ORDER BY project_id, shard, seq LIMIT $6) e
                GROUP BY s.shard""",
            *_columns(spans),
            project,
            limit,
            types,
        )
        return {row["shard"]: (row["events"], row["last"]) for row in rows}

    async def _events(self, executor: Executor, rows: Iterable[Any]) -> list[Event]:
        ordered = sorted(rows, key=_place)
        if not ordered:
            return []
        models = await self._models.of(executor, {row["device_id"] for row in ordered})
        return [Event(*row, *models.get(row["device_id"], (None, None))) for row in ordered]

    async def read_due(
        self,
        executor: Executor,
        connector_ids: Sequence[str],
        loaded: Sequence[int],
        now: datetime,
        limit: int,
        placement: Placement,
    ) -> list[Due]:
        """The first rows of each connector in the order of their times, but those that are `loaded`.

        None of a connector that was disabled and enabled again until what it owed before has been dropped (a job).
        A synchronized event that the log has dropped is read from `device_reported`, with the labels of today. Rows
        whose event lies on a node that is away wait for it.
        """
        rows = await executor.fetch(
            """SELECT w.id, w.connector_id, w.cause, w.attempts, w.owed_since, w.next_at, w.due, w.body::text AS body,
                      w.shard, w.seq, w.stored_at, w.device_id
                 FROM unnest($1::text[]) AS c (id)
                CROSS JOIN LATERAL (
                      SELECT *, next_at <= $2 OR next_at > $2 + make_interval(secs => $5) AS due
                        FROM waiting_deliveries
                       WHERE connector_id = c.id AND id <> ALL ($3) AND (seq = 0 OR shard <> ALL ($6::smallint[]))
                       ORDER BY connector_id, next_at LIMIT $4) w
                WHERE NOT EXISTS (SELECT FROM connector_jobs
                                   WHERE connector_id = c.id AND state = 'RUNNING' AND waiting_id > 0)
                ORDER BY w.connector_id, w.next_at""",
            connector_ids,
            now,
            loaded,
            limit,
            _CLOCK_JUMPED_S,
            placement.away(),
        )
        wanted = [row for row in rows if row["due"] and row["seq"]]
        read = await placement.read(
            {row["shard"] for row in wanted},
            lambda shards: self._stored(executor, [row for row in wanted if row["shard"] in shards]),
        )
        found = {(event.shard, event.seq): event for stored in read.results for event in stored.events}
        unread = {place for stored in read.results for place in stored.unread}
        again, later = now + timedelta(seconds=AWAY_S), now + timedelta(seconds=FILES_AWAY_S)
        return [
            Due(row["connector_id"], again.timestamp(), None)
            if row["seq"] and row["shard"] not in read.shards
            else Due(row["connector_id"], later.timestamp(), None)
            if row["seq"] and _place(row) in unread
            else _due(row, found.get(_place(row)))
            for row in rows
        ]

    async def _stored(self, executor: Executor, places: Sequence[Any]) -> "_Stored":
        """The events at these places, as the log has them, in either tier, or what devices reported last."""
        events = await self._at(executor, places)
        missing = _missing(places, events)
        try:
            events += await self._in_files(executor, missing)
        except (BlobsAway, NoBlobError, DamagedError) as error:
            logs.event(log, logging.WARNING, "events_deferred", events=len(missing), cause=repr(error))
            return _Stored(events, set(map(_place, missing)))
        return _Stored(events + await self._reported(executor, _missing(places, events)), set())

    async def _at(self, executor: Executor, places: Sequence[Any]) -> list[Event]:
        """The events at these places, as far as the log still has them."""
        if not places:
            return []
        rows = await executor.fetch(
            f"""SELECT {_EVENT}
                  FROM unnest($1::smallint[], $2::bigint[], $3::timestamptz[]) AS p (shard, seq, stored_at)
                 CROSS JOIN LATERAL (
                       SELECT * FROM events WHERE shard = p.shard AND shard = ANY($1) AND seq = p.seq
                          AND stored_at = p.stored_at) e""",
            [row["shard"] for row in places],
            [row["seq"] for row in places],
            [row["stored_at"] for row in places],
        )
        return await self._events(executor, rows)

    async def _in_files(self, executor: Executor, places: Sequence[Any]) -> list[Event]:
        """The events at these places, as far as files of moved days have them."""
        rows = await self._moved.at(executor, places) if places else []
        models = await self._models.of(executor, {row["device_id"] for row in rows}) if rows else {}
        none = (None, None)
        return [
            Event(
                **row,
                device_type=models.get(row["device_id"], none)[0],
                product_number=models.get(row["device_id"], none)[1],
            )
            for row in rows
        ]

    async def _reported(self, executor: Executor, places: Sequence[Any]) -> list[Event]:
        """The events at these places, as far as they are still the newest of their type and device."""
        if not places:
            return []
        rows = await executor.fetch(
            """SELECT r.shard, r.seq, r.stored_at, r.type, r.device_id, r.ts, r.data::text AS data
                 FROM unnest($1::smallint[], $2::uuid[], $3::bigint[]) AS p (shard, device_id, seq)
                 JOIN device_reported r ON r.shard = p.shard AND r.device_id = p.device_id AND r.seq = p.seq
                WHERE r.shard = ANY($1)""",
            [row["shard"] for row in places],
            [row["device_id"] for row in places],
            [row["seq"] for row in places],
        )
        devices = {
            row["id"]: row
            for row in await executor.fetch(
                "SELECT id, project_id, labels::text AS labels FROM devices WHERE id = ANY($1::uuid[])",
                list({row["device_id"] for row in rows}),
            )
        }
        models = await self._models.of(executor, list(devices))
        return [
            Event(
                **row,
                project_id=devices[row["device_id"]]["project_id"],
                labels=devices[row["device_id"]]["labels"],
                device_type=models[row["device_id"]].device_type,
                product_number=models[row["device_id"]].product_number,
            )
            for row in rows
        ]


_place = itemgetter("shard", "seq")


class _Stored(NamedTuple):
    """Events that were found, and places that lie in files which cannot be read at the moment."""

    events: list[Event]
    unread: set[tuple[int, int]]


def _missing(places: Sequence[Any], events: Sequence[Event]) -> list[Any]:
    """Those of these places, of devices, that are none of these events'."""
    found = {(event.shard, event.seq) for event in events}
    return [row for row in places if row["device_id"] is not None and _place(row) not in found]


def _due(row: Any, event: Event | None) -> Due:
    if not row["due"]:
        return Due(row["connector_id"], row["next_at"].timestamp(), None)
    delivery = Delivery(event, row["owed_since"].timestamp())
    delivery.waiting_id = row["id"]
    delivery.attempts = row["attempts"]
    delivery.test = row["cause"] == "test"
    if row["body"] is not None:
        delivery.body = row["body"].encode()
    return Due(row["connector_id"], row["next_at"].timestamp(), delivery)


def _columns(spans: Sequence[Span]) -> list[list[Any]]:
    """Spans as the arrays that unnest takes."""
    return [list(column) for column in zip(*spans, strict=True)] if spans else [[], [], [], []]
