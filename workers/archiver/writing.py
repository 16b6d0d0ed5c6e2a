"""The rows of a shard's day, in order, are written to files on this machine: one or some for each project.

Held at a time is a group of rows.
"""

import hashlib
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import pyarrow as pa
import pyarrow.compute as pc

from schemas.archive import layout
from workers.archiver.sums import Sums

GROUP_BYTES_MAX = 32 * 1024 * 1024
"""Events can be 64 KiB long: a group of such has fewer rows."""
STEP = 1_024
"""Rows after which it is looked how large a group has become."""

DEVICES_NAMED = 16
"""Files of so few devices are listed with their ids: most of a shard's files are of small projects."""


class LocalFile:
    """A file of one project that is being written on this machine."""

    def __init__(self, project_id: UUID | None, path: Path) -> None:
        self.project_id = project_id
        self.path = path
        self.first_at = datetime.max.replace(tzinfo=UTC)
        self.last_at = datetime.min.replace(tzinfo=UTC)
        self.device_ids: list[UUID] | None = []
        self.sums = Sums()
        self.groups = 0
        self.first_device, self.last_device = UUID(int=2**128 - 1), UUID(int=0)
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
        devices = pc.min_max(whole["device_id"]).as_py()
        self.first_device = min(self.first_device, UUID(devices["min"]))
        self.last_device = max(self.last_device, UUID(devices["max"]))
        self.sums.add(whole)
        self._digest.update(layout.digest(whole))
        if self.device_ids is not None:
            found = dict.fromkeys([*self.device_ids, *map(UUID, pc.unique(whole["device_id"]).to_pylist())])
            self.device_ids = list(found) if len(found) <= DEVICES_NAMED else None
        self._writer.write_table(whole, row_group_size=len(whole))
        self.groups += 1

    def close(self) -> None:
        """Write the footer."""
        self._writer.close()


class LocalFiles:
    """The files of a shard's day, one after another, in a folder of their own."""

    def __init__(self, folder: Path, rest: Callable[[], Awaitable[None]]) -> None:
        self.files: list[LocalFile] = []
        self._folder = folder
        self._rest = rest
        self._waiting: list[pa.Table] = []
        self._rows = self._bytes = 0

    def __repr__(self) -> str:
        return f"<LocalFiles {len(self.files)}>"

    async def take(self, table: pa.Table) -> None:
        """Rows of any projects, in the order of the files."""
        begin = 0
        runs = pc.run_end_encode(table["project_id"].combine_chunks())
        for end, text in zip(runs.run_ends.to_pylist(), runs.values.to_pylist(), strict=True):
            project_id = None if text is None else UUID(text)
            if not self.files or self.files[-1].project_id != project_id:
                await self.end()
                self._begin(project_id)
            for place in range(begin, end, STEP):
                self._waiting.append(table.slice(place, min(STEP, end - place)))
                self._rows += len(self._waiting[-1])
                self._bytes += self._waiting[-1].nbytes
                while self._rows >= layout.ROWS_OF_GROUP or self._bytes > GROUP_BYTES_MAX:
                    await self._write()
            begin = end

    async def end(self) -> None:
        """The file of this project is whole, if one was begun."""
        if self.files:
            while self._rows:
                await self._write()
            self.files[-1].close()

    def _begin(self, project_id: UUID | None) -> None:
        self.files.append(LocalFile(project_id, self._folder / f"{len(self.files)}.parquet"))

    async def _write(self) -> None:
        table = pa.concat_tables(self._waiting)
        if self.files[-1].groups >= layout.GROUPS_OF_FILE:
            self.files[-1].close()
            self._begin(self.files[-1].project_id)
        self.files[-1].write(table.slice(0, layout.ROWS_OF_GROUP))
        left = table.slice(layout.ROWS_OF_GROUP)
        self._waiting, self._rows, self._bytes = [left], len(left), left.nbytes
        await self._rest()
