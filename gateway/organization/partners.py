"""The vendors whose devices the organization may claim, beside its own and those of public models."""

from uuid import UUID

from msgspec import Struct

from gateway.api import paging
from gateway.api.callers.api_keys import ORGANIZATION_KEY
from gateway.api.endpoint import Success, endpoint
from gateway.api.paging import Page, PageQuery
from gateway.api.scopes import OrganizationScope
from gateway.api.validation import Name
from gateway.permissions import Permission
from gateway.services import Services
from gateway.stores.tenants import partners
from gateway.stores.tenants.partners import TrustedVendor


class NewPartner(Struct):
    """A vendor, by the short code that its Cloud IDs begin with."""

    short_code: Name


@endpoint(
    "POST",
    "/core/v1/organization/partners",
    caller=ORGANIZATION_KEY,
    permission=Permission.ORGANIZE,
    status=201,
    errors={422: "No vendor has this short code."},
)
async def add_partner(services: Services, organization: OrganizationScope, body: NewPartner) -> TrustedVendor:
    """Trust a vendor: devices of all its models may be claimed."""
    return await partners.add(services.postgres, organization.id, body.short_code)


@endpoint("GET", "/core/v1/organization/partners", caller=ORGANIZATION_KEY, permission=Permission.READ)
async def list_partners(services: Services, organization: OrganizationScope, query: PageQuery) -> Page[TrustedVendor]:
    """List the vendors that the organization trusts, by name."""
    rows = await partners.listed(services.postgres, organization.id, *paging.slice_of(query))
    return paging.cut(rows, query.page, query.per_page)


@endpoint(
    "DELETE",
    "/core/v1/organization/partners/{partner_id}",
    caller=ORGANIZATION_KEY,
    permission=Permission.ORGANIZE,
    errors={404: "Partner not found."},
)
async def remove_partner(services: Services, organization: OrganizationScope, partner_id: UUID) -> Success:
    """Trust a vendor no longer; its devices that were claimed stay."""
    await partners.remove(services.postgres, organization.id, partner_id)
    return Success()


ENDPOINTS = (add_partner, list_partners, remove_partner)
