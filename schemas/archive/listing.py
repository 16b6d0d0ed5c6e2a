"""Which files make up the archive: those that Postgres lists, and no others.

    write: row, not kept ──▶ bytes in the store ──▶ read back, compared ──▶ kept, all of a shard's day at once
    delete: not kept any more ──▶ bytes deleted ──▶ row deleted

So bytes that nobody lists cannot be: what a crash leaves is a row that is not kept, by which the next who works on that
day finds the bytes. A day of a shard is in the archive when it has its row in `archived_days`, which is written in the
transaction that keeps its files.
"""

from collections.abc import Collection, Sequence
from datetime import date, datetime
from typing import Any, NamedTuple
from uuid import UUID

from schemas.postgres import Connection, Executor


class Written(NamedTuple):
    """A file that was written and compared, as the list keeps it."""

    id: int
    rows: int
    size: int
    first_at: datetime
    last_at: datetime
    first_seq: int
    last_seq: int
    device_ids: list[UUID] | None
    """Whose events they are; None of many devices."""
    first_device: UUID
    last_device: UUID


class DamagedError(Exception):
    """A file is not what was written."""


class Superseded(Exception):
    """Somebody else works on this day of the shard, or did so in the meantime: what was written here does not count."""


async def announce(executor: Executor, day: date, shard: int, project_id: UUID | None, name: str) -> int:
    """Say that a file of this name is about to be written."""
    found: int = await executor.fetchval(
        "INSERT INTO archive_files (day, shard, project_id, name) VALUES ($1, $2, $3, $4) RETURNING id",
        day,
        shard,
        project_id,
        name,
    )
    return found


async def keep(
    connection: Connection, day: date, shard: int, files: Sequence[Written], rows: int, last_seq: int | None
) -> None:
    """The files of a shard's day are whole, and count from now on. Raises Superseded."""
    async with connection.transaction():
        kept = await put_down(connection, day, shard, files)
        first = await connection.fetchval(
            """INSERT INTO archived_days (day, shard, rows, last_seq) VALUES ($1, $2, $3, $4)
               ON CONFLICT DO NOTHING RETURNING true""",
            day,
            shard,
            rows,
            last_seq,
        )
        if len(kept) < len(files) or not first:
            raise Superseded


async def put_down(connection: Connection, day: date, shard: int, files: Sequence[Written]) -> list[int]:
    """Files that were announced and are not given up count from now on; returns their ids."""
    rows = await connection.fetch(
        """UPDATE archive_files f
              SET kept = true, rows = w.rows, size = w.size, first_at = w.first_at, last_at = w.last_at,
                  first_seq = w.first_seq, last_seq = w.last_seq,
                  device_ids = CASE WHEN w.device_ids <> '' THEN w.device_ids::uuid[] END,
                  first_device = w.first_device, last_device = w.last_device
             FROM unnest($3::bigint[], $4::bigint[], $5::bigint[], $6::timestamptz[], $7::timestamptz[],
                         $8::bigint[], $9::bigint[], $10::text[], $11::uuid[], $12::uuid[])
                     AS w (id, rows, size, first_at, last_at, first_seq, last_seq, device_ids, first_device,
                           last_device)
            WHERE f.id = w.id AND f.day = $1 AND f.shard = $2 AND NOT f.kept RETURNING f.id""",
        day,
        shard,
        *([list(column) for column in zip(*map(_row, files), strict=True)] or [[]] * 10),
    )
    return [row["id"] for row in rows]


def _row(file: Written) -> tuple[object, ...]:
    ids = "" if file.device_ids is None else f"{{{','.join(map(str, file.device_ids))}}}"
    return *file[:-3], ids, file.first_device, file.last_device


async def archived_shards(executor: Executor, day: date) -> set[int]:
    """The shards whose rows of this day are in the archive."""
    return {row["shard"] for row in await executor.fetch("SELECT shard FROM archived_days WHERE day = $1", day)}


async def unneeded(executor: Executor, day: date, shard: int) -> list[str]:
    """Names of files of this day that do not count: left by a crash, or given up."""
    rows = await executor.fetch(
        "SELECT name FROM archive_files WHERE day = $1 AND shard = $2 AND NOT kept ORDER BY id", day, shard
    )
    return [row["name"] for row in rows]


