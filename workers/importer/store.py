"""What the importer reads and writes of connectors and their runs.

A run holds a lease on its connector: a time until which the connector is its own, prolonged while the run lives. One
that was killed frees the connector when its lease ends. Whatever a run writes names its lease and the revision that it
began with.
"""

from datetime import datetime
from typing import Any
from uuid import UUID

from msgspec import Struct

from schemas.postgres import Connection, Executor
from workers.importer.comparing import Changes
from workers.importer.holding import Digests, HeldList

LEASE_S = 60
SHARE_MAX = 100
"""The largest share that the setting can give an organization."""
RUNS_KEPT = 100
HELD_COUNTS = ("found", "active", "excluded", "created", "renamed", "restored", "reenrolled", "moved")


class Connector(Struct, frozen=True, kw_only=True):
    """A connector that is leased to this process."""

    id: str
    organization_id: UUID
    project_id: UUID
    space_id: UUID
    provider: str
    settings: dict[str, str]
    revision: int
    credentials: bytes
    inventory_at: datetime | None
    inventory_due: bool
    telemetry_due: bool
    failures_in_a_row: int
    telemetry_failures: int
    credentials_version: int
    rest_until: datetime | None
    follow_spaces: bool
    held_digest: str | None
    held_in_a_row: int
    held_at: datetime | None
    confirmed_list: str | None

    @property
    def held(self) -> HeldList:
        """The list that is held at the moment."""
        return HeldList(self.held_digest, self.held_in_a_row, self.held_at, self.confirmed_list)


_CONNECTOR = """c.id, c.organization_id, c.project_id, c.space_id, c.provider, c.settings, c.revision, c.credentials,
                c.inventory_at, c.failures_in_a_row, c.follow_spaces, c.held_digest, c.held_in_a_row, c.held_at,
                c.confirmed_list, c.telemetry_failures, c.credentials_version, c.rest_until"""
_UNDER_WAY = "started_at IS NOT NULL AND finished_at IS NULL"
_CUT_OFF = "finished_at = now(), error = 'Cut off: a person changed the connector, or the worker ended'"
# $2: when this run's was due, $3: when the next is. A sync that was asked for meanwhile stays due.
_NEXT_INVENTORY = """inventory_at = CASE WHEN inventory_at IS NOT DISTINCT FROM $2::timestamptz
                                         THEN $3::timestamptz ELSE inventory_at END"""
_FREE = "(lease_until IS NULL OR lease_until < now())"
# Of each that is due, which place it would have among its organization's leases.
_TURNS = """(SELECT due.*, row_number() OVER (PARTITION BY organization_id ORDER BY due_at, id)
                         + (SELECT count(*) FROM cloud_connectors held
                             WHERE held.organization_id = due.organization_id AND held.lease_until >= now()) AS turn
               FROM due) turns"""


