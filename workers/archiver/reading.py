"""Reads a shard's day out of Postgres piece by piece, each in a snapshot of its own that is over at once.

    rows behind the last piece ──▶ what they add up to ──▶ the same rows, copied out ──▶ rest ──▶ the next piece

Who rests with a snapshot open keeps Postgres from tidying up behind messages, which change device states all the time.
A day that is over changes no more: what is stored in it after all is behind the pieces, and found when the day moves.
"""

import random
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import date, timedelta
from typing import Any, NamedTuple
from uuid import UUID

import pyarrow as pa
import pyarrow.csv

from schemas.postgres import Connection, Pool
from workers import partitions
from workers.archiver.sums import Sums

PIECE_ROWS = 32_768
PIECE_BYTES_MAX = 32 * 1024 * 1024
"""Events can be 64 KiB long: a piece of such has fewer rows."""
SAMPLE = 4_096
STATEMENT_S = 600.0

# One at a time: other processes of Postgres would work for a piece at the same time, at the cost of telemetry.
_SETTINGS = "SET LOCAL max_parallel_workers_per_gather = 0"
_WITHIN = "shard = $1 AND stored_at >= $2 AND stored_at < $3"
_BOUNDS = f"SELECT min(seq), max(seq) FROM events WHERE {_WITHIN}"
_SAMPLE = f"""
    SELECT project_id::text, device_id::text, (extract(epoch FROM ts) * 1000000)::bigint AS ts,
           octet_length(data::text) AS bytes
      FROM events WHERE {_WITHIN} AND seq = ANY($4::bigint[])
"""
_SUMS = f"""
    SELECT project_id, coalesce(sum(octet_length(data::text)), 0)::bigint AS data_bytes, min(seq) AS first_seq,
           coalesce(sum(octet_length(labels::text)), 0)::bigint AS label_bytes, max(seq) AS last_seq, count(*) AS rows,
           sum(seq)::text AS seqs, sum((extract(epoch FROM stored_at) * 1000000)::bigint)::text AS stored_us,
           sum((extract(epoch FROM ts) * 1000000)::bigint)::text AS times_us
      FROM (SELECT project_id, seq, stored_at, ts, data, labels
              FROM events WHERE {_WITHIN} AND seq > $4 ORDER BY seq LIMIT $5) piece
     GROUP BY project_id
"""
_ROWS = f"""
    SELECT project_id, device_id, (extract(epoch FROM ts) * 1000000)::bigint, seq, shard, type,
           (extract(epoch FROM stored_at) * 1000000)::bigint, labels::text, data::text
      FROM events WHERE {_WITHIN} AND seq > $4 AND seq <= $5
"""
_COPIED = {
    "project_id": pa.string(),
    "device_id": pa.string(),
    "ts": pa.int64(),
    "seq": pa.int64(),
    "shard": pa.int16(),
    "type": pa.string(),
    "stored_at": pa.int64(),
    "labels": pa.string(),
    "data": pa.string(),
}
# Letters that JSON has none of, so hardly anything is quoted: that is a quarter of what reading CSV costs.
_DELIMITER, _QUOTE = "\x02", "\x01"


class Piece(NamedTuple):
    """Some rows of a shard's day, and what Postgres says they add up to, by project."""

    rows: pa.Table
    sums: dict[UUID | None, Sums]


class Sample(NamedTuple):
    """Some rows of a shard's day, taken at random: project, device and time of each; and how large all are, roughly."""

    keys: list[tuple[str | None, str, int]]
    bytes: int


class Day:
    """A shard's day, as it is read."""

    def __init__(self, pool: Pool, day: date, shard: int, rest: Callable[[], Awaitable[None]]) -> None:
        begin = partitions.begin_of(day)
        self._pool = pool
        self._within = shard, begin, begin + timedelta(days=1)
        self._rest = rest

    def __repr__(self) -> str:
        return f"<Day {self._within[1]:%Y-%m-%d} of shard {self._within[0]}>"

    async def sample(self) -> Sample:
        """What its rows are like; nothing of a day that is a piece."""
        async with self._pool.acquire() as connection:
            bounds = await connection.fetch(_BOUNDS, *self._within, timeout=STATEMENT_S)
            first, last = bounds[0]
            if first is None or last - first < PIECE_ROWS:
                return Sample([], 0)
            seqs = random.sample(range(first, last + 1), SAMPLE)
            rows = await connection.fetch(_SAMPLE, *self._within, seqs, timeout=STATEMENT_S)
        total = sum(row["bytes"] for row in rows) * (last - first + 1) // SAMPLE
        return Sample([(row["project_id"], row["device_id"], row["ts"]) for row in rows], total)

    async def pieces(self) -> AsyncIterator[Piece]:
        """All rows, in the order in which they were stored."""
        behind, rows = -1, PIECE_ROWS
        while True:
            async with (
                self._pool.acquire() as connection,
                connection.transaction(isolation="repeatable_read", readonly=True),
            ):
                await connection.execute(_SETTINGS)
                sums, rows = await self._sums(connection, behind, rows)
                if not sums:
                    return
                last = max(of_project.last_seq for of_project in sums.values())
                copied = bytearray()

                async def take(some: bytes, copied: bytearray = copied) -> None:
                    copied.extend(some)

                await connection.copy_from_query(
                    _ROWS,
                    *self._within,
                    behind,
                    last,
                    output=take,
                    format="csv",
                    delimiter=_DELIMITER,
                    quote=_QUOTE,
                    encoding="utf8",
                    timeout=STATEMENT_S,
                )
            yield Piece(_parsed(copied), sums)
            behind = last
            await self._rest()

    async def _sums(self, connection: Connection, behind: int, rows: int) -> tuple[dict[UUID | None, Sums], int]:
        """Of the rows behind this one, as many as are no more than a piece; and how many to ask for next."""
        while True:
            counted = await connection.fetch(_SUMS, *self._within, behind, rows, timeout=STATEMENT_S)
            sums = {row["project_id"]: _of(row) for row in counted}
            size = sum(one.data_bytes + one.label_bytes for one in sums.values())
            if size <= PIECE_BYTES_MAX or rows == 1:
                return sums, min(PIECE_ROWS, 2 * rows)
            rows = max(1, rows * PIECE_BYTES_MAX // (2 * size))


def _of(row: Any) -> Sums:
    sums = Sums()
    for name in Sums.__slots__:
        setattr(sums, name, int(row[name]))
    return sums


def _parsed(copied: bytearray) -> pa.Table:
    return pyarrow.csv.read_csv(
        pa.BufferReader(copied),
        pyarrow.csv.ReadOptions(use_threads=False, block_size=len(copied) + 1, column_names=list(_COPIED)),
        pyarrow.csv.ParseOptions(delimiter=_DELIMITER, quote_char=_QUOTE, newlines_in_values=True),
        pyarrow.csv.ConvertOptions(
            column_types=_COPIED, strings_can_be_null=True, quoted_strings_can_be_null=False, null_values=[""]
        ),
    )
