"""Cloud connectors as their owner manages them. The importer does their work (see `workers.importer`).

Every change by a person counts `revision` up, so that a run which began before it changes nothing.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from msgspec import Struct

from gateway.refusals import Conflict, DoesNotFit, NotFound
from gateway.stores.change import Change
from gateway.stores.devices import deletion
from schemas import device_trees, ids
from schemas.postgres import Connection, Executor, batches

UNKNOWN = "Connector not found"
DELETION_S = 600.0

Status = Literal["Unauthenticated", "Active", "Disabled", "Error"]


class Held(Struct):
    """A list that waits for a person: counts of what it holds and would change.

    `list` tells it from others, and `run_id` is the run that shows its devices. `agreeing` lists in a row would take
    the same devices away; three of them, some time apart, are applied, unless that `needs_person` or was `rejected`.
    """

    found: int
    active: int
    created: int
    renamed: int
    excluded: int
    restored: int
    reenrolled: int = 0
    moved: int = 0
    needs_person: bool = False
    run_id: int | None = None
    list: str | None = None
    agreeing: int = 0
    rejected: bool = False


class CloudConnector(Struct):
    """One cloud connector. `devices_found` is what the vendor's last complete list named.

    `telemetry_error` is the trouble of its devices' telemetry; devices are imported all the same.
    """

    id: str
    name: str
    provider: str
    project_id: UUID
    space_id: UUID
    settings: dict[str, str]
    follow_spaces: bool
    status: Status
    error: str | None
    telemetry_error: str | None
    held: Held | None
    devices_found: int
    active_devices: int
    excluded_devices: int
    next_sync_at: datetime | None
    created_at: datetime


_CONNECTOR = """
    SELECT c.id, c.name, c.provider, c.project_id, c.space_id, c.settings, c.follow_spaces, c.status, c.error,
           c.telemetry_error, c.held, c.held_list, c.held_in_a_row,
           coalesce(c.held_digest = c.rejected_digest, false) AS rejected,
           c.found AS devices_found, n.active_devices, n.excluded_devices, c.created_at,
           CASE WHEN c.inventory_at < c.rest_until THEN c.rest_until ELSE c.inventory_at END AS next_sync_at
      FROM cloud_connectors c
     CROSS JOIN LATERAL (SELECT count(*) FILTER (WHERE excluded IS NULL) AS active_devices,
                                count(excluded) AS excluded_devices
                           FROM cloud_devices WHERE connector_id = c.id) n
     WHERE c.organization_id = $1
"""


def _connector(row: Any) -> CloudConnector:
    shown = dict(row)
    list_, agreeing, rejected = (shown.pop(name) for name in ("held_list", "held_in_a_row", "rejected"))
    if shown["held"] is not None:
        shown["held"] = Held(**shown["held"], list=list_, agreeing=agreeing, rejected=rejected)
    return CloudConnector(**shown)


async def create(
    connection: Connection,
    organization_id: UUID,
    *,
    project_id: UUID,
    space_id: UUID,
    provider: str,
    name: str,
    settings: dict[str, str],
    follow_spaces: bool = False,
) -> str:
    """A new connector, to be authorised; returns its id. Raises DoesNotFit for a space that is not the project's."""
    found = await connection.fetchval(
        """INSERT INTO cloud_connectors (id, organization_id, project_id, space_id, provider, name, settings,
                                         follow_spaces)
           SELECT $1, p.organization_id, p.id, s.id, $5, $6, $7, $8 FROM projects p JOIN spaces s ON s.project_id = p.id
            WHERE p.organization_id = $2 AND p.id = $3 AND s.id = $4 RETURNING id""",
        ids.new_xid(),
        organization_id,
        project_id,
        space_id,
        provider,
        name,
        settings,
        follow_spaces,
    )
    if found is None:
        raise DoesNotFit("Space id: the project has no such space")
    return str(found)


