"""What a file of the archive holds, and where it lies: a contract with whoever reads the files with tools of their own.

    history/project=0198c0de-…/day=2026-01-31/shard-07-5f0c….parquet

Rows are in the order of device, time and sequence number. Every file has the same columns, so a tool that takes the
schema from the first file reads all of them; hence values of telemetry, whose keys differ from device to device, are
maps: `numbers` (truth is 1 and 0) and `texts`. `data` is the event's JSON to the letter, so nothing is lost. Project
and day are in the path, as tools expect of what files are partitioned by; the project is `none` for events from before
a device was claimed.
"""

import hashlib
import io
from collections.abc import Iterator
from datetime import date
from typing import Any
from uuid import UUID

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq
from msgspec import Struct

from schemas import ids
from schemas.blobs.store import HISTORY
from schemas.events import EventType

NO_PROJECT = "none"
"""Not what paths call null: pandas cannot read that beside others."""
ROWS_OF_GROUP = 8_192
"""A page of one device reads one group or two; of each the footer tells least and greatest device and time."""

_TIME = pa.timestamp("us", tz="UTC")
SCHEMA = pa.schema(
    [
        pa.field("device_id", pa.string(), nullable=False),
        pa.field("ts", _TIME, nullable=False),
        pa.field("seq", pa.int64(), nullable=False),
        pa.field("shard", pa.int16(), nullable=False),
        pa.field("event_id", pa.string(), nullable=False),
        pa.field("type", pa.string(), nullable=False),
        pa.field("stored_at", _TIME, nullable=False),
        pa.field("status", pa.string()),
        pa.field("numbers", pa.map_(pa.string(), pa.float64())),
        pa.field("texts", pa.map_(pa.string(), pa.string())),
        pa.field("labels", pa.string()),
        pa.field("data", pa.string(), nullable=False),
    ]
)
SORTED_BY = ("device_id", "ts", "seq")
STORED = ("device_id", "ts", "seq", "shard", "type", "stored_at", "labels", "data")
"""What comes from Postgres as it is; the rest is made of it."""

ROWS = """
    SELECT project_id, device_id, (extract(epoch FROM ts) * 1000000)::bigint, seq, shard, type,
           (extract(epoch FROM stored_at) * 1000000)::bigint, labels::text, data::text
      FROM events WHERE shard = $1 AND stored_at >= $2 AND stored_at < $3
     ORDER BY project_id, device_id, events.ts, seq
"""
"""The rows of a shard's day, to be copied out as CSV: `parsed` makes a table of them."""
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


class _Message(Struct, frozen=True):
    status: str | None = None
    telemetries: dict[str, Any] = {}


class _Event(Struct, frozen=True):
    telemetry: _Message = _Message()


_decode = msgspec.json.Decoder(_Event).decode


def folder_of(project_id: UUID | None, day: date) -> str:
    """Where the files of a project's day lie."""
    return f"{HISTORY}project={project_id or NO_PROJECT}/day={day}/"


def name_of(project_id: UUID | None, day: date, shard: int, token: str) -> str:
    """The name of a file that nobody has written yet."""
    return f"{folder_of(project_id, day)}shard-{shard:02}-{token}.parquet"


def parsed(copied: bytes) -> Iterator[tuple[UUID | None, pa.Table]]:
    """Whole rows of CSV as tables, each of one project."""
    table = pyarrow.csv.read_csv(
        pa.BufferReader(copied),
        pyarrow.csv.ReadOptions(use_threads=False, block_size=len(copied) + 1, column_names=list(_COPIED)),
        pyarrow.csv.ParseOptions(newlines_in_values=True),
        pyarrow.csv.ConvertOptions(
            column_types=_COPIED, strings_can_be_null=True, quoted_strings_can_be_null=False, null_values=[""]
        ),
    )
    begin = 0
    runs = pc.run_end_encode(table["project_id"].combine_chunks())
    for end, project_id in zip(runs.run_ends.to_pylist(), runs.values.to_pylist(), strict=True):
        yield None if project_id is None else UUID(project_id), table.slice(begin, end - begin)
        begin = end


def completed(table: pa.Table) -> pa.Table:
    """The rows with all columns of a file."""
    data, types = table["data"].to_pylist(), table["type"].to_pylist()
    statuses: list[str | None] = []
    numbers: list[list[tuple[str, float]] | None] = []
    texts: list[list[tuple[str, str]] | None] = []
    for text, kind in zip(data, types, strict=True):
        if kind != EventType.TELEMETRY:
            statuses.append(None)
            numbers.append(None)
            texts.append(None)
            continue
        told = _decode(text).telemetry
        statuses.append(told.status)
        numbers.append(list(_numbers(told.telemetries)))
        texts.append([(key, value) for key, value in told.telemetries.items() if isinstance(value, str)])
    places = zip(table["stored_at"].to_pylist(), table["shard"].to_pylist(), table["seq"].to_pylist(), strict=True)
    made = {
        "event_id": [ids.event_id(stored_us // 1_000_000, shard, seq) for stored_us, shard, seq in places],
        "status": statuses,
        "numbers": numbers,
        "texts": texts,
    }
    columns = [
        pa.array(made[field.name], field.type)
        if field.name in made
        else table[field.name].cast(field.type).combine_chunks()
        for field in SCHEMA
    ]
    return pa.Table.from_arrays(columns, schema=SCHEMA)


def _numbers(values: dict[str, Any]) -> Iterator[tuple[str, float]]:
    for key, value in values.items():
        if isinstance(value, (int, float)):
            try:
                yield key, float(value)
            except OverflowError:  # an integer that no float holds; `data` has it
                continue


def as_copied(table: pa.Table) -> pa.Table:
    """Rows that were read from a file, as they came from Postgres once."""
    for name in ("ts", "stored_at"):
        table = table.set_column(table.schema.get_field_index(name), name, table[name].cast(pa.int64()))
    return table


def writer(path: str) -> pq.ParquetWriter:
    """Writes a file. Statistics only where they help to skip groups: those of long texts are long themselves."""
    return pq.ParquetWriter(
        path,
        SCHEMA,
        compression="zstd",
        use_dictionary=["device_id", "type", "status", "labels", *_PARTS],
        column_encoding={
            **dict.fromkeys(("ts", "seq", "shard", "stored_at"), "DELTA_BINARY_PACKED"),
            "event_id": "DELTA_BYTE_ARRAY",
        },
        write_statistics=["device_id", "ts", "seq", "type", "stored_at", "status"],
        sorting_columns=[pq.SortingColumn(SCHEMA.get_field_index(name)) for name in SORTED_BY],
    )


_PARTS = [f"{name}.key_value.{part}" for name in ("numbers", "texts") for part in ("key", "value")]


def digest(table: pa.Table) -> bytes:
    """A checksum of what came from Postgres, whatever the table lies in memory like."""
    text = io.BytesIO()
    pyarrow.csv.write_csv(table.select(STORED), text)
    return hashlib.blake2b(text.getbuffer(), digest_size=16).digest()
