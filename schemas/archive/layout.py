"""What a file of the archive holds, and where it lies: a contract with whoever reads the files with tools of their own.

    history/project=0198c0de-…/day=2026-01-31/shard-07-5f0c….parquet

Rows are in the order of device, time and sequence number. Every file has the same columns, so a tool that takes the
schema from the first file reads all of them; hence values of telemetry, whose keys differ from device to device, are
maps: `numbers` (truth is 1 and 0) and `texts`. `data` is the event's JSON to the letter, so nothing is lost. Project
and day are in the path, as tools expect of what files are partitioned by; the project is `none` for events from before
a device was claimed.
"""

import hashlib
from datetime import date
from typing import Any
from uuid import UUID

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from msgspec import Struct

from schemas import ids
from schemas.blobs.store import HISTORY
from schemas.events import EventType

NO_PROJECT = "none"
"""Not what paths call null: pandas cannot read that beside others."""
ROWS_OF_GROUP = 8_192
"""A page of one device reads one group or two; of each the footer tells least and greatest device and time."""

GROUPS_OF_FILE = 128
"""A footer grows with the groups, and who wants one of them reads it whole: this one is read in some ms. More rows are
more files, each of some of the devices, and the list of files tells which."""

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


def completed(table: pa.Table) -> pa.Table:
    """The rows with all columns of a file."""
    statuses: list[str | None] = []
    numbers, texts = _Maps(pa.float64()), _Maps(pa.string())
    for text, kind in zip(table["data"].to_pylist(), table["type"].to_pylist(), strict=True):
        if kind != EventType.TELEMETRY:
            statuses.append(None)
            numbers.end(None)
            texts.end(None)
            continue
        begins = len(numbers.keys), len(texts.keys)
        told = _decode(text).telemetry
        statuses.append(told.status)
        for key, value in told.telemetries.items():
            if isinstance(value, str):
                texts.add(key, value)
            elif isinstance(value, (int, float)):
                try:
                    numbers.add(key, float(value))
                except OverflowError:  # an integer that no float holds; `data` has it
                    continue
        numbers.end(begins[0])
        texts.end(begins[1])
    places = zip(table["stored_at"].to_pylist(), table["shard"].to_pylist(), table["seq"].to_pylist(), strict=True)
    made = {
        "event_id": pa.array([ids.event_id(stored_us // 1_000_000, shard, seq) for stored_us, shard, seq in places]),
        "status": pa.array(statuses, pa.string()),
        "numbers": numbers.array(),
        "texts": texts.array(),
    }
    columns = [
        made[field.name] if field.name in made else table[field.name].cast(field.type).combine_chunks()
        for field in SCHEMA
    ]
    return pa.Table.from_arrays(columns, schema=SCHEMA)


class _Maps:
    """A column of maps, put together from all of their keys and values: a tenth of what a list of lists costs."""

    def __init__(self, kind: pa.DataType) -> None:
        self.keys: list[str] = []
        self._values: list[Any] = []
        self._begins: list[int | None] = []
        self._kind = kind

    def add(self, key: str, value: Any) -> None:
        """An entry of the map that is under way."""
        self.keys.append(key)
        self._values.append(value)

    def end(self, began: int | None) -> None:
        """A map has all its entries, the first of which is this one; None for no map at all."""
        self._begins.append(began)

    def array(self) -> pa.Array:
        """The column."""
        begins = pa.array([*self._begins, len(self.keys)], pa.int32())
        return pa.MapArray.from_arrays(begins, pa.array(self.keys, pa.string()), pa.array(self._values, self._kind))


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
    found = hashlib.blake2b(digest_size=16)
    for name in STORED:
        column = table[name].combine_chunks()
        found.update(column.is_valid().cast(pa.uint8()).buffers()[1])
        if pa.types.is_string(column.type):
            filled = pc.fill_null(column, "")
            found.update(pc.binary_length(filled).buffers()[1])
            _, offsets, text = filled.buffers()
            ends = memoryview(offsets).cast("i")
            found.update(memoryview(text)[ends[filled.offset] : ends[filled.offset + len(filled)]])
        else:
            found.update(pc.add(column.cast(pa.int64()), 0).buffers()[1])
    return found.digest()
