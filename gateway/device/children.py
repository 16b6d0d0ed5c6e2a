"""Children: devices behind a device, which it registers with its own access key.

A child of a claimed parent belongs to the parent's owner from the start and is in the parent's space; one of an
unclaimed parent is claimed with it.
"""

from typing import Any
from uuid import UUID

from msgspec import Struct
from starlette.requests import Request

from gateway.api.addresses import address_of
from gateway.api.callers.devices import DEVICE
from gateway.api.endpoint import Endpoint, endpoint
from gateway.api.validation import Label
from gateway.device.registration import new_device
from gateway.refusals import DoesNotFit, NotFound, Unauthenticated
from gateway.services import Services
from gateway.stores.change import Change, change_over
from gateway.stores.devices import children, replacement
from gateway.stores.devices import registration as registrations
from gateway.stores.devices.children import Child
from gateway.stores.devices.identity import DeviceCaller
from gateway.stores.devices.registration import NewDevice, Ownership, Unheard
from schemas import serials
from schemas.ids import uuid_of


class NewChild(Struct, kw_only=True):
    """What a device says of its child."""

    model_id: str
    firmware_version: Label
    sn: Label | None = None
    mac: Label | None = None
    name: Label | None = None
    details: dict[str, Any] | None = None
    sub_model: Label | None = None


class RegisteredChild(Struct):
    """The identity of a child. `access_key` is shown this once."""

    id: UUID
    access_key: str


@endpoint(
    "POST",
    "/v1/devices/{device_id}/children",
    caller=DEVICE,
    status=201,
    errors={404: "Neither the vendor nor the owner of the parent has such a model."},
)
async def register_child(services: Services, request: Request, device: DeviceCaller, body: NewChild) -> RegisteredChild:
    """Register a child. Until it is heard of or claimed, the same call is answered alike.

    As with other devices, one that its owner named takes a place, here below this parent only; and one that is
    registered already asks to come back.
    """
    model_id = uuid_of(body.model_id)
    if model_id is None:
        raise NotFound(registrations.MODEL_UNKNOWN)
    sn, address = serials.normalized(body.sn or "") or None, address_of(request)
    new: NewDevice | None = None
    async with services.postgres.acquire() as connection:
        try:
            async with change_over(services, connection) as changed:
                await replacement.lock_with_parent(connection, device.id, model_id, sn)
                parent = await registrations.lock_parent(connection, device.id)
                if parent is None:
                    raise Unauthenticated
                vendor_id, ownership = parent
                model = await registrations.model_for_child(connection, model_id, vendor_id, ownership.organization_id)
                new = new_device(
                    services,
                    model,
                    parent_id=device.id,
                    sn=sn,
                    mac=body.mac,
                    cloud_id=None,
                    name=body.name,
                    sub_model=body.sub_model,
                    firmware_version=body.firmware_version,
                    details=body.details,
                    vouched_for=True,
                )
                registered = await _registered(changed, new, ownership, address)
        except DoesNotFit as refused:
            if new is None or refused.text not in registrations.TAKEN.values():
                raise
            async with change_over(services, connection) as changed:
                back = await replacement.come_back(changed, new, address)
            if back is None:
                raise
            registered = back
    return RegisteredChild(registered.id, services.access_key(registered.id, registered.key_version))


async def _registered(changed: Change, new: NewDevice, ownership: Ownership, address: str) -> Unheard:
    """What a child is registered as: what waits for it, what it was registered as before, or a new device."""
    found = await replacement.take_place(changed, new, address)
    if found is None and (new.sn or new.mac):
        found = await registrations.unheard(changed.connection, new, changed.moment)
    return found or Unheard(new.id, await registrations.insert(changed, new, ownership))


@endpoint("GET", "/v1/devices/{device_id}/children", caller=DEVICE)
async def list_children(services: Services, device: DeviceCaller) -> list[Child]:
    """List the device's children, oldest registration first."""
    return await children.listed(services.postgres, device.id)


ENDPOINTS: tuple[Endpoint, ...] = (register_child, list_children)