async def claim(executor: Executor, holder: UUID, limit: int, of_organization_max: int = SHARE_MAX) -> list[Connector]:
    """Lease connectors that are due: organizations take turns, and of each those that waited longest come first.

    No organization gets more than `of_organization_max` leases, those that it has already included.
    """
    rows = await executor.fetch(
        f"""WITH due AS (SELECT id, organization_id, least(inventory_at, telemetry_at) AS due_at FROM cloud_connectors
                           WHERE status IN ('Active', 'Error') AND least(inventory_at, telemetry_at) <= now()
                             AND (rest_until IS NULL OR rest_until <= now()) AND {_FREE})
            UPDATE cloud_connectors c SET lease_holder = $1, lease_until = now() + make_interval(secs => $2)
              FROM (SELECT cloud_connectors.id FROM cloud_connectors JOIN {_TURNS} USING (id)
                     WHERE turns.turn <= $4 AND {_FREE}
                     ORDER BY turns.turn, turns.due_at LIMIT $3 FOR UPDATE OF cloud_connectors SKIP LOCKED) taken
             WHERE c.id = taken.id
            RETURNING {_CONNECTOR}, coalesce(c.inventory_at <= now(), false) AS inventory_due,
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
                          WHERE r.kind = 'preview' AND r.started_at IS NULL AND {_FREE} ORDER BY c.id, r.id)
            UPDATE cloud_connectors c SET lease_holder = $1, lease_until = now() + make_interval(secs => $2)
              FROM (SELECT cloud_connectors.id, turns.run_id FROM cloud_connectors JOIN {_TURNS} USING (id)
                     WHERE turns.turn <= $4 AND {_FREE}
                     ORDER BY turns.turn, turns.due_at LIMIT $3 FOR UPDATE OF cloud_connectors SKIP LOCKED) taken
             WHERE c.id = taken.id
            RETURNING taken.run_id, {_CONNECTOR}, false AS inventory_due, false AS telemetry_due""",
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
            UPDATE cloud_runs SET {_CUT_OFF} WHERE {_UNDER_WAY} AND connector_id = (SELECT id FROM freed)""",
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


async def model_of(executor: Executor, organization_id: UUID, model_id: UUID, title: str) -> UUID:
    """The model of the organization's devices of this vendor; made with the first of them."""
    found: UUID = await executor.fetchval(
        """INSERT INTO device_models (id, organization_id, vendor, name, authentication, offline_threshold_s)
           VALUES ($1, $2, $3, $3 || ' (imported)', 'cloud_id', 1800)
           ON CONFLICT (organization_id, name) DO UPDATE SET vendor = excluded.vendor RETURNING id""",
        model_id,
        organization_id,
        title,
    )
    return found


# Runs --------------------------------------------------------------------------------------------------------


async def start_run(executor: Executor, connector_id: str, kind: str, now: datetime, run_id: int | None) -> int:
    """Note that a run began; returns its id. A preview exists already. Nothing is left of one whose worker died."""
    await executor.execute(f"UPDATE cloud_runs SET {_CUT_OFF} WHERE {_UNDER_WAY} AND connector_id = $1", connector_id)
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
                  held_list = NULL, held_in_a_row = 0, held_at = NULL, confirmed_list = NULL
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
    changes: Changes,
    digests: Digests,
    sentence: str,
    agreeing: tuple[int, datetime],
    next_at: datetime,
) -> None:
    """A list was held: a person must look at it."""
    await connection.execute(
        f"""UPDATE cloud_connectors SET status = 'Error', error = $4, held = $5, held_digest = $6, held_list = $7,
                  held_in_a_row = $8, held_at = $9, confirmed_list = NULL, {_NEXT_INVENTORY}, failures_in_a_row = 0
            WHERE id = $1""",
        connector.id,
        connector.inventory_at,
        next_at,
        sentence,
        {name: getattr(changes, name) for name in HELD_COUNTS},
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


async def devices_of(executor: Executor, connector: Connector, vendor_ids: list[str]) -> dict[str, Any]:
    """By vendor id: device id, shard, key version and last reading of those that are active."""
    rows = await executor.fetch(
        """SELECT c.vendor_id, c.reading, c.reading_at, d.id, d.shard, d.key_version
             FROM cloud_devices c JOIN devices d ON d.id = c.device_id
            WHERE c.connector_id = $1 AND c.vendor_id = ANY($2) AND c.excluded IS NULL AND d.deleted_at IS NULL
              AND d.organization_id = $3""",
        connector.id,
        vendor_ids,
        connector.organization_id,
    )
    return {row["vendor_id"]: row for row in rows}


async def keep_readings(executor: Executor, connector_id: str, readings: dict[str, bytes], now: datetime) -> None:
    """Remember what was stored last of each device, by vendor id."""
    if readings:
        await executor.execute(
            """UPDATE cloud_devices c SET reading = r.reading, reading_at = $4
                 FROM unnest($2::text[], $3::bytea[]) AS r (vendor_id, reading)
                WHERE c.connector_id = $1 AND c.vendor_id = r.vendor_id""",
            connector_id,
            list(readings),
            list(readings.values()),
            now,
        )


async def vendor_ids(executor: Executor, connector_id: str, after: str, limit: int) -> list[str]:
    """Active devices in the order of their ids, from behind `after` on."""
    rows = await executor.fetch(
        """SELECT vendor_id FROM cloud_devices WHERE connector_id = $1 AND vendor_id > $2 AND excluded IS NULL
            ORDER BY vendor_id LIMIT $3""",
        connector_id,
        after,
        limit,
    )
    return [row["vendor_id"] for row in rows]
