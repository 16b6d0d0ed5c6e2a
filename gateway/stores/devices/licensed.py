"""What becomes of a device's licences when the device goes, or another unit takes its place.

The licences of a deleted device are their vendor's to give again; one that was removed is done with. Another unit has
nothing of what the one before had, so all of it is offered again.
"""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from schemas.licenses import OFFERED_ANEW
from schemas.life_cycle import LicenseUpdated
from schemas.postgres import Connection

STATEMENT_S = 600.0
_TOLD = "l.id, l.name, l.state, l.error, l.expires_at"


async def free(
    connection: Connection, device_ids: Sequence[UUID], moment: datetime
) -> list[tuple[UUID, LicenseUpdated]]:
    """Make the licences of devices that are locked available; returns what to tell of each device."""
    rows = await connection.fetch(
        f"""WITH held AS (
                SELECT id, device_id FROM licenses WHERE device_id = ANY($1::uuid[]) AND state <> 'removed'
                 ORDER BY id FOR NO KEY UPDATE)
            UPDATE licenses l SET state = 'available', device_id = NULL, offer = 'new', error = NULL, updated_at = $2
              FROM held WHERE l.id = held.id
            RETURNING held.device_id, {_TOLD}""",
        list(device_ids),
        moment,
        timeout=STATEMENT_S,
    )
    return [(row["device_id"], LicenseUpdated.of_row(row)) for row in rows]


async def offer_anew(connection: Connection, device_id: UUID, moment: datetime) -> list[LicenseUpdated]:
    """Offer the licences of a device that is locked to the unit that takes its place; returns what to tell of it."""
    states = {was.value: state.value for was, state in OFFERED_ANEW.items()}
    rows = await connection.fetch(
        f"""WITH held AS (SELECT id, state FROM licenses WHERE device_id = $1 ORDER BY id FOR NO KEY UPDATE)
            UPDATE licenses l SET state = anew.state, offer = 'new', error = NULL, updated_at = $4
              FROM held JOIN unnest($2::text[], $3::text[]) AS anew (was, state) ON anew.was = held.state
             WHERE l.id = held.id
            RETURNING {_TOLD}""",
        device_id,
        list(states),
        list(states.values()),
        moment,
    )
    return [LicenseUpdated.of_row(row) for row in rows]