async def page(
    executor: Executor,
    organization_id: UUID,
    *,
    project_ids: Sequence[UUID] | None = None,
    after: str | None,
    offset: int,
    limit: int,
) -> list[CloudConnector]:
    """The organization's connectors in the order of their making; all, or those that import into these projects."""
    rows = await executor.fetch(
        f"""{_CONNECTOR} AND ($2::text IS NULL OR c.id > $2) AND ($5::uuid[] IS NULL OR c.project_id = ANY($5))
             ORDER BY c.id OFFSET $3 LIMIT $4""",
        organization_id,
        after,
        offset,
        limit,
        project_ids,
    )
    return [_connector(row) for row in rows]


async def read(executor: Executor, organization_id: UUID, connector_id: str) -> CloudConnector:
    """Raises NotFound."""
    row = await executor.fetchrow(f"{_CONNECTOR} AND c.id = $2", organization_id, connector_id)
    if row is None:
        raise NotFound(UNKNOWN)
    return _connector(row)


async def find(executor: Executor, organization_id: UUID, connector_id: str) -> str:
    """Its id, for whoever needs nothing else: `read` counts its devices. Raises NotFound."""
    found: str | None = await executor.fetchval(
        "SELECT id FROM cloud_connectors WHERE organization_id = $1 AND id = $2", organization_id, connector_id
    )
    if found is None:
        raise NotFound(UNKNOWN)
    return found


async def project_of(executor: Executor, organization_id: UUID, connector_id: str) -> UUID:
    """The project that a connector imports into. Raises NotFound."""
    project_id: UUID | None = await executor.fetchval(
        "SELECT project_id FROM cloud_connectors WHERE organization_id = $1 AND id = $2", organization_id, connector_id
    )
    if project_id is None:
        raise NotFound(UNKNOWN)
    return project_id


async def lock(connection: Connection, organization_id: UUID, connector_id: str) -> CloudConnector:
    """Lock it for the transaction that changes it, whether a list is being applied or not. Raises NotFound."""
    await connection.execute(
        "SELECT FROM cloud_connectors WHERE id = $1 AND organization_id = $2 FOR NO KEY UPDATE",
        connector_id,
        organization_id,
    )
    return await read(connection, organization_id, connector_id)


async def organization_of(executor: Executor, connector_id: str) -> UUID:
    """Whose it is. Raises NotFound."""
    found: UUID | None = await executor.fetchval(
        "SELECT organization_id FROM cloud_connectors WHERE id = $1", connector_id
    )
    if found is None:
        raise NotFound(UNKNOWN)
    return found


def check_runnable(connector: CloudConnector) -> None:
    """Raises DoesNotFit for one that was never authorised, or is disabled."""
    if connector.status == "Unauthenticated":
        raise DoesNotFit("The connector was never authorised: open its link")
    if connector.status == "Disabled":
        raise DoesNotFit("The connector is disabled: enable it first")


async def change(
    connection: Connection,
    connector_id: str,
    *,
    name: str,
    settings: dict[str, str],
    follow_spaces: bool | None = None,
    elsewhere: bool = False,
) -> None:
    """Store what was changed; without `follow_spaces` that stays.

    `elsewhere` says that its settings lead to another place than the one its credentials were entered for. So those
    end, and with them its link: whoever enters others is to see where they go.
    """
    await connection.execute(
        """UPDATE cloud_connectors SET name = $2, settings = $3, follow_spaces = coalesce($4, follow_spaces),
                  revision = revision + 1 WHERE id = $1""",
        connector_id,
        name,
        settings,
        follow_spaces,
    )
    if elsewhere:
        await connection.execute(
            """UPDATE cloud_connectors SET credentials = '', credentials_version = credentials_version + 1,
                      consent = '', consent_digest = NULL, link_digest = NULL, error = NULL, telemetry_error = NULL,
                      inventory_at = NULL, telemetry_at = NULL,
                      status = CASE WHEN status = 'Disabled' THEN status ELSE 'Unauthenticated' END WHERE id = $1""",
            connector_id,
        )


