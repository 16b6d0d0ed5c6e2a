"""How much of the log one page looks at: so many events at most, whatever is asked for.

What a list shows of the log is a part of what an index gives: messages of one status, of devices with a name, events of
some types. Where that part is small, or none, a page that reads until it is full would read the whole log. So a page
looks at no more than `EXAMINED_MAX` events and shows what is among them; where that is less than a page, it says up to
where it looked, and the next page goes on from there. Whoever reads all pages sees all that is asked for.

    newest ┌────────────────────────────────────────────┐ oldest
           │· · ● · · ● · · · ·│· · · · · · · · ● · · · ·│       ● asked for
           └───────────────────┴────────────────────────┘
            page 1: 2 items     page 2: 1 item, though it may hold 50

Days that were moved are read from files beside it (`archived`): one more source, of which only what fits is found.

Several sources, such as the projects of an organization, are read each by its own index, as many events of each as
their number allows. What they have in common is complete only down to the place where the first of them broke off.

A page looks in pieces by statements that are soon over, and lets others go first before each of them.
"""

import heapq
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Generic, Literal, NamedTuple, TypeVar
from uuid import UUID

from msgspec import Struct

from gateway.giving_way import let_others_go_first
from gateway.stores.events.by_index import STORED_SLACK, Filling
from gateway.stores.events.tiers import MovedFiles, Position, Tiers, Wanted
from schemas import placement
from schemas.postgres import Connection
from schemas.postgres_errors import Record

if TYPE_CHECKING:
    from schemas.archive.files import Files

T = TypeVar("T")

EXAMINED_MAX = 10_000
"""Events that a page looks at; some 10 ms of Postgres."""
PIECES = 10
"""In which it looks at them."""

FOUND_MAX = 10_000
"""Events that are found in files at once."""
READ_AT_ONCE = 100
"""Of them, before it is looked whether the page is full."""
Meeting = Callable[[list[UUID]], Awaitable[list[UUID]]]
_MICROSECOND = timedelta(microseconds=1)

# Most messages are told apart by their text, at a tenth of the cost: the status stands in it, unless a device wrote its
# letters as escapes. Strings stored by earlier versions may hold \u0000, which PostgreSQL keeps in a json column and
# cannot take apart.
_STATUS = r"""CASE WHEN strpos(examined.data::text, {0}) > 0 OR strpos(examined.data::text, '\u00') > 0
    THEN replace(examined.data::text, '\u0000', '\ufffd')::json -> 'telemetry' ->> 'status' = {0} ELSE false END"""

_POSITION = "(e.ts, e.shard, e.seq)"
_EVENTS = """SELECT {columns} FROM events e
              WHERE e.{column} = source.id AND e.shard = ANY($2::smallint[])
                AND e.ts >= $3 AND e.ts < $4 AND e.stored_at >= $5{bounds}
              ORDER BY e.ts DESC, e.shard DESC, e.seq DESC"""
_LAST = """SELECT last.ts, last.shard, last.seq FROM {source} AS source (id) CROSS JOIN LATERAL (
               {events} OFFSET $6::bigint - 1 LIMIT 1) last
            ORDER BY last.ts DESC, last.shard DESC, last.seq DESC LIMIT 1"""
_DEVICES = """SELECT DISTINCT found.device_id FROM {source} AS source (id) CROSS JOIN LATERAL (
                  {events} LIMIT $6::bigint) found"""
_COUNT = """SELECT count(*) FROM {source} AS source (id) CROSS JOIN LATERAL (
                SELECT 1 FROM ({events} LIMIT $6::bigint) examined WHERE true{conditions}) found"""
# The data are made into text outside of what is sorted: large ones would be unpacked, and written to disk, for that.
_PAGE = """SELECT page.shard, page.seq, page.stored_at, page.type, page.device_id, page.ts, page.data::text FROM (
               SELECT found.* FROM {source} AS source (id) CROSS JOIN LATERAL (
                      SELECT * FROM ({events} LIMIT $6::bigint) examined WHERE true{conditions}
                       ORDER BY ts DESC, shard DESC, seq DESC LIMIT {offset}::bigint + {limit}::bigint) found
                ORDER BY found.ts DESC, found.shard DESC, found.seq DESC OFFSET {offset} LIMIT {limit}) page
            ORDER BY page.ts DESC, page.shard DESC, page.seq DESC"""


class Sources(NamedTuple):
    """Projects or devices whose events are read, and the shards where these may be."""

    column: Literal["project_id", "device_id"]
    ids: Sequence[UUID]
    shards: Sequence[int]


class Range(NamedTuple):
    """The events of `[since, until)` that come behind `before` in the order of the list."""

    since: datetime
    until: datetime
    before: Position | None


