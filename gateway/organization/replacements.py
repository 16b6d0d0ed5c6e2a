"""Which unit a device is: another one takes its place, the same one comes back, and who did what to that, and when."""

from datetime import datetime
from uuid import UUID

from msgspec import Struct
from starlette.requests import Request

from gateway import identifiers
from gateway.api import claim_limit, paging
from gateway.api.callers.api_keys import ORGANIZATION_KEY
from gateway.api.endpoint import Success, endpoint
from gateway.api.paging import Page, PageQuery, Window
from gateway.api.scopes import OrganizationScope
from gateway.api.validation import Label
from gateway.permissions import Permission
from gateway.services import Services
from gateway.stores.change import change
from gateway.stores.devices import audit, locking, owner_view, replacement
from gateway.stores.devices.audit import Actor, AuditEntry
from gateway.stores.devices.owner_view import OwnedDevice
from gateway.stores.devices.replacement import Identity

UNKNOWN = {404: "Device not found."}


class NewUnit(Struct):
    """What is printed on the unit that is to take the device's place: `sn`, and by the model `mac` or `cloud_id`."""

    sn: Label
    mac: Label | None = None
    cloud_id: Label | None = None


class ConfirmedReturn(Struct):
    """Until when the unit may register again, once."""

    success: bool
    until: datetime


@endpoint(
    "POST",
    "/core/v1/organization/devices/{device_id}/replace",
    caller=ORGANIZATION_KEY,
    permission=Permission.ADMINISTER,
    errors={
        404: "Device not found.",
        422: "A member does not fit, or the organization has that unit already.",
        429: "Too many units that have not registered, named by the organization or from the address.",
    },
)
async def replace_device(
    services: Services, request: Request, organization: OrganizationScope, device_id: UUID, body: NewUnit
) -> OwnedDevice:
    """Have another unit of the same model take the device's place as soon as it registers.

    It gets the device's id, name, space, config, licences, labels and history, and keys of its own; from then on the
    keys of the unit before are refused. Until then this can be undone, or another unit be named.
    """
    owner = organization.id
    async with claim_limit.guarded(services, request, owner) as guesses, change(services) as changed:
        proof = await replacement.proof_of(changed.connection, owner, device_id)
        by_cloud_id = proof.authentication == "cloud_id"
        unit = Identity(
            identifiers.serial_number(body.sn),
            None if by_cloud_id else identifiers.normalized_mac(identifiers.filled("Mac", body.mac)),
            identifiers.cloud_id(body.cloud_id, proof.short_code) if by_cloud_id else None,
        )
        if not await replacement.request(changed, owner, device_id, unit, _actor(organization)):
            # It would be claimed before it registers: as with claims, nobody may try many.
            guesses.wrong += 1
    return await owner_view.read(services.postgres, owner, device_id)


@endpoint(
    "DELETE",
    "/core/v1/organization/devices/{device_id}/replace",
    caller=ORGANIZATION_KEY,
    permission=Permission.ADMINISTER,
    errors={404: "Device not found, or no unit is to take its place (any more)."},
)
async def undo_replacement(services: Services, organization: OrganizationScope, device_id: UUID) -> Success:
    """Undo a replacement whose unit has not registered."""
    async with change(services) as changed:
        device = await locking.lock(changed.connection, organization.id, device_id)
        await replacement.undo(changed, device, _actor(organization))
    return Success()


@endpoint(
    "POST",
    "/core/v1/organization/devices/{device_id}/confirm_return",
    caller=ORGANIZATION_KEY,
    permission=Permission.ADMINISTER,
    errors={404: "Device not found.", 422: "No unit asked to come back within the last 24 hours."},
)
async def confirm_return(services: Services, organization: OrganizationScope, device_id: UUID) -> ConfirmedReturn:
    """Let the unit that asked to come back do so: its next try to register gets a new key, and the one before ends.

    Look at `asked_to_come_back` first: a serial number and a hardware key can be copied.
    """
    async with change(services) as changed:
        device = await locking.lock(changed.connection, organization.id, device_id)
        return ConfirmedReturn(True, await replacement.confirm_return(changed, device, _actor(organization)))


@endpoint(
    "GET",
    "/core/v1/organization/devices/{device_id}/audit",
    caller=ORGANIZATION_KEY,
    permission=Permission.READ,
    errors=UNKNOWN,
)
async def list_audit(
    services: Services, organization: OrganizationScope, device_id: UUID, query: PageQuery
) -> Page[AuditEntry]:
    """List who did what to the device's keys, and to which unit it is, newest first; also of a deleted device."""
    await owner_view.ever_owned(services.postgres, organization.id, device_id)

    async def read(window: Window) -> list[AuditEntry]:
        return await audit.page(
            services.postgres,
            organization.id,
            device_id,
            before=None if window.after is None else int(window.after[0]),
            offset=window.offset,
            limit=window.limit,
        )

    return await paging.read_page(
        services,
        ("audit", organization.id, device_id),
        query.page,
        query.per_page,
        read,
        boundary=lambda entry: [entry.id],
    )


def _actor(organization: OrganizationScope) -> Actor:
    return Actor("owner", organization.principal.id)


ENDPOINTS = (replace_device, undo_replacement, confirm_return, list_audit)
