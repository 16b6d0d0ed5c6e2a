"""Claiming as clients of `/v2` do it: look up what is printed on a device, then claim it into a project.

What is printed is the proof: the Cloud ID, or MAC address and serial number as `mac/sn`. It stands for the device until
that is claimed; the id of a device proves nothing, since others may have seen it.
"""

from typing import Annotated, Literal
from uuid import UUID

import msgspec
from msgspec import Meta, Struct
from starlette.requests import Request

from gateway.api import claim_limit
from gateway.api.callers.service_accounts import SERVICE_ACCOUNT
from gateway.api.endpoint import Endpoint, endpoint
from gateway.api.principals import Principal
from gateway.api.scopes import ProjectScope
from gateway.permissions import Permission
from gateway.refusals import DoesNotFit, NotFound
from gateway.services import Services
from gateway.stores.change import change_over
from gateway.stores.devices import claiming
from gateway.stores.devices.claiming import ClaimableDevice, NamedModel
from gateway.stores.tenants import spaces
from gateway.v2.organizations import PREFIX
from schemas.events import rfc3339
from schemas.postgres import Connection

DEVICES_MAX = 1_000
NO_KITS = "Devices are claimed one by one here: there are no kits"

Identifier = Annotated[str, Meta(min_length=1, max_length=600)]
Identifiers = Annotated[list[Identifier], Meta(max_length=DEVICES_MAX)]


Named = Annotated[str, Meta(min_length=1, max_length=255)]


class ClaimQuery(Struct):
    """What is printed on the device; and who would claim it, `organizations/<id>` (default: the caller's).

    Where devices of several models have it, `vendor` (name or short code) or `model` (name or id) say which is meant.
    """

    identifier: Identifier
    organization: str = ""
    vendor: Named | None = None
    model: Named | None = None


class ClaimDevice(Struct, rename="camel"):
    """A device. As long as it is not claimed, `deviceId` is what it is claimed by.

    Before a secret is given to it, somebody should look whether it is of the right model, and when it was seen.
    """

    device_id: str
    device_type: str
    product_number: str
    is_claimed: bool
    vendor: str
    model: str
    first_seen_time: str
    last_seen_time: str | None
    claimed_with_it: int
    """How many devices come along that it registered."""


class ClaimInfo(Struct):
    """What an identifier stands for."""

    type: Literal["DEVICE"]
    device: ClaimDevice


class DryRun(Struct):
    """With `dryRun` (the default) nothing is claimed; the answer is as if."""

    dry_run: bool = True


class NewClaims(Struct, rename="camel"):
    """What is printed on the devices; and of which vendor or model they all are, where the caller knows."""

    device_ids: Identifiers = []
    kit_ids: Identifiers = []
    vendor: Named | None = None
    model: Named | None = None


class DeviceClaimError(Struct, rename="camel"):
    """A device that stays unclaimed: NOT_FOUND, ALREADY_CLAIMED, or AMBIGUOUS until the model is named."""

    device_id: str
    code: str
    message: str


class KitClaimError(Struct, rename="camel"):
    """A kit that was not found."""

    kit_id: str
    code: str
    message: str


class ClaimErrors(Struct):
    """What was not claimed."""

    devices: list[DeviceClaimError]
    kits: list[KitClaimError]


class Claimed(Struct, rename="camel"):
    """What was claimed, or with `dryRun` would be, and what not."""

    claimed_devices: list[ClaimDevice]
    claim_errors: ClaimErrors


def _device(found: ClaimableDevice, identifier: str) -> ClaimDevice:
    return ClaimDevice(
        device_id=str(found.id) if found.claimed else identifier,
        device_type=found.device_type,
        product_number=found.product_number,
        is_claimed=found.claimed,
        vendor=found.vendor,
        model=found.model,
        first_seen_time=rfc3339(found.first_seen_at),
        last_seen_time=None if found.last_seen_at is None else rfc3339(found.last_seen_at),
        claimed_with_it=sum(below.devices for below in found.below),
    )


@endpoint(
    "GET",
    "/v2/claimInfo",
    caller=SERVICE_ACCOUNT,
    errors={
        400: "Devices of several models have this printed on them, and none of them is named.",
        404: "No device has this printed on it, or another organization owns it; nothing more is told.",
    },
)
async def claim_info(services: Services, request: Request, account: Principal, query: ClaimQuery) -> ClaimInfo:
    """Look up what is printed on a device."""
    owners = {grant.organization_id for grant in account.grants}
    if query.organization:
        owners = {owner for owner in owners if query.organization == f"{PREFIX}{owner}"}
    if not owners:
        raise NotFound(claiming.UNKNOWN)
    named = NamedModel(query.vendor, query.model)
    async with claim_limit.guarded(services, request, min(owners)), services.postgres.acquire() as connection:
        for owner in sorted(owners):
            found = await claiming.by_identifier(connection, owner, query.identifier, named)
            if found is not None:
                return ClaimInfo("DEVICE", _device(found, query.identifier))
        raise NotFound(claiming.UNKNOWN)


@endpoint("POST", "/v2/projects/{project}/devices:claim", caller=SERVICE_ACCOUNT, permission=Permission.ADMINISTER)
async def claim_devices(
    services: Services, request: Request, project: ProjectScope, query: DryRun, body: NewClaims
) -> Claimed:
    """Claim devices, with those below that they registered, into the project's space `Unsorted`."""
    named = NamedModel(body.vendor, body.model)
    done: list[ClaimDevice] = []
    errors: list[DeviceClaimError] = []
    async with (
        claim_limit.guarded(services, request, project.organization_id) as guesses,
        services.postgres.acquire() as connection,
    ):
        for identifier in dict.fromkeys(body.device_ids):
            try:
                found = await claiming.by_identifier(connection, project.organization_id, identifier, named)
            except DoesNotFit as several:
                errors.append(DeviceClaimError(identifier, "AMBIGUOUS", several.text))
                continue
            if found is not None and not found.claimed and not query.dry_run:
                is_ours = await _claim(services, connection, project, found.id)
                found = msgspec.structs.replace(found, claimed=True)
                if is_ours:
                    done.append(_device(found, identifier))
                    continue
            if found is None:
                guesses.wrong += 1
                errors.append(DeviceClaimError(identifier, "NOT_FOUND", claiming.UNKNOWN))
            elif found.claimed:
                errors.append(DeviceClaimError(identifier, "ALREADY_CLAIMED", claiming.ALREADY))
            else:
                done.append(_device(found, identifier))
    kits = [KitClaimError(kit, "NOT_FOUND", NO_KITS) for kit in dict.fromkeys(body.kit_ids)]
    return Claimed(done, ClaimErrors(errors, kits))


async def _claim(services: Services, connection: Connection, project: ProjectScope, device_id: UUID) -> bool:
    """Claim one device; False when somebody else was quicker."""
    try:
        async with change_over(services, connection) as changed:
            space_id = await spaces.unsorted(connection, project.organization_id, project.id)
            await claiming.claim(changed, project.organization_id, device_id, space_id=space_id)
    except (NotFound, DoesNotFit) as refused:
        if refused.text not in (claiming.UNKNOWN, claiming.ALREADY):
            raise
        return False
    return True


ENDPOINTS: tuple[Endpoint, ...] = (claim_info, claim_devices)
