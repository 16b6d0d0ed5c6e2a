"""Licences for devices: their vendor makes, gives, changes and takes them back; their owner looks at those it has."""

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from msgspec import UNSET, Meta, Struct, UnsetType

from gateway.api import paging
from gateway.api.callers.api_keys import OWNER, VENDOR
from gateway.api.endpoint import Success, endpoint
from gateway.api.paging import Page, PageQuery, Window
from gateway.api.scopes import VendorScope, WholeScope
from gateway.api.validation import Label
from gateway.permissions import Permission
from gateway.services import Services
from gateway.stores.change import change
from gateway.stores.licenses import owner_side, vendor_side
from gateway.stores.licenses.owner_side import DeviceLicense
from gateway.stores.licenses.vendor_side import DATA_BYTES_MAX, Edit, License
from schemas.licenses import Step, Word
from schemas.secrets import LICENSE_KEYS

PATH = "/licenses"
ONE = f"{PATH}/{{license_id}}"
UNKNOWN = {404: "License not found."}
ILLEGAL = {404: "License not found.", 422: "The licence is in a state that this one cannot follow."}
Data = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=DATA_BYTES_MAX,
        description="What the device is told; opaque to the gateway. Its UTF-8 bytes are signed, at most 16 KiB.",
        examples=['{"feature":"night mode","until":"2027-01-01"}'],
    ),
]

End = Annotated[datetime, Meta(tz=True, description="When the device stops using it by itself; null is never.")]


class LicensesQuery(PageQuery, kw_only=True):
    """Which licences: in a state, of a device, of a model."""

    state: Word | None = None
    device_id: UUID | None = None
    model_id: UUID | None = None


class NewLicense(Struct, kw_only=True):
    """A licence for some device of a model."""

    model_id: UUID
    data: Data
    name: Label = ""
    expires_at: End | None = None


class LicenseChange(Struct, kw_only=True):
    """What changes of a licence; members that are absent stay."""

    name: Label | UnsetType = UNSET
    data: Data | UnsetType = UNSET
    expires_at: End | UnsetType | None = UNSET


class Extension(Struct, kw_only=True):
    """Until when a licence is good from now on (null: for ever), and what it says then, where that changes."""

    expires_at: End | None
    data: Data | UnsetType = UNSET


class Assignment(Struct):
    """Which device gets the licence."""

    device_id: UUID


@endpoint(
    "GET",
    PATH,
    doors=(OWNER.but(answer=Page[DeviceLicense]), VENDOR.but(answer=Page[License])),
    permission=Permission.READ,
)
async def list_licenses(
    services: Services, side: WholeScope, query: LicensesQuery
) -> Page[DeviceLicense] | Page[License]:
    """List licences, oldest first."""
    seen: Callable[..., Awaitable[list[Any]]] = vendor_side.page if side.as_vendor else owner_side.page

    async def read(window: Window) -> list[Any]:
        return await seen(
            services.postgres,
            side.id,
            state=query.state,
            model_id=query.model_id,
            device_id=query.device_id,
            after=None if window.after is None else UUID(str(window.after[0])),
            offset=window.offset,
            limit=window.limit,
        )

    scope = ("licenses", *side.whose, query.state, query.model_id, query.device_id)
    return await paging.read_page(services, scope, query.page, query.per_page, read, lambda one: [str(one.id)])


@endpoint(
    "POST",
    PATH,
    doors=(VENDOR,),
    permission=Permission.DEVELOP,
    status=201,
    errors={404: "Model not found."},
)
async def create_license(services: Services, partner: VendorScope, body: NewLicense) -> License:
    """Make a licence, signed by the partner's key."""
    async with change(services) as changed:
        return await vendor_side.create(
            changed,
            services.settings.vault(LICENSE_KEYS),
            partner.id,
            model_id=body.model_id,
            name=body.name,
            data=body.data,
            expires_at=body.expires_at,
        )


@endpoint(
    "GET",
    ONE,
    doors=(OWNER.but(answer=DeviceLicense), VENDOR.but(answer=License)),
    permission=Permission.READ,
    errors=UNKNOWN,
)
async def read_license(services: Services, side: WholeScope, license_id: UUID) -> DeviceLicense | License:
    """Read one licence."""
    if side.as_vendor:
        return await vendor_side.read(services.postgres, side.id, license_id)
    return await owner_side.read(services.postgres, side.id, license_id)


@endpoint(
    "PATCH",
    ONE,
    doors=(VENDOR,),
    permission=Permission.DEVELOP,
    errors=ILLEGAL,
)
async def change_license(services: Services, partner: VendorScope, license_id: UUID, body: LicenseChange) -> License:
    """Change a licence; what its device uses is signed anew and becomes pending_update, which the device is told."""
    return await _edited(services, partner, license_id, body, in_use=False)


@endpoint(
    "DELETE",
    ONE,
    doors=(VENDOR,),
    permission=Permission.DEVELOP,
    errors={404: "License not found.", 422: "A device has it: revoke it first."},
)
async def delete_license(services: Services, partner: VendorScope, license_id: UUID) -> Success:
    """Delete a licence that is available, or was removed."""
    async with change(services) as changed:
        await vendor_side.delete(changed, partner.id, license_id)
    return Success()


@endpoint(
    "POST",
    f"{ONE}/assign",
    doors=(VENDOR,),
    permission=Permission.DEVELOP,
    errors={404: "License or device not found.", 422: "The licence has a device, or is of another model."},
)
async def assign_license(services: Services, partner: VendorScope, license_id: UUID, body: Assignment) -> License:
    """Give an available licence to a device of its model, which is told with its next answer."""
    async with change(services) as changed:
        return await vendor_side.assign(changed, partner.id, license_id, body.device_id)


@endpoint(
    "POST",
    f"{ONE}/extend",
    doors=(VENDOR,),
    permission=Permission.DEVELOP,
    errors=ILLEGAL,
)
async def extend_license(services: Services, partner: VendorScope, license_id: UUID, body: Extension) -> License:
    """Give a licence in use another end, and so another signature; its device is told."""
    wanted = LicenseChange(data=body.data, expires_at=body.expires_at)
    return await _edited(services, partner, license_id, wanted, in_use=True)


@endpoint(
    "POST",
    f"{ONE}/revoke",
    doors=(VENDOR,),
    permission=Permission.DEVELOP,
    errors=ILLEGAL,
)
async def revoke_license(services: Services, partner: VendorScope, license_id: UUID) -> License:
    """Take a licence in use back: its device is told to remove it."""
    async with change(services) as changed:
        return await vendor_side.step(changed, partner.id, license_id, Step.REVOKE)


@endpoint(
    "POST",
    f"{ONE}/retry",
    doors=(VENDOR,),
    permission=Permission.DEVELOP,
    errors=ILLEGAL,
)
async def retry_license(services: Services, partner: VendorScope, license_id: UUID) -> License:
    """Have the device try again what it failed to do."""
    async with change(services) as changed:
        return await vendor_side.step(changed, partner.id, license_id, Step.RETRY)


async def _edited(
    services: Services, partner: VendorScope, license_id: UUID, body: LicenseChange, *, in_use: bool
) -> License:
    wanted = Edit(name=body.name, data=body.data, expires_at=body.expires_at)
    async with change(services) as changed:
        vault = services.settings.vault(LICENSE_KEYS)
        return await vendor_side.edit(changed, vault, partner.id, license_id, wanted, in_use=in_use)


ENDPOINTS = (
    list_licenses,
    create_license,
    read_license,
    change_license,
    delete_license,
    assign_license,
    extend_license,
    revoke_license,
    retry_license,
)
