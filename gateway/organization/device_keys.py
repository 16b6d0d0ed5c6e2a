"""A new key for a device: asked for by its owner, or by the vendor of its model."""

from datetime import datetime, timedelta
from typing import Annotated
from uuid import UUID

from msgspec import Meta, Struct

from gateway.api.callers.api_keys import ORGANIZATION_KEY, PARTNER_KEY
from gateway.api.endpoint import endpoint
from gateway.api.scopes import OrganizationScope, VendorScope
from gateway.permissions import Permission
from gateway.services import Services
from gateway.stores.change import Change, change
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


@endpoint(
    "POST",
    "/core/v1/organization/devices/{device_id}/rotate_key",
    caller=ORGANIZATION_KEY,
    permission=Permission.ADMINISTER,
    errors=ERRORS,
)
async def rotate_key(
    services: Services, organization: OrganizationScope, device_id: UUID, body: Rotation
) -> NewAccessKey:
    """Give a device a new key. The one before is good until the device uses the new one, or the time is over."""
    async with change(services) as changed:
        await locking.lock(changed.connection, organization.id, device_id)
        return await _rotated(services, changed, device_id, body, Actor("owner", organization.principal.id))


@endpoint(
    "POST",
    "/core/v1/partner/devices/{device_id}/rotate_key",
    caller=PARTNER_KEY,
    permission=Permission.ADMINISTER,
    errors=ERRORS,
)
async def rotate_key_as_vendor(
    services: Services, partner: VendorScope, device_id: UUID, body: Rotation
) -> NewAccessKey:
    """Give a device of the partner's models a new key, as its owner could, or while it has none."""
    async with change(services) as changed:
        await locking.check_of_vendor(changed.connection, partner.id, device_id)
        return await _rotated(services, changed, device_id, body, Actor("vendor", partner.principal.id))


async def _rotated(services: Services, changed: Change, device_id: UUID, body: Rotation, actor: Actor) -> NewAccessKey:
    rotated = await rotation.rotate(changed, device_id, timedelta(seconds=body.overlap_s), actor)
    key = services.access_key(device_id, rotated.version)
    return NewAccessKey(device_id, key, rotated.version, rotated.previous_until)


ENDPOINTS = (rotate_key, rotate_key_as_vendor)
