"""The licences of an owner's devices: what they are, not what they say. That is between the vendor and the device."""

from datetime import datetime
from typing import Any
from uuid import UUID

from msgspec import Struct

from gateway.refusals import NotFound
from gateway.stores.licenses.vendor_side import UNKNOWN, stored
from schemas.licenses import Action, LicenseState, Word
from schemas.postgres import Executor

_LICENSE = """
    SELECT l.id, l.model_id, l.device_id, l.name, l.state, l.error, l.expires_at, l.updated_at
      FROM licenses l JOIN devices d ON d.id = l.device_id
     WHERE d.organization_id = $1 AND d.deleted_at IS NULL
"""


class DeviceLicense(Struct, kw_only=True):
    """A licence of a device. `action` is what the device is to do, or failed to do with `error`."""

    id: UUID
    model_id: UUID
    device_id: UUID
    name: str
    state: Word
    action: Action | None
    error: str | None
    expires_at: datetime | None
    updated_at: datetime


async def page(
    connection: Executor,
    owner_id: UUID,
    *,
    state: Word | None,
    model_id: UUID | None,
    device_id: UUID | None,
    after: UUID | None,
    offset: int,
    limit: int,
) -> list[DeviceLicense]:
    """The licences of an organization's devices, oldest first."""
    rows = await connection.fetch(
        f"""{_LICENSE} AND ($2::text[] IS NULL OR l.state = ANY($2)) AND ($3::uuid IS NULL OR l.model_id = $3)
               AND ($4::uuid IS NULL OR l.device_id = $4) AND ($5::uuid IS NULL OR l.id > $5)
             ORDER BY l.id OFFSET $6 LIMIT $7""",
        owner_id,
        stored(state),
        model_id,
        device_id,
        after,
        offset,
        limit,
    )
    return [_license(row) for row in rows]


async def read(connection: Executor, owner_id: UUID, license_id: UUID) -> DeviceLicense:
    """Raises NotFound for an unknown licence and for one of another's device alike."""
    row = await connection.fetchrow(f"{_LICENSE} AND l.id = $2", owner_id, license_id)
    if row is None:
        raise NotFound(UNKNOWN)
    return _license(row)


def _license(row: Any) -> DeviceLicense:
    state = LicenseState(row["state"])
    return DeviceLicense(**{**row, "state": state.word, "action": state.action})
