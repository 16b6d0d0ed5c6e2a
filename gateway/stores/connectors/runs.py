"""The runs of cloud connectors, as the importer noted them; and previews, which are asked for by noting one."""

from datetime import datetime
from typing import Any, Literal

from msgspec import Struct

from schemas.postgres import Executor

_RUN = """id, kind, started_at, finished_at, found, created, renamed, excluded, restored, reenrolled, moved,
       skipped, held, error, details"""


class Run(Struct):
    """One run. `details` tells of items that were skipped; for a preview also the first devices of each change."""

    id: int
    kind: Literal["inventory", "telemetry", "preview"]
    started_at: datetime | None
    finished_at: datetime | None
    found: int
    created: int
    renamed: int
    excluded: int
    restored: int
    reenrolled: int
    moved: int
    skipped: int
    held: bool
    error: str | None
    details: dict[str, Any]


async def page(executor: Executor, connector_id: str, *, after: int | None, offset: int, limit: int) -> list[Run]:
    """The newest first."""
    rows = await executor.fetch(
        f"""SELECT {_RUN} FROM cloud_runs WHERE connector_id = $1 AND ($2::bigint IS NULL OR id < $2)
             ORDER BY id DESC OFFSET $3 LIMIT $4""",
        connector_id,
        after,
        offset,
        limit,
    )
    return [Run(**row) for row in rows]


async def request_preview(executor: Executor, connector_id: str) -> int:
    """Ask a worker for a preview; returns the run that it will be."""
    return int(
        await executor.fetchval(
            "INSERT INTO cloud_runs (connector_id, kind) VALUES ($1, 'preview') RETURNING id", connector_id
        )
    )


async def read(executor: Executor, run_id: int) -> Run | None:
    """One run."""
    row = await executor.fetchrow(f"SELECT {_RUN} FROM cloud_runs WHERE id = $1", run_id)
    return None if row is None else Run(**row)


async def forget_preview(executor: Executor, run_id: int) -> None:
    """Cancel a preview that nobody waits for any more."""
    await executor.execute("DELETE FROM cloud_runs WHERE id = $1 AND started_at IS NULL", run_id)
