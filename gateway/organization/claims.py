"""Claiming a device."""

from uuid import UUID

from msgspec import Struct

from gateway.api.callers.api_keys import ORGANIZATION_KEY
from gateway.api.endpoint import endpoint
from gateway.api.scopes import OrganizationScope
from gateway.api.validation import Label, Name
from gateway.identifiers import normalized_mac, serial_number
from gateway.permissions import Permission
from gateway.refusals import DoesNotFit
from gateway.services import Services
from gateway.stores.change import change
from gateway.stores.devices import claiming, owner_view
from gateway.stores.devices.owner_view import OwnedDevice
from gateway.stores.tenants import spaces

ONE_PROOF = "Give either cloud id, or mac and sn"


class Claim(Struct):
    """The proof, exactly one of `cloud_id` and the pair `mac` and `sn`; and where the device is to be."""

    space_id: UUID
    name: Label | None = None
    cloud_id: Name | None = None
    mac: Name | None = None
    sn: Name | None = None


@endpoint(
    "POST",
    "/core/v1/organization/devices/claim",
    caller=ORGANIZATION_KEY,
    permission=Permission.ADMINISTER,
    errors={404: "No unclaimed device has this proof; a wrong pair and an unknown device are told nothing more."},
)
async def claim_device(services: Services, organization: OrganizationScope, body: Claim) -> OwnedDevice:
    """Claim a registered device, and all devices below it, into a space."""
    owner = organization.id
    if body.cloud_id is not None and (body.mac is not None or body.sn is not None):
        raise DoesNotFit(ONE_PROOF)
    if body.cloud_id is None and body.mac is None and body.sn is None:
        raise DoesNotFit(ONE_PROOF)
    async with change(services) as changed:
        await spaces.keep(changed.connection, owner, body.space_id)
        if body.cloud_id is not None:
            device_id = await claiming.by_cloud_id(changed.connection, owner, body.cloud_id)
        elif body.mac is None:
            raise DoesNotFit("Mac can't be blank")
        elif body.sn is None:
            raise DoesNotFit("Sn can't be blank")
        else:
            device_id = await claiming.by_mac_and_sn(
                changed.connection, owner, normalized_mac(body.mac), serial_number(body.sn)
            )
        await claiming.claim(changed, owner, device_id, space_id=body.space_id, name=body.name)
    return await owner_view.read(services.postgres, owner, device_id)


ENDPOINTS = (claim_device,)
