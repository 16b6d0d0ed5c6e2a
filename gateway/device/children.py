"""Children: devices behind a device, which it registers with its own access key.

A child of a claimed parent belongs to the parent's owner from the start and is in the parent's space; one of an
unclaimed parent is claimed with it.
"""

from typing import Any
from uuid import UUID

from msgspec import Struct

from gateway.callers import DeviceCaller
from gateway.device.registration import access_key, new_device, publish_new
from gateway.endpoint import Endpoint, endpoint
from gateway.errors import Refusal
from gateway.services import Gateway
from gateway.stores import children, devices, registrations
from gateway.stores.children import Child
from gateway.validation import Label


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
    status=201,
    errors={404: "Neither the vendor nor the owner of the parent has such a model."},
)
async def register_child(gateway: Gateway, device: DeviceCaller, body: NewChild) -> RegisteredChild:
    """Register a child."""
    model_id = _model_id(body.model_id)
    async with gateway.postgres.acquire() as connection:
        async with connection.transaction():
            parent = await registrations.hold_parent(connection, device.id)
            if parent is None:
                raise devices.gone()
            vendor_id, place = parent
            model = await registrations.model_for_child(connection, model_id, vendor_id, place.organization_id)
            new = new_device(
                gateway,
                model,
                parent_id=device.id,
                sn=body.sn or None,
                mac=body.mac,
                cloud_id=None,
                name=body.name,
                sub_model=body.sub_model,
                firmware_version=body.firmware_version,
                details=body.details,
            )
            await registrations.insert(connection, new, place, gateway.clock())
        await publish_new(gateway, connection, new, place)
    return RegisteredChild(new.id, access_key(gateway, new.id))


@endpoint("GET", "/v1/devices/{device_id}/children")
async def list_children(gateway: Gateway, device: DeviceCaller) -> list[Child]:
    """List the device's children, oldest registration first."""
    return await children.listed(gateway.postgres, device.id)


def _model_id(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise Refusal(404, registrations.MODEL_UNKNOWN) from None


ENDPOINTS: tuple[Endpoint, ...] = (register_child, list_children)
