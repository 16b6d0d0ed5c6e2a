"""Claiming a device; or with `dry_run` only seeing which it would be."""

from uuid import UUID

from msgspec import Struct
from starlette.requests import Request

from gateway.api import claim_limit
from gateway.api.callers.api_keys import ORGANIZATION_KEY
from gateway.api.endpoint import endpoint
from gateway.api.scopes import OrganizationScope
from gateway.api.validation import Label
from gateway.identifiers import normalized_mac, serial_number
from gateway.permissions import Permission
from gateway.refusals import DoesNotFit
from gateway.services import Services
from gateway.stores.change import change
from gateway.stores.devices import claiming, owner_view
from gateway.stores.devices.claiming import ClaimableDevice, NamedModel
from gateway.stores.devices.owner_view import OwnedDevice
from gateway.stores.tenants import spaces
from schemas.postgres import Connection

ClaimedOrClaimable = OwnedDevice | ClaimableDevice
ONE_PROOF = "Give either cloud id, or mac and sn"


class Claim(Struct):
    """The proof, exactly one of `cloud_id` and the pair `mac` and `sn`; and where the device is to be.

    `vendor` (name or short code) and `model` (name or id) say what it must be, where the caller knows.
    """

    space_id: UUID
    name: Label | None = None
    cloud_id: Label | None = None
    mac: Label | None = None
    sn: Label | None = None
    vendor: Label | None = None
    model: Label | None = None
    dry_run: bool = False

    def __post_init__(self) -> None:
        for member in ("cloud_id", "mac", "sn", "vendor", "model"):
            if not (getattr(self, member) or "").strip():
                setattr(self, member, None)


@endpoint(
    "POST",
    "/core/v1/organization/devices/claim",
    caller=ORGANIZATION_KEY,
    permission=Permission.ADMINISTER,
    errors={
        404: "No unclaimed device has this proof; a wrong pair and an unknown device are told nothing more.",
        422: "A member does not fit; or devices of several models have this proof, and none of them is named.",
        429: "Too many wrong claims of the organization, or from the address.",
    },
)
async def claim_device(
    services: Services, request: Request, organization: OrganizationScope, body: Claim
) -> ClaimedOrClaimable:
    """Claim a registered device, and those below it that it registered, into a space.

    Look at the model in the answer, and at when the device was first and last seen, before you give it a secret. With
    `dry_run` they are told and nothing is claimed.
    """
    owner = organization.id
    if body.cloud_id is not None and (body.mac is not None or body.sn is not None):
        raise DoesNotFit(ONE_PROOF)
    if body.cloud_id is None and body.mac is None and body.sn is None:
        raise DoesNotFit(ONE_PROOF)
    async with claim_limit.guarded(services, request, owner), change(services) as changed:
        await spaces.keep(changed.connection, owner, body.space_id)
        found = await _by_proof(changed.connection, owner, body)
        if body.dry_run:
            return found
        await claiming.claim(changed, owner, found.id, space_id=body.space_id, name=body.name)
    return await owner_view.read(services.postgres, owner, found.id)


async def _by_proof(connection: Connection, owner: UUID, body: Claim) -> ClaimableDevice:
    named = NamedModel(body.vendor, body.model)
    if body.cloud_id is not None:
        return await claiming.by_cloud_id(connection, owner, body.cloud_id, named)
    if body.mac is None:
        raise DoesNotFit("Mac can't be blank")
    if body.sn is None:
        raise DoesNotFit("Sn can't be blank")
    mac, sn = normalized_mac(body.mac), serial_number(body.sn)
    return await claiming.by_mac_and_sn(connection, owner, mac, sn, named)


ENDPOINTS = (claim_device,)
