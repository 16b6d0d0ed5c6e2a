"""Rows of a shard's day as they are copied out of Postgres, written to files on this machine: one for each project.

Held at a time is a group of rows; what they add up to is compared with what Postgres counts.
"""

import hashlib
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pyarrow as pa
import pyarrow.compute as pc

from schemas.archive import layout

GROUP_BYTES_MAX = 32 * 1024 * 1024
"""Events can be 64 KiB long: a group of such has fewer rows."""


DEVICES_NAMED = 16
"""Files of so few devices are listed with their ids: most of a shard's files are of small projects."""


class Sums:
    """What rows add up to: their number, and sums over what they hold. Equal for equal rows."""

    __slots__ = ("data_bytes", "first_seq", "label_bytes", "last_seq", "rows", "seqs", "stored_us", "times_us")

    def __init__(self) -> None:
        self.rows = self.seqs = self.times_us = self.stored_us = self.data_bytes = self.label_bytes = 0
        self.first_seq = self.last_seq = 0

    def __repr__(self) -> str:
        return f"<Sums {self.all()}>"

    def all(self) -> tuple[int, ...]:
        """All of them."""
        return tuple(getattr(self, name) for name in Sums.__slots__)

    def add(self, table: pa.Table) -> None:
        """Count rows as a file holds them."""
        seqs = table["seq"].to_pylist()
        self.first_seq = min(self.first_seq, *seqs) if self.rows else min(seqs)
        self.last_seq = max(self.last_seq, *seqs)
        self.rows += len(seqs)
        self.seqs += sum(seqs)
        # In Python, whose integers hold the sum of a million times in µs.
        self.times_us += sum(table["ts"].cast(pa.int64()).to_pylist())
        self.stored_us += sum(table["stored_at"].cast(pa.int64()).to_pylist())
        self.data_bytes += pc.sum(pc.binary_length(table["data"])).as_py() or 0
        self.label_bytes += pc.sum(pc.binary_length(table["labels"])).as_py() or 0


SUMS = """
    SELECT project_id, sum(octet_length(data::text))::bigint AS data_bytes, min(seq) AS first_seq,
           coalesce(sum(octet_length(labels::text)), 0)::bigint AS label_bytes, max(seq) AS last_seq, count(*) AS rows,
           sum(seq)::text AS seqs, sum((extract(epoch FROM stored_at) * 1000000)::bigint)::text AS stored_us,
           sum((extract(epoch FROM ts) * 1000000)::bigint)::text AS times_us
      FROM events WHERE shard = $1 AND stored_at >= $2 AND stored_at < $3 GROUP BY project_id
"""
"""The same, as Postgres counts it."""


class LocalFile:
    """A file of one project that is being written on this machine."""

    def __init__(self, project_id: UUID | None, path: Path) -> None:
        self.project_id = project_id
        self.path = path
        self.first_at = datetime.max.replace(tzinfo=UTC)
        self.last_at = datetime.min.replace(tzinfo=UTC)
        self.device_ids: list[UUID] | None = []
        self._digest = hashlib.blake2b(digest_size=16)
        self._writer = layout.writer(str(path))

    def __repr__(self) -> str:
        return f"<LocalFile {self.path}>"

    @property
    def digest(self) -> str:
        """Of what came from Postgres."""
        return self._digest.hexdigest()

    def write(self, table: pa.Table) -> None:
        """A group of rows."""
        whole = layout.completed(table)
        times = pc.min_max(whole["ts"]).as_py()
        self.first_at, self.last_at = min(self.first_at, times["min"]), max(self.last_at, times["max"])
        self._digest.update(layout.digest(whole))
        if self.device_ids is not None:
            found = dict.fromkeys([*self.device_ids, *map(UUID, pc.unique(whole["device_id"]).to_pylist())])
            self.device_ids = list(found) if len(found) <= DEVICES_NAMED else None
        self._writer.write_table(whole, row_group_size=len(whole))

    def close(self) -> None:
        """Write the footer."""
        self._writer.close()


class LocalFiles:
    """The files of a shard's day, one after another, in a folder of their own."""

    def __init__(self, folder: Path, written: Callable[[], Any]) -> None:
        self.files: list[LocalFile] = []
        self._folder = folder
        self._written = written
        self._waiting: list[pa.Table] = []
        self._rows = self._bytes = 0

    def __repr__(self) -> str:
        return f"<LocalFiles {len(self.files)}>"

    async def take(self, copied: bytes) -> None:
        """Rows as CSV, in the order of the files."""
        for project_id, table in layout.parsed(copied):
            if not self.files or self.files[-1].project_id != project_id:
                await self.end()
                self.files.append(LocalFile(project_id, self._folder / f"{len(self.files)}.parquet"))
            self._waiting.append(table)
            self._rows += len(table)
            self._bytes += table.nbytes
            while self._rows >= layout.ROWS_OF_GROUP or self._bytes > GROUP_BYTES_MAX:
                await self._write()

    async def end(self) -> None:
        """The file of this project is whole, if one was begun."""
        if self.files:
            while self._rows:
                await self._write()
            self.files[-1].close()

    async def _write(self) -> None:
        table = pa.concat_tables(self._waiting)
        self.files[-1].write(table.slice(0, layout.ROWS_OF_GROUP))
        left = table.slice(layout.ROWS_OF_GROUP)
        self._waiting, self._rows, self._bytes = [left], len(left), left.nbytes
        await self._written()