async def unneeded_days(executor: Executor) -> list[tuple[date, int]]:
    """The shards' days of which there are files that do not count."""
    rows = await executor.fetch("SELECT DISTINCT day, shard FROM archive_files WHERE NOT kept ORDER BY day, shard")
    return [(row["day"], row["shard"]) for row in rows]


async def forget(executor: Executor, names: Sequence[str]) -> None:
    """The bytes of these files are gone."""
    await executor.execute("DELETE FROM archive_files WHERE name = ANY($1) AND NOT kept", list(names))


async def expire(connection: Connection, before: date) -> int:
    """Days before this one are no part of the archive any more; returns how many files are to be deleted."""
    async with connection.transaction():
        files = await connection.fetch(
            "UPDATE archive_files SET kept = false WHERE day < $1 AND kept RETURNING id", before
        )
        await connection.execute("DELETE FROM archived_days WHERE day < $1", before)
        await connection.execute("DELETE FROM moved_days WHERE day < $1", before)
    return len(files)


class Moved(NamedTuple):
    """A file of a day that lies in files alone."""

    name: str
    size: int
    shard: int
    first_at: datetime
    last_at: datetime
    id: int


async def moved(
    executor: Executor,
    shards: Sequence[int],
    since: datetime,
    until: datetime,
    project_ids: Sequence[UUID] | None,
    device_ids: Sequence[UUID] | None,
    limit: int,
    behind: Moved | None = None,
) -> list[Moved]:
    """Files of moved days with events of `[since, until)`, of these projects, maybe of these devices; latest first.

    Those that come `behind` one of them, where that is given.
    """
    rows = await executor.fetch(
        """SELECT f.name, f.size, f.shard, f.first_at, f.last_at, f.id FROM archive_files f
             JOIN moved_days m ON m.day = f.day
            WHERE f.kept AND f.shard = ANY($1::smallint[]) AND f.last_at >= $2 AND f.first_at < $3
              AND ($4::uuid[] IS NULL OR f.project_id = ANY($4))
              AND ($5::uuid[] IS NULL OR f.device_ids && $5 OR (f.device_ids IS NULL AND (f.first_device IS NULL
                   OR EXISTS (SELECT FROM unnest($5) d (id) WHERE d.id BETWEEN f.first_device AND f.last_device))))
              AND ($7::timestamptz IS NULL OR (f.last_at, -f.id) < ($7, -$8::bigint))
            ORDER BY f.last_at DESC, f.id LIMIT $6""",
        list(shards),
        since,
        until,
        project_ids,
        device_ids,
        limit,
        *((None, None) if behind is None else (behind.last_at, behind.id)),
    )
    return [Moved(*row) for row in rows]


async def moved_places(executor: Executor, places: Collection[tuple[int, date, UUID, UUID]]) -> list[Any]:
    """Files of moved days, of these shards, days, projects and devices."""
    shards, days, project_ids, device_ids = zip(*places, strict=True) if places else ((), (), (), ())
    return await executor.fetch(
        """SELECT DISTINCT f.name, f.size, f.shard, f.day, f.project_id
             FROM unnest($1::smallint[], $2::date[], $3::uuid[], $4::uuid[]) AS w (shard, day, project_id, device_id)
             JOIN archive_files f ON f.day = w.day AND f.shard = w.shard AND f.project_id = w.project_id
             JOIN moved_days m ON m.day = f.day
            WHERE f.kept AND (f.first_device IS NULL OR w.device_id BETWEEN f.first_device AND f.last_device)""",
        list(shards),
        list(days),
        list(project_ids),
        list(device_ids),
    )


async def projects_of_connectors(executor: Executor, connector_ids: Collection[str]) -> dict[str, UUID]:
    """The projects of these data connectors."""
    rows = await executor.fetch(
        "SELECT id, project_id FROM data_connectors WHERE id = ANY($1) AND project_id IS NOT NULL", list(connector_ids)
    )
    return {row["id"]: row["project_id"] for row in rows}


# Replays of moved days ---------------------------------------------------------------------------------------


