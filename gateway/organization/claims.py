"""Claiming a device."""

from uuid import UUID

from msgspec import Struct

from gateway.callers import OrganizationCaller
from gateway.endpoint import endpoint
from gateway.errors import Refusal
from gateway.services import Gateway
from gateway.stores import claims, held_devices, owned_devices
from gateway.stores.owned_devices import Device
from gateway.stores.reply_writer import publish
from gateway.validation import Label, Name, normalized_mac

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
    errors={404: "No unclaimed device has this proof; a wrong pair and an unknown device are told nothing more."},
)
async def claim_device(gateway: Gateway, organization: OrganizationCaller, body: Claim) -> Device:
    """Claim a registered device, and all devices below it, into a space."""
    owner = organization.organization_id
    if body.cloud_id is not None and (body.mac is not None or body.sn is not None):
        raise Refusal(422, ONE_PROOF)
    if body.cloud_id is None and body.mac is None and body.sn is None:
        raise Refusal(422, ONE_PROOF)
    async with gateway.postgres.acquire() as connection:
        async with connection.transaction():
            await held_devices.space_project(connection, owner, body.space_id)
            if body.cloud_id is not None:
                device_id = await claims.by_cloud_id(connection, owner, body.cloud_id)
            elif body.mac is None:
                raise Refusal(422, "Mac can't be blank")
            elif body.sn is None:
                raise Refusal(422, "Sn can't be blank")
            else:
                device_id = await claims.by_mac_and_sn(connection, owner, normalized_mac(body.mac), body.sn)
            claimed = await claims.claim(
                connection, owner, device_id, space_id=body.space_id, name=body.name, moment=gateway.clock()
            )
        await publish(gateway, connection, claimed)
        return await owned_devices.read(connection, owner, device_id)


ENDPOINTS = (claim_device,)
