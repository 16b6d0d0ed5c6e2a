"""Which connectors are this process's at the moment.

A run holds a lease on its connector: a time until which the connector is its own, prolonged while the run lives. One
that was killed frees the connector when its lease ends. Whatever a run writes names its lease and the revision that it
began with.
"""

from datetime import datetime
from uuid import UUID

from schemas.postgres import Connection, Executor
from workers.importer.connector import COLUMNS, Connector
from workers.importer.run_records import CUT_OFF, UNDER_WAY

LEASE_S = 60
SHARE_MAX = 100
"""The largest share that the setting can give an organization."""
_FREE = "(lease_until IS NULL OR lease_until < now())"
_DUE = f"""status IN ('Active', 'Error') AND least(inventory_at, telemetry_at) <= now()
           AND (rest_until IS NULL OR rest_until <= now()) AND {_FREE}"""
_WANTED = "kind = 'preview' AND started_at IS NULL"
# Of each that is due, which place it would have among its organization's leases.
_TURNS = """(SELECT due.*, row_number() OVER (PARTITION BY organization_id ORDER BY due_at, id)
                         + (SELECT count(*) FROM cloud_connectors held
                             WHERE held.organization_id = due.organization_id AND held.lease_until >= now()) AS turn
               FROM due) turns"""


async def some_due(executor: Executor) -> bool:
    """Whether there may be connectors to claim, or previews: what is asked all the time, and costs little."""
    return bool(
        await executor.fetchval(
            f"""SELECT EXISTS (SELECT FROM cloud_connectors WHERE {_DUE})
                       OR EXISTS (SELECT FROM cloud_runs WHERE {_WANTED})"""
        )
    )


async def claim(executor: Executor, holder: UUID, limit: int, of_organization_max: int = SHARE_MAX) -> list[Connector]:
    """Lease connectors that are due: organizations take turns, and of each those that waited longest come first.

    No organization gets more than `of_organization_max` leases, those that it has already included.
    """
    rows = await executor.fetch(
        f"""WITH due AS (SELECT id, organization_id, least(inventory_at, telemetry_at) AS due_at FROM cloud_connectors
                           WHERE {_DUE})
            UPDATE cloud_connectors c SET lease_holder = $1, lease_until = now() + make_interval(secs => $2)
              FROM (SELECT cloud_connectors.id FROM cloud_connectors JOIN {_TURNS} USING (id)
                     WHERE turns.turn <= $4 AND {_FREE}
                     ORDER BY turns.turn, turns.due_at LIMIT $3 FOR UPDATE OF cloud_connectors SKIP LOCKED) taken
             WHERE c.id = taken.id
            RETURNING {COLUMNS}, coalesce(c.inventory_at <= now(), false) AS inventory_due,
                      coalesce(c.telemetry_at <= now(), false) AS telemetry_due""",
        holder,
        LEASE_S,
        limit,
        of_organization_max,
    )
    return [Connector(**row) for row in rows]


async def claim_previews(
    executor: Executor, holder: UUID, limit: int, of_organization_max: int = SHARE_MAX
) -> list[tuple[int, Connector]]:
    """Lease connectors of which a person wants a preview, as `claim` does; with the run that it is to become."""
    rows = await executor.fetch(
        f"""WITH due AS (SELECT DISTINCT ON (c.id) c.id, c.organization_id, r.id AS run_id, r.id AS due_at
                           FROM cloud_runs r JOIN cloud_connectors c ON c.id = r.connector_id
                          WHERE {_WANTED} AND {_FREE} ORDER BY c.id, r.id)
            UPDATE cloud_connectors c SET lease_holder = $1, lease_until = now() + make_interval(secs => $2)
              FROM (SELECT cloud_connectors.id, turns.run_id FROM cloud_connectors JOIN {_TURNS} USING (id)
                     WHERE turns.turn <= $4 AND {_FREE}
                     ORDER BY turns.turn, turns.due_at LIMIT $3 FOR UPDATE OF cloud_connectors SKIP LOCKED) taken
             WHERE c.id = taken.id
            RETURNING taken.run_id, {COLUMNS}, false AS inventory_due, false AS telemetry_due""",
        holder,
        LEASE_S,
        limit,
        of_organization_max,
    )
    return [(row["run_id"], Connector(**{k: v for k, v in row.items() if k != "run_id"})) for row in rows]


async def prolong(executor: Executor, holder: UUID, connector: Connector) -> bool:
    """Keep the lease; False when it is lost, or the connector is no longer what it was."""
    return bool(
        await executor.fetchval(
            """UPDATE cloud_connectors SET lease_until = now() + make_interval(secs => $4)
                WHERE id = $1 AND lease_holder = $2 AND revision = $3 RETURNING true""",
            connector.id,
            holder,
            connector.revision,
            LEASE_S,
        )
    )


async def release(executor: Executor, holder: UUID, connector: Connector) -> None:
    """Give the lease back. A run that did not finish is void, and says so."""
    await executor.execute(
        f"""WITH freed AS (UPDATE cloud_connectors SET lease_holder = NULL, lease_until = NULL
                            WHERE id = $1 AND lease_holder = $2 RETURNING id)
            UPDATE cloud_runs SET {CUT_OFF} WHERE {UNDER_WAY} AND connector_id = (SELECT id FROM freed)""",
        connector.id,
        holder,
    )


async def still_ours(connection: Connection, holder: UUID, connector: Connector) -> bool:
    """Lock the connector until the transaction that changed its devices ends; False when the run is void."""
    return bool(
        await connection.fetchval(
            """SELECT true FROM cloud_connectors WHERE id = $1 AND lease_holder = $2 AND revision = $3
                  FOR NO KEY UPDATE""",
            connector.id,
            holder,
            connector.revision,
        )
    )


async def keep_credentials(executor: Executor, connector: Connector, sealed: bytes) -> None:
    """Keep tokens at once, whatever else was changed: a refresh token may be good for a single use.

    Only new credentials make them void.
    """
    await executor.execute(
        "UPDATE cloud_connectors SET credentials = $3 WHERE id = $1 AND credentials_version = $2",
        connector.id,
        connector.credentials_version,
        sealed,
    )


async def rest(executor: Executor, connector_id: str, until: datetime) -> None:
    """Let nobody ask the vendor before; a run that is under way knows."""
    await executor.execute(
        "UPDATE cloud_connectors SET rest_until = greatest(rest_until, $2) WHERE id = $1", connector_id, until
    )
