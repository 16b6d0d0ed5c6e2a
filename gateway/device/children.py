"""Children: devices behind a device, which it registers with its own access key.

A child of a claimed parent belongs to the parent's owner from the start and is in the parent's space; one of an
unclaimed parent is claimed with it.
"""

from typing import Any
from uuid import UUID

from msgspec import Struct

from gateway.api.callers.devices import DEVICE
from gateway.api.endpoint import Endpoint, endpoint
from gateway.api.validation import Label
from gateway.device.registration import new_device
from gateway.refusals import NotFound, Unauthenticated
from gateway.services import Services
from gateway.stores.change import change
from gateway.stores.devices import children
from gateway.stores.devices import registration as registrations
from gateway.stores.devices.children import Child
from gateway.stores.devices.identity import DeviceCaller
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
async def register_child(services: Services, device: DeviceCaller, body: NewChild) -> RegisteredChild:
    """Register a child. Until it is heard of or claimed, the same call is answered alike."""
    model_id = uuid_of(body.model_id)
    if model_id is None:
        raise NotFound(registrations.MODEL_UNKNOWN)
    async with change(services) as changed:
        parent = await registrations.lock_parent(changed.connection, device.id)
        if parent is None:
            raise Unauthenticated
        vendor_id, ownership = parent
        model = await registrations.model_for_child(changed.connection, model_id, vendor_id, ownership.organization_id)
        new = new_device(
            services,
            model,
            parent_id=device.id,
            sn=serials.normalized(body.sn or "") or None,
            mac=body.mac,
            cloud_id=None,
            name=body.name,
            sub_model=body.sub_model,
            firmware_version=body.firmware_version,
            details=body.details,
            vouched_for=True,
        )
        if new.sn or new.mac:
            before = await registrations.unheard(changed.connection, new)
            if before is not None:
                return RegisteredChild(before.id, services.access_key(before.id, before.key_version))
        version = await registrations.insert(changed, new, ownership)
        return RegisteredChild(new.id, services.access_key(new.id, version))


@endpoint("GET", "/v1/devices/{device_id}/children", caller=DEVICE)
async def list_children(services: Services, device: DeviceCaller) -> list[Child]:
    """List the device's children, oldest registration first."""
    return await children.listed(services.postgres, device.id)


ENDPOINTS: tuple[Endpoint, ...] = (register_child, list_children)
