"""Incidents as the device has them: it opens its own, sees all that are open, and closes its own and those of people.

What a rule opened the rule closes: a device does not say that it is back online, or no longer too hot; it shows.
"""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from msgspec import Struct

from gateway.refusals import NotFound, TooMany, Unauthenticated, retry_after_s
from gateway.stores.change import Change
from gateway.stores.incidents.incidents import UNKNOWN
from schemas import incidents
from schemas.incidents import Opening
from schemas.life_cycle import IncidentKind
from schemas.postgres import Executor

OPEN_MAX = 100
"""Most open incidents of one device that it opened itself."""
CLOSABLE: Sequence[IncidentKind] = ("device", "user")


class OpenIncident(Struct):
    """An open incident, as its device sees it. `kind` tells who opened it: the device, a user or a rule."""

    id: UUID
    kind: IncidentKind
    title: str
    description: str
    priority: int
    issue: str
    created_at: datetime


async def open_one(change: Change, opening: Opening) -> UUID | None:
    """Open an incident of the device, or find the one that is open for the same issue; its id.

    None when none may be opened now. Raises TooMany when the device has too many, Unauthenticated when it was deleted.
    """
    connection, device_id = change.connection, opening.device_id
    if not await connection.fetchval(
        "SELECT true FROM devices WHERE id = $1 AND deleted_at IS NULL FOR NO KEY UPDATE", device_id
    ):
        raise Unauthenticated
    if known := await _open_of_issue(connection, device_id, opening.issue):
        return known
    count = await connection.fetchval(
        "SELECT count(*) FROM incidents WHERE device_id = $1 AND closed_at IS NULL AND kind = 'device'", device_id
    )
    if count >= OPEN_MAX:
        raise TooMany(f"A device has at most {OPEN_MAX} open incidents of its own", retry_after_s=retry_after_s())
    opened = await incidents.open_each(connection, [opening], change.moment)
    # A rule may have opened one meanwhile: it does not wait for the lock of the device.
    return opened.get((device_id, opening.issue)) or await _open_of_issue(connection, device_id, opening.issue)


async def _open_of_issue(connection: Executor, device_id: UUID, issue: str) -> UUID | None:
    found: UUID | None = await connection.fetchval(
        "SELECT id FROM incidents WHERE device_id = $1 AND issue = $2 AND closed_at IS NULL", device_id, issue
    )
    return found


async def open_ones(connection: Executor, device_id: UUID, limit: int) -> list[OpenIncident]:
    """The device's open incidents, oldest first."""
    rows = await connection.fetch(
        """SELECT id, kind, title, description, priority, issue, opened_at AS created_at FROM incidents
            WHERE device_id = $1 AND closed_at IS NULL ORDER BY opened_at, id LIMIT $2""",
        device_id,
        limit,
    )
    return [OpenIncident(**row) for row in rows]


async def close_one(change: Change, device_id: UUID, incident_id: UUID) -> None:
    """Close an open incident that is the device's to close. Raises NotFound."""
    of_device = await change.connection.fetchval(
        "SELECT true FROM incidents WHERE id = $1 AND device_id = $2", incident_id, device_id
    )
    if not of_device or not await incidents.close_one(change.connection, incident_id, change.moment, CLOSABLE):
        raise NotFound(UNKNOWN)
