"""The runs of cloud connectors, as the importer noted them; and previews, which are asked for by noting one."""

from datetime import datetime
from typing import Any, Literal

from msgspec import Struct

from schemas.postgres import Executor

Kind = Literal["inventory", "telemetry", "preview"]

_RUN = """id, kind, started_at, finished_at, found, created, renamed, excluded, restored, reenrolled, moved,
       skipped, held, error, details"""


class Run(Struct):
    """One run. `details` tells of items that were skipped (`skips`); for a preview and for a list that is held also the
    first devices of each change. A preview that no worker has begun yet has no `started_at`.
    """

    id: int
    kind: Kind
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


async def page(
    executor: Executor, connector_id: str, kind: Kind | None, *, after: int | None, offset: int, limit: int
) -> list[Run]:
    """The newest first, all or those of one kind."""
    rows = await executor.fetch(
        f"""SELECT {_RUN} FROM cloud_runs WHERE connector_id = $1 AND ($2::bigint IS NULL OR id < $2)
               AND ($5::text IS NULL OR kind = $5) ORDER BY id DESC OFFSET $3 LIMIT $4""",
        connector_id,
        after,
        offset,
        limit,
        kind,
    )
    return [Run(**row) for row in rows]


async def request_preview(executor: Executor, connector_id: str) -> int:
    """Ask a worker for a preview; returns the run that it will be: one that waits for a worker serves all who ask."""
    return int(
        await executor.fetchval(
            """WITH waiting AS (SELECT max(id) AS id FROM cloud_runs
                                 WHERE connector_id = $1 AND kind = 'preview' AND started_at IS NULL),
                    made AS (INSERT INTO cloud_runs (connector_id, kind) SELECT $1, 'preview' FROM waiting
                              WHERE waiting.id IS NULL RETURNING id)
               SELECT coalesce(made.id, waiting.id) FROM waiting LEFT JOIN made ON true""",
            connector_id,
        )
    )


async def read(executor: Executor, connector_id: str, run_id: int) -> Run | None:
    """One run of a connector."""
    row = await executor.fetchrow(
        f"SELECT {_RUN} FROM cloud_runs WHERE id = $2 AND connector_id = $1", connector_id, run_id
    )
    return None if row is None else Run(**row)
