"""Erases the history of a device or a project on request, wherever its days lie (`fleetgate admin history erase`).

    hot day            rows deleted
    archived day       rows deleted, and the shard's day is archived anew without them
    moved day          a project's files are deleted; one of several devices is written anew without the device,
                       compared, and takes the old one's place in one transaction

What was stored up to the request is erased; each shard's day by who holds its lock, so that nobody archives what is
being erased. Killed anywhere, the request goes on, and ends when all days are through.
"""

from collections.abc import Awaitable, Callable
from datetime import date, timedelta
from typing import Any
from uuid import UUID

import pyarrow.compute as pc

from schemas.archive import erasures, layout, listing
from schemas.archive.erasures import Erasure
from schemas.archive.files import Files
from schemas.postgres import Pool
from workers import partitions
from workers.archiver import scratch
from workers.archiver.closing import Closing
from workers.archiver.writing import LocalFile

DELETE_S = 600.0


class Erasing:
    """Erases from one shard's day at a time."""

    def __init__(self, pool: Pool, files: Files, closing: Closing, rest: Callable[[], Awaitable[None]]) -> None:
        self._pool = pool
        self._files = files
        self._closing = closing
        self._rest = rest

    async def erase(self, erasure: Erasure, day: date, shard: int) -> bool:
        """Erase from a shard's day, whose lock the caller holds; False when a replay reads what is to be erased."""
        if not await listing.is_moved(self._pool, day):
            await self._delete_rows(erasure, day, shard)
            return True
        through = True
        for file in await erasures.files(self._pool, erasure, day, shard):
            if file["is_read"]:
                through = False
            elif erasure.device_id is None:
                async with self._pool.acquire() as connection:
                    await erasures.replace(connection, day, shard, file["id"], None, file["rows"])
            else:
                await self._rewrite(erasure.device_id, day, shard, file)
        await self._closing.clear(day, shard)
        return through

    async def _delete_rows(self, erasure: Erasure, day: date, shard: int) -> None:
        begin = partitions.begin_of(day)
        end = min(begin + timedelta(days=1), erasure.requested_at)
        async with self._pool.acquire() as connection, connection.transaction():
            deleted = await connection.execute(
                """DELETE FROM events WHERE shard = $1 AND stored_at >= $2 AND stored_at < $3
                      AND ($4::uuid IS NULL OR device_id = $4) AND ($5::uuid IS NULL OR project_id = $5)""",
                shard,
                begin,
                end,
                erasure.device_id,
                erasure.project_id,
                timeout=DELETE_S,
            )
            if deleted != "DELETE 0":
                await listing.reopen(connection, day, [shard])

    async def _rewrite(self, device_id: UUID, day: date, shard: int, file: Any) -> None:
        """A file without the rows of a device; none when it holds no others."""
        stored = await self._files.open(file["name"], file["size"])
        with scratch.folder() as folder:
            local = LocalFile(file["project_id"], folder / "file.parquet")
            for group in range(stored.groups):
                table: Any = await self._files.group(stored, group, layout.STORED)
                others = table.filter(pc.not_equal(table["device_id"], str(device_id)))
                if len(others):
                    local.write(layout.as_copied(others))
                await self._rest()
            local.close()
            left = local.sums.rows
            if erased := file["rows"] - left:
                written = await self._closing.store(day, shard, local) if left else None
                async with self._pool.acquire() as connection:
                    await erasures.replace(connection, day, shard, file["id"], written, erased)