async def list_for_job(
    connection: Connection, job_id: int, project_id: UUID | None, start: datetime, end: datetime
) -> int:
    """List the files of a replay's time with its job; returns how many rows they have.

    Days are moved under a lock of their list: behind this one, all that are not moved stay where they are as long as
    the job runs.
    """
    await connection.execute("LOCK TABLE moved_days IN ACCESS SHARE MODE")
    rows: int = await connection.fetchval(
        """WITH listed AS (
               INSERT INTO connector_job_files (job_id, file_id)
               SELECT $1, f.id FROM archive_files f JOIN moved_days m ON m.day = f.day
                WHERE f.kept AND f.project_id = $2 AND f.last_at >= $3 AND f.first_at < $4
                   ON CONFLICT DO NOTHING RETURNING file_id)
           SELECT coalesce(sum(f.rows), 0)::bigint FROM listed l JOIN archive_files f ON f.id = l.file_id""",
        job_id,
        project_id,
        start,
        end,
    )
    return rows


async def next_of_job(executor: Executor, job_id: int) -> Any:
    """The file that a job reads next, and from which row on; None when it has none left."""
    return await executor.fetchrow(
        """SELECT f.id, f.name, f.size, f.shard, f.rows, f.kept, j.next_row
             FROM connector_job_files j JOIN archive_files f ON f.id = j.file_id
            WHERE j.job_id = $1 ORDER BY f.day, f.shard, f.id LIMIT 1""",
        job_id,
    )


async def pass_on(connection: Connection, job_id: int, file_id: int, first: int, next_row: int | None) -> bool:
    """Note that a job has read rows of a file; False when somebody else did."""
    if next_row is None:
        done = await connection.fetchval(
            "DELETE FROM connector_job_files WHERE job_id = $1 AND file_id = $2 AND next_row = $3 RETURNING true",
            job_id,
            file_id,
            first,
        )
    else:
        done = await connection.fetchval(
            """UPDATE connector_job_files SET next_row = $4 WHERE job_id = $1 AND file_id = $2 AND next_row = $3
               RETURNING true""",
            job_id,
            file_id,
            first,
            next_row,
        )
    return done is True


# Moving a day ------------------------------------------------------------------------------------------------


async def move(connection: Connection, day: date, partition: str) -> list[int] | None:
    """Drop the partition of an archived day, in a transaction, when nobody reads the log: from then on it is in files.

    Returns the shards in which something was stored after it was archived: then nothing is done. None, and nothing
    done, as long as a job of a connector may read the day.
    """
    await connection.execute("LOCK TABLE moved_days IN ACCESS EXCLUSIVE MODE")
    await connection.execute(f'LOCK TABLE ONLY events, "{partition}" IN ACCESS EXCLUSIVE MODE')
    if await connection.fetchval(
        """SELECT EXISTS (SELECT FROM connector_job_spans s JOIN connector_jobs j ON j.id = s.job_id
                           WHERE j.state = 'RUNNING' AND s.since < ($1::date + 1)::timestamp AT TIME ZONE 'UTC')""",
        day,
    ):
        return None
    archived = {
        row["shard"]: row["last_seq"]
        for row in await connection.fetch("SELECT shard, last_seq FROM archived_days WHERE day = $1", day)
    }
    # One by one: by index in one Postgres, and where the log is distributed each at its node.
    last = {
        shard: await connection.fetchval(f'SELECT max(seq) FROM "{partition}" WHERE shard = $1', shard)
        for shard in archived
    }
    late = sorted(shard for shard, seq in last.items() if seq != archived[shard])
    if not late:
        await connection.execute("INSERT INTO moved_days (day) VALUES ($1)", day)
        await connection.execute(f'DROP TABLE "{partition}"')
    return late


async def is_moved(executor: Executor, day: date) -> bool:
    """Whether a day lies in files alone."""
    found: bool = await executor.fetchval("SELECT EXISTS (SELECT FROM moved_days WHERE day = $1)", day)
    return found


async def reopen(connection: Connection, day: date, shards: Sequence[int]) -> None:
    """A day of these shards is to be archived anew. Never one that is moved."""
    async with connection.transaction():
        await connection.execute(
            "UPDATE archive_files SET kept = false WHERE day = $1 AND shard = ANY($2::smallint[])", day, list(shards)
        )
        await connection.execute(
            "DELETE FROM archived_days WHERE day = $1 AND shard = ANY($2::smallint[])", day, list(shards)
        )
