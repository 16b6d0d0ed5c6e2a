"""The licences of an owner's devices: what they are, not what they say. That is between the vendor and the device."""

from datetime import datetime
from typing import Any
from uuid import UUID

from msgspec import Struct

from gateway.refusals import NotFound
from gateway.stores.licenses.vendor_side import UNKNOWN, narrowed
from schemas.licenses import Action, LicenseState, Word
from schemas.postgres import Executor

_LICENSE = """
    SELECT l.id, l.model_id, l.device_id, l.name, l.state, l.error, l.expires_at, l.updated_at
      FROM licenses l WHERE l.owner_id = $1
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
    arguments: list[Any] = [owner_id, offset, limit]
    conditions = narrowed(arguments, state=state, model_id=model_id, device_id=device_id, after=after)
    where = "".join(f" AND {condition}" for condition in conditions)
    rows = await connection.fetch(f"{_LICENSE}{where} ORDER BY l.id OFFSET $2 LIMIT $3", *arguments)
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