async def disable(connection: Connection, connector_id: str) -> None:
    """Stop it; a run under way changes nothing more."""
    await connection.execute(
        """UPDATE cloud_connectors SET status = 'Disabled', error = NULL, inventory_at = NULL, telemetry_at = NULL,
                  revision = revision + 1 WHERE id = $1""",
        connector_id,
    )


async def enable(connection: Connection, connector_id: str) -> None:
    """Go on with the same credentials, at once; without credentials it waits for them."""
    await connection.execute(
        """UPDATE cloud_connectors
              SET status = CASE WHEN credentials = '' THEN 'Unauthenticated' ELSE 'Active' END,
                  inventory_at = CASE WHEN credentials = '' THEN NULL ELSE now() END, failures_in_a_row = 0,
                  revision = revision + 1 WHERE id = $1 AND status = 'Disabled'""",
        connector_id,
    )


async def sync(connection: Connection, connector_id: str) -> None:
    """Run as soon as a worker is free."""
    await connection.execute(
        "UPDATE cloud_connectors SET inventory_at = now() WHERE id = $1 AND status IN ('Active', 'Error')",
        connector_id,
    )


async def confirm(connection: Connection, connector: CloudConnector, seen: str | None) -> int:
    """Agree to the held list, if it is the one that was seen, and run at once; returns how many devices it excludes.

    Raises DoesNotFit when no list is held, Conflict when it is another one.
    """
    held = _check_held(connector, seen)
    await connection.execute(
        """UPDATE cloud_connectors SET confirmed_list = held_list, rejected_digest = NULL, inventory_at = now(),
                  revision = revision + 1 WHERE id = $1""",
        connector.id,
    )
    return held.excluded


async def reject(connection: Connection, connector: CloudConnector, seen: str | None) -> int:
    """Refuse what the held list takes away, if it is the one that was seen; returns how many devices stay so.

    Raises DoesNotFit when no list is held, Conflict when it is another one.
    """
    held = _check_held(connector, seen)
    await connection.execute(
        """UPDATE cloud_connectors SET confirmed_list = NULL, rejected_digest = held_digest, revision = revision + 1
            WHERE id = $1""",
        connector.id,
    )
    return held.excluded


def _check_held(connector: CloudConnector, seen: str | None) -> Held:
    if connector.held is None:
        raise DoesNotFit("No list is held")
    if seen is not None and seen != connector.held.list:
        raise Conflict("Another list is held by now: look at what it would take away")
    return connector.held


async def delete(change: Change, organization_id: UUID, connector_id: str, name: str) -> int:
    """Delete it with all devices that it imported and everything below them; returns how many. The spaces stay.

    The transaction holds no lock of the connector yet: a list that is being applied is waited for. Raises NotFound, and
    DoesNotFit unless `name` is its name.
    """
    connection = change.connection
    await connection.execute(
        "SELECT FROM cloud_connectors WHERE id = $1 AND organization_id = $2 FOR UPDATE",
        connector_id,
        organization_id,
        timeout=DELETION_S,
    )
    connector = await read(connection, organization_id, connector_id)
    if name != connector.name:
        devices = connector.active_devices + connector.excluded_devices
        raise DoesNotFit(f"Name must be {connector.name!r} to delete the connector and its {devices} devices")
    imported = "SELECT device_id FROM cloud_devices WHERE connector_id = $1"
    await device_trees.lock_trees(connection, imported, connector_id, limit_s=DELETION_S)
    count = 0
    async for rows in batches(connection, imported, connector_id, size=deletion.BATCH):
        count += await deletion.delete(change, [row["device_id"] for row in rows])
    await connection.execute("DELETE FROM cloud_connectors WHERE id = $1", connector_id, timeout=DELETION_S)
    return count
