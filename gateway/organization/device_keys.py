"""A new key for a device: asked for by its owner, or by the vendor of its model."""

from datetime import datetime, timedelta
from typing import Annotated
from uuid import UUID

from msgspec import Meta, Struct

from gateway.api.callers.api_keys import BOTH
from gateway.api.endpoint import endpoint
from gateway.api.scopes import WholeScope
from gateway.permissions import Permission
from gateway.services import Services
from gateway.stores.change import change
from gateway.stores.devices import locking, rotation
from gateway.stores.devices.audit import Actor

OVERLAP_S, OVERLAP_S_MAX = 7 * 86_400, 90 * 86_400
ERRORS = {
    400: "The body is not JSON, or has a member that is not known.",
    404: "Device not found.",
    409: "Its key was rotated too often under this master key.",
}


class Rotation(Struct):
    """For how long the key before stays good, unless the new one is used earlier; 0 ends it at once."""

    overlap_s: Annotated[int, Meta(ge=0, le=OVERLAP_S_MAX)] = OVERLAP_S


class NewAccessKey(Struct):
    """A device's new key; `access_key` is shown this once."""

    id: UUID
    access_key: str
    key_version: int
    previous_key_until: datetime | None


@endpoint("POST", "/devices/{device_id}/rotate_key", doors=BOTH, permission=Permission.ADMINISTER, errors=ERRORS)
async def rotate_key(services: Services, side: WholeScope, device_id: UUID, body: Rotation) -> NewAccessKey:
    """Give a device a new key. The one before is good until the device uses the new one, or the time is over.

    A vendor may do so as the owner could, or while a device has none.
    """
    actor = Actor("vendor" if side.as_vendor else "owner", side.principal.id)
    async with change(services) as changed:
        if side.as_vendor:
            await locking.check_of_vendor(changed.connection, side.id, device_id)
        else:
            await locking.lock(changed.connection, side.id, device_id)
        rotated = await rotation.rotate(changed, device_id, timedelta(seconds=body.overlap_s), actor)
        key = services.access_key(
            device_id, rotated.version
        )  # refused where its master key is not known: none is stored
    return NewAccessKey(device_id, key, rotated.version, rotated.previous_until)


ENDPOINTS = (rotate_key,)
