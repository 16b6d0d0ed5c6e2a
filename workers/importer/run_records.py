"""How runs went, and what comes next for their connectors."""

from datetime import datetime
from typing import Any
from uuid import UUID

from schemas.postgres import Connection, Executor
from workers.importer import holding
from workers.importer.comparing import Changes
from workers.importer.connector import Connector
from workers.importer.holding import Digests

RUNS_KEPT = 100
HELD_COUNTS = ("found", "active", "excluded", "created", "renamed", "restored", "reenrolled", "moved")
UNDER_WAY = "started_at IS NOT NULL AND finished_at IS NULL"
CUT_OFF = "finished_at = now(), error = 'Cut off: a person changed the connector, or the worker ended'"
# $2: when this run's was due, $3: when the next is. A sync that was asked for meanwhile stays due.
_NEXT_INVENTORY = """inventory_at = CASE WHEN inventory_at IS NOT DISTINCT FROM $2::timestamptz
                                         THEN $3::timestamptz ELSE inventory_at END"""


async def start_run(executor: Executor, connector_id: str, kind: str, now: datetime, run_id: int | None) -> int:
    """Note that a run began; returns its id. A preview exists already. Nothing is left of one whose worker died."""
    await executor.execute(f"UPDATE cloud_runs SET {CUT_OFF} WHERE {UNDER_WAY} AND connector_id = $1", connector_id)
    found: int = await executor.fetchval(
        "UPDATE cloud_runs SET started_at = $2 WHERE id = $1 RETURNING id"
        if run_id is not None
        else "INSERT INTO cloud_runs (connector_id, started_at, kind) VALUES ($1, $2, $3) RETURNING id",
        *((run_id, now) if run_id is not None else (connector_id, now, kind)),
    )
    return found


async def finish_run(
    executor: Executor,
    run_id: int | None,
    now: datetime,
    changes: Changes,
    *,
    skipped: int = 0,
    held: bool = False,
    error: str | None = None,
    details: dict[str, Any] | None = None,
) -> None:
    """Note how it went, and forget those long past."""
    await executor.execute(
        """UPDATE cloud_runs SET finished_at = $2, found = $3, created = $4, renamed = $5, excluded = $6, restored = $7,
                  skipped = $8, held = $9, error = $10, details = $11, reenrolled = $12, moved = $13 WHERE id = $1""",
        run_id,
        now,
        changes.found,
        changes.created,
        changes.renamed,
        changes.excluded,
        changes.restored,
        skipped,
        held,
        error,
        details or {},
        changes.reenrolled,
        changes.moved,
    )
    await executor.execute(
        """DELETE FROM cloud_runs WHERE connector_id = (SELECT connector_id FROM cloud_runs WHERE id = $1)
              AND id <= (SELECT id FROM cloud_runs WHERE connector_id =
                         (SELECT connector_id FROM cloud_runs WHERE id = $1) ORDER BY id DESC OFFSET $2 LIMIT 1)""",
        run_id,
        RUNS_KEPT,
    )


async def applied(
    connection: Connection, connector: Connector, found: int, next_at: datetime, telemetry_at: datetime | None
) -> None:
    """A list was applied: all is well. With `telemetry_at` its first telemetry is due then."""
    await connection.execute(
        f"""UPDATE cloud_connectors SET status = 'Active', error = NULL, found = $4, {_NEXT_INVENTORY},
                  telemetry_at = coalesce(telemetry_at, $5), failures_in_a_row = 0, held = NULL, held_digest = NULL,
                  held_list = NULL, held_in_a_row = 0, held_at = NULL, confirmed_list = NULL,
                  rejected_digest = NULL
            WHERE id = $1""",
        connector.id,
        connector.inventory_at,
        next_at,
        found,
        telemetry_at,
    )


async def hold(
    connection: Connection,
    connector: Connector,
    run_id: int,
    changes: Changes,
    digests: Digests,
    sentence: str,
    agreeing: tuple[int, datetime],
    next_at: datetime,
) -> None:
    """A list was held: a person must look at it, at the devices that its run shows."""
    await connection.execute(
        f"""UPDATE cloud_connectors SET status = 'Error', error = $4, held = $5, held_digest = $6, held_list = $7,
                  held_in_a_row = $8, held_at = $9, confirmed_list = NULL, {_NEXT_INVENTORY}, failures_in_a_row = 0
            WHERE id = $1""",
        connector.id,
        connector.inventory_at,
        next_at,
        sentence,
        {name: getattr(changes, name) for name in HELD_COUNTS}
        | {"needs_person": holding.needs_person(changes), "run_id": run_id},
        digests.gone,
        digests.whole,
        *agreeing,
    )


async def failed(
    executor: Executor,
    holder: UUID,
    connector: Connector,
    *,
    error: str | None,
    next_at: datetime | None,
) -> None:
    """A run failed. With an `error` people must look at it; without a `next_at` it waits for them."""
    await executor.execute(
        f"""UPDATE cloud_connectors SET failures_in_a_row = failures_in_a_row + 1, held_in_a_row = 0,
                  status = CASE WHEN $6::text IS NULL THEN status ELSE 'Error' END, error = coalesce($6, error),
                  {_NEXT_INVENTORY},
                  telemetry_at = CASE WHEN $3::timestamptz IS NULL THEN NULL ELSE greatest(telemetry_at, $3) END
            WHERE id = $1 AND lease_holder = $4 AND revision = $5""",
        connector.id,
        connector.inventory_at,
        next_at,
        holder,
        connector.revision,
        error,
    )


async def telemetry_next(
    executor: Executor, holder: UUID, connector: Connector, next_at: datetime | None, error: str | None = None
) -> None:
    """When to ask for telemetry again, and what its trouble is."""
    await executor.execute(
        """UPDATE cloud_connectors SET telemetry_at = $4, telemetry_error = $5,
                  telemetry_failures = CASE WHEN $5::text IS NULL THEN 0 ELSE telemetry_failures + 1 END
            WHERE id = $1 AND lease_holder = $2 AND revision = $3""",
        connector.id,
        holder,
        connector.revision,
        next_at,
        error,
    )
