"""Licences, as the device fetches what is pending and tells what became of it."""

from datetime import datetime
from typing import Literal
from uuid import UUID

from msgspec import UNSET, Struct, UnsetType

from gateway.api.callers.devices import DEVICE
from gateway.api.endpoint import Endpoint, endpoint
from gateway.api.validation import Label, Text
from gateway.refusals import NotFound
from gateway.services import Services
from gateway.stores.change import change
from gateway.stores.devices.identity import DeviceCaller
from gateway.stores.licenses import device_side
from gateway.stores.licenses.device_side import HeldLicense, OfferedLicense
from schemas.ids import uuid_of
from schemas.licenses import Action


class LicenseOrNothing(Struct):
    """The first licence that is pending; an empty object when none is. `current_time` is for devices with no clock."""

    id: UUID | UnsetType = UNSET
    device_id: UUID | UnsetType = UNSET
    data: str | UnsetType = UNSET
    signature: str | UnsetType = UNSET
    action: Action | UnsetType = UNSET
    expires_at: datetime | UnsetType = UNSET
    current_time: datetime | UnsetType = UNSET


class PendingLicense(Struct, kw_only=True):
    """A licence that is pending; one of `add`, `update` and `remove` is there, and true."""

    id: UUID
    device_id: UUID
    data: str
    signature: str
    add: Literal[True] | UnsetType = UNSET
    update: Literal[True] | UnsetType = UNSET
    remove: Literal[True] | UnsetType = UNSET
    expires_at: datetime | UnsetType = UNSET


class LicenseReport(Struct):
    """What became of a licence: `state` is inuse, removed, error, or pending (verified, and not used yet)."""

    id: str
    state: Label
    error: Text | None = None


@endpoint("GET", "/v1/devices/{device_id}/license", caller=DEVICE)
async def next_license(services: Services, device: DeviceCaller) -> LicenseOrNothing:
    """Read the first licence that is pending: the same one until the device told what became of it."""
    async with services.postgres.acquire() as connection:
        found = await device_side.pending(connection, device.id, 1)
    if not found:
        return LicenseOrNothing()
    first = found[0]
    return LicenseOrNothing(
        first.id,
        first.device_id,
        first.data,
        first.signature,
        first.action,
        first.expires_at or UNSET,
        services.clock(),
    )


@endpoint("GET", "/v1/devices/{device_id}/licenses", caller=DEVICE)
async def pending_licenses(services: Services, device: DeviceCaller) -> list[PendingLicense]:
    """Read all licences that are pending, what waits longest first."""
    async with services.postgres.acquire() as connection:
        return [_shown(one) for one in await device_side.pending(connection, device.id)]


@endpoint(
    "POST",
    "/v1/devices/{device_id}/licenses",
    caller=DEVICE,
    errors={404: "The device has no such licence.", 422: "The licence is in a state that this one cannot follow."},
)
async def report_license(services: Services, device: DeviceCaller, body: LicenseReport) -> HeldLicense:
    """Tell what became of a licence; the same may be told twice."""
    license_id = uuid_of(body.id)
    if license_id is None:
        raise NotFound(device_side.UNKNOWN)
    async with change(services) as changed:
        return await device_side.report(changed, device.id, license_id, body.state, body.error)


def _shown(one: OfferedLicense) -> PendingLicense:
    return PendingLicense(
        id=one.id,
        device_id=one.device_id,
        data=one.data,
        signature=one.signature,
        add=True if one.action == "add" else UNSET,
        update=True if one.action == "update" else UNSET,
        remove=True if one.action == "remove" else UNSET,
        expires_at=one.expires_at or UNSET,
    )


ENDPOINTS: tuple[Endpoint, ...] = (next_license, pending_licenses, report_license)