class Part(Struct, Generic[T]):
    """What was found; where `up_to` is given, only up to there was looked, and there may be more behind it."""

    rows: list[T]
    up_to: Position | None = None


class Examined:
    """The events that a page looks at, and the conditions of those that it shows."""

    def __init__(self, sources: Sources, within: Range) -> None:
        self._shards = sources.shards
        of_devices = list(sources.ids) if sources.column == "device_id" else None
        of_projects = list(sources.ids) if sources.column == "project_id" else None
        self._wanted = Wanted(since=within.since, until=within.until, device_ids=of_devices, project_ids=of_projects)
        self._column = sources.column
        self._ids = list(sources.ids)
        self._alone = len(sources.ids) == 1
        self._apart = False
        examined = max(1, EXAMINED_MAX // max(1, len(sources.ids)))
        piece = -(-examined // PIECES)
        self._pieces = -(-examined // piece)
        since = within.since
        self._arguments: list[Any] = [list(sources.shards), since, within.until, since - STORED_SLACK, piece]
        self._before = within.before
        self._conditions: list[tuple[str, Any]] = []

    def only_projects(self, project_ids: Sequence[UUID]) -> None:
        """Show only events of these projects."""
        self._conditions.append(("array_position({}::uuid[], examined.project_id) IS NOT NULL", list(project_ids)))
        self._wanted.project_ids = list(project_ids)

    def only_types(self, types: Sequence[str]) -> None:
        """Show only events of these types."""
        self._conditions.append(("examined.type = ANY({})", list(types)))
        self._wanted.types = list(types)

    def only_status(self, status: str) -> None:
        """Show only messages with this status."""
        self._conditions.append((_STATUS, status))
        self._wanted.status = status

    async def only_devices(self, connection: Connection, meeting: Meeting) -> None:
        """Show only events of devices that meet a condition: `meeting` tells which of some do."""
        met = await meeting(await self._devices(connection))
        self._conditions.append(("examined.device_id = ANY({}::uuid[])", met))
        self._wanted.meeting = meeting

    async def _devices(self, connection: Connection) -> list[UUID]:
        """The devices of these events, as far as they are in Postgres."""
        found: set[UUID] = set()
        before = self._before
        await self._divide(connection)
        for _ in range(self._pieces):
            found.update(row["device_id"] for row in await self._fetch(connection, _DEVICES, "e.device_id", before))
            before = await self._last(connection, before)
            if before is None:
                break
        return list(found)

    async def read(
        self, tiers: Tiers, connection: Connection, made_of: Callable[[Record], T], *, offset: int = 0, limit: int
    ) -> Part[T]:
        """The newest of those that are shown, behind `offset` of them; in one snapshot, which the connection has."""
        page = Filling(made_of, limit)
        if moved := await self._moved(tiers, connection):
            return await self._read_across(tiers.files, connection, page, moved, offset)
        before = up_to = self._before
        await self._divide(connection)
        for _ in range(self._pieces):
            up_to = None if self._alone and not offset else await self._last(connection, before)
            passed = await self._count(connection, before, up_to) if offset else 0
            if offset and passed <= offset:
                offset -= passed
            else:
                if self._apart:
                    await page.take(await self._merged(connection, before, up_to, offset, page.room))
                else:
                    await page.read(connection, *self._page(before, up_to, offset, page.room))
                offset = 0
                if not page.room:
                    return Part(page.rows)
                if self._alone:
                    up_to = await self._last(connection, before)
            if up_to is None:
                break
            before = up_to
        return Part(page.rows, up_to)

    async def _moved(self, tiers: Tiers, connection: Connection) -> MovedFiles:
        """The files that may hold events of this page."""
        wanted = self._wanted
        until = wanted.until if self._before is None else min(wanted.until, self._before[0] + _MICROSECOND)
        return await tiers.moved(
            connection,
            self._shards,
            wanted.since,
            until,
            project_ids=wanted.project_ids,
            device_ids=wanted.device_ids,
        )

    async def _read_across(
        self, files: "Files", connection: Connection, page: Filling[T], moved: MovedFiles, offset: int
    ) -> Part[T]:
        """The same, with events in files among those in Postgres: each piece is complete in both down to its end."""
        from gateway.stores.events import archived  # what reads files is loaded where some are read

        before = up_to = self._before
        await self._divide(connection)
        for _ in range(self._pieces):
            up_to = await self._last(connection, before)
            found = await archived.find(files, moved, self._wanted, before, up_to, min(offset + page.room, FOUND_MAX))
            if found.ends is not None and (up_to is None or found.ends > up_to):
                up_to = found.ends
            rows = [row for row in found.rows if up_to is None or row.position >= up_to]
            passed = await self._count(connection, before, up_to) + len(rows) if offset else 0
            if offset and passed <= offset:
                offset -= passed
            else:
                stored: Filling[Any] = Filling(lambda row: row, offset + page.room)
                if self._apart:
                    await stored.take(await self._merged(connection, before, up_to, 0, stored.room))
                else:
                    await stored.read(connection, *self._page(before, up_to, 0, stored.room))
                if not stored.room:
                    up_to = _position(stored.rows[-1])
                    rows = [row for row in rows if row.position >= up_to]
                merged = list(heapq.merge(stored.rows, rows, key=_position, reverse=True))[offset:]
                offset = 0
                while page.room and merged:
                    some, merged = merged[:READ_AT_ONCE], merged[READ_AT_ONCE:]
                    shown = iter(await archived.shown(files, [one for one in some if isinstance(one, archived.Row)]))
                    page.fill(next(shown) if isinstance(one, archived.Row) else one for one in some)
                if not page.room:
                    return Part(page.rows)
            if up_to is None:
                break
            before = up_to
        return Part(page.rows, up_to)

    def page(self, offset: int, limit: int) -> tuple[str, list[Any]]:
        """The statement that reads the first piece of a page, and its arguments."""
        return self._page(self._before, None, offset, limit)

    def _page(self, before: Position | None, up_to: Position | None, offset: int, limit: int) -> tuple[str, list[Any]]:
        return self._statement(_PAGE, "e.*", before, up_to, offset=offset, limit=limit)

    async def _count(self, connection: Connection, before: Position | None, up_to: Position | None) -> int:
        """How many of a piece are shown."""
        return sum(row["count"] for row in await self._fetch(connection, _COUNT, "e.*", before, up_to))

    async def _last(self, connection: Connection, before: Position | None) -> Position | None:
        """Where the first of the sources breaks off in a piece; None when all are read to their ends."""
        rows = await self._fetch(connection, _LAST, "e.ts, e.shard, e.seq", before)
        return max((tuple(row) for row in rows), default=None)

    async def _divide(self, connection: Connection) -> None:
        """Where the log is distributed, each of several sources is read by a statement of its own.

        A LIMIT for each of them, inside of one statement, is for one Postgres.
        """
        self._apart = not self._alone and (await placement.find(connection)).distributed

    async def _merged(
        self, connection: Connection, before: Position | None, up_to: Position | None, offset: int, limit: int
    ) -> list[Record]:
        """The rows of a page out of those of each source."""
        rows = await self._fetch(connection, _PAGE, "e.*", before, up_to, offset=0, limit=offset + limit)
        rows.sort(key=lambda row: (row["ts"], row["shard"], row["seq"]), reverse=True)
        return rows[offset : offset + limit]

    async def _fetch(
        self,
        connection: Connection,
        template: str,
        columns: str,
        before: Position | None,
        up_to: Position | None = None,
        **numbers: int,
    ) -> list[Record]:
        """The rows of a statement, or of one for each source."""
        rows: list[Record] = []
        for source in self._ids if self._apart else [None]:
            await let_others_go_first()
            statement, arguments = self._statement(template, columns, before, up_to, source=source, **numbers)
            rows += await connection.fetch(statement, *arguments)
        return rows

    def _statement(
        self,
        template: str,
        columns: str,
        before: Position | None,
        up_to: Position | None = None,
        *,
        source: UUID | None = None,
        **numbers: int,
    ) -> tuple[str, list[Any]]:
        if self._alone:
            source = self._ids[0]
        arguments = [self._ids if source is None else source, *self._arguments]
        bounds = conditions = ""
        for than, position in (("<", before), (">=", up_to)):
            if position is not None:
                arguments += position
                last = len(arguments)
                bounds += f" AND {_POSITION} {than} (${last - 2}, ${last - 1}, ${last})"
        if "{conditions}" in template:
            for condition, value in self._conditions:
                arguments.append(value)
                conditions += f" AND {condition.format(f'${len(arguments)}')}"
        places = {}
        for name, number in numbers.items():
            arguments.append(number)
            places[name] = f"${len(arguments)}"
        # A single source is a constant to PostgreSQL, which then reads in order and stops where a page is full.
        ids = "unnest($1::uuid[])" if source is None else "(VALUES ($1::uuid))"
        events = _EVENTS.format(columns=columns, column=self._column, bounds=bounds)
        return template.format(source=ids, events=events, conditions=conditions, **places), arguments


def _position(row: Any) -> Position:
    """Of a row of Postgres, or one that was found in a file."""
    return (row["ts"], row["shard"], row["seq"]) if isinstance(row, Record) else row.position
