"""The licences of the organization's devices, to look at: their vendors make, give and revoke them."""

from uuid import UUID

from gateway.api import paging
from gateway.api.callers.api_keys import ORGANIZATION_KEY
from gateway.api.endpoint import endpoint
from gateway.api.paging import Page, PageQuery, Window
from gateway.api.scopes import OrganizationScope
from gateway.permissions import Permission
from gateway.services import Services
from gateway.stores.licenses import owner_side
from gateway.stores.licenses.owner_side import DeviceLicense
from schemas.licenses import Word


class LicensesQuery(PageQuery, kw_only=True):
    """Which licences: in a state, of a device, of a model."""

    state: Word | None = None
    device_id: UUID | None = None
    model_id: UUID | None = None


@endpoint("GET", "/core/v1/organization/licenses", caller=ORGANIZATION_KEY, permission=Permission.READ)
async def list_licenses(
    services: Services, organization: OrganizationScope, query: LicensesQuery
) -> Page[DeviceLicense]:
    """List the licences of the organization's devices, oldest first."""

    async def read(window: Window) -> list[DeviceLicense]:
        return await owner_side.page(
            services.postgres,
            organization.id,
            state=query.state,
            model_id=query.model_id,
            device_id=query.device_id,
            after=None if window.after is None else UUID(str(window.after[0])),
            offset=window.offset,
            limit=window.limit,
        )

    scope = ("organization licenses", organization.id, query.state, query.model_id, query.device_id)
    return await paging.read_page(services, scope, query.page, query.per_page, read, boundary=lambda one: [str(one.id)])


@endpoint(
    "GET",
    "/core/v1/organization/licenses/{license_id}",
    caller=ORGANIZATION_KEY,
    permission=Permission.READ,
    errors={404: "License not found."},
)
async def read_license(services: Services, organization: OrganizationScope, license_id: UUID) -> DeviceLicense:
    """Read one licence."""
    return await owner_side.read(services.postgres, organization.id, license_id)


ENDPOINTS = (list_licenses, read_license)
