"""What is to be erased from history on request: a device's events, or a project's."""

from collections.abc import Sequence
from datetime import date, datetime
from typing import Any, NamedTuple
from uuid import UUID

from schemas import event_log
from schemas.archive.listing import Superseded, Written, put_down
from schemas.ids import shard_of
from schemas.postgres import Connection, Executor


class Erasure(NamedTuple):
    """One of the two is given, and the device's shard with it."""

    id: int
    device_id: UUID | None
    project_id: UUID | None
    shard: int | None
    requested_at: datetime


async def request(connection: Connection, *, device_id: UUID | None, project_id: UUID | None) -> int:
    """Ask for one of the two; a worker does it."""
    shards = len(await event_log.shards(connection))
    found: int = await connection.fetchval(
        "INSERT INTO erasures (device_id, project_id, shard) VALUES ($1, $2, $3) RETURNING id",
        device_id,
        project_id,
        None if device_id is None else shard_of(str(device_id).encode(), shards),
    )
    return found


async def listed(executor: Executor, limit: int) -> list[Any]:
    """The newest requests."""
    return await executor.fetch(
        "SELECT id, device_id, project_id, requested_at, done_at FROM erasures ORDER BY id DESC LIMIT $1", limit
    )


async def open_ones(executor: Executor) -> list[Erasure]:
    """Those that are not done, oldest first."""
    rows = await executor.fetch(
        "SELECT id, device_id, project_id, shard, requested_at FROM erasures WHERE done_at IS NULL ORDER BY id"
    )
    return [Erasure(*row) for row in rows]


async def moved_days(executor: Executor) -> list[date]:
    """All days that lie in files alone."""
    return [row["day"] for row in await executor.fetch("SELECT day FROM moved_days ORDER BY day")]


async def done(executor: Executor, erasure: Erasure) -> None:
    """All days are through."""
    await executor.execute("UPDATE erasures SET done_at = now() WHERE id = $1", erasure.id)


async def files(executor: Executor, erasure: Erasure, day: date, shard: int) -> list[Any]:
    """Files of a moved day that hold, or may hold, what is to be erased; and whether a replay reads them."""
    return await executor.fetch(
        """SELECT f.id, f.name, f.size, f.rows, f.project_id,
                  EXISTS (SELECT FROM connector_job_files j WHERE j.file_id = f.id) AS is_read
             FROM archive_files f
            WHERE f.kept AND f.day = $1 AND f.shard = $2 AND ($3::uuid IS NULL OR f.project_id = $3)
              AND ($4::uuid IS NULL OR $4 = ANY(f.device_ids) OR (f.device_ids IS NULL
                   AND (f.first_device IS NULL OR $4 BETWEEN f.first_device AND f.last_device)))""",
        day,
        shard,
        erasure.project_id,
        erasure.device_id,
    )


async def replace(connection: Connection, day: date, shard: int, old: int, new: Written | None, erased: int) -> None:
    """A file counts no more, and another one without what was erased does. Raises Superseded."""
    async with connection.transaction():
        gone = await connection.fetchval(
            "UPDATE archive_files SET kept = false WHERE id = $1 AND kept RETURNING true", old
        )
        kept: Sequence[int] = await put_down(connection, day, shard, [] if new is None else [new])
        if not gone or len(kept) < (new is not None):
            raise Superseded
        await connection.execute(
            "UPDATE archived_days SET rows = rows - $3 WHERE day = $1 AND shard = $2", day, shard, erased
        )
