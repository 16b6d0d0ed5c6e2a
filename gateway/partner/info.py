"""Whose partner key it is, and how much there is: what programs call to try a key out."""

from datetime import datetime
from uuid import UUID

from msgspec import Struct

from gateway.api.callers.api_keys import PARTNER_KEY
from gateway.api.endpoint import endpoint
from gateway.api.scopes import VendorScope
from gateway.permissions import Permission
from gateway.services import Services
from gateway.stores.tenants import organizations
from gateway.stores.tenants.organizations import VendorCounts


class PartnerInfo(Struct):
    """The vendor. Cloud IDs of its models begin with `short_code`."""

    id: UUID
    name: str
    short_code: str
    created_at: datetime
    counts: VendorCounts


@endpoint("GET", "/core/v1/partner/info", caller=PARTNER_KEY, permission=Permission.READ)
async def read_partner_info(services: Services, partner: VendorScope) -> PartnerInfo:
    """Read the vendor's name, short code and counts."""
    found = await organizations.read(services.postgres, partner.id)
    counts = await organizations.vendor_counts(services.postgres, partner.id)
    return PartnerInfo(found.id, found.name, found.short_code, found.created_at, counts)


ENDPOINTS = (read_partner_info,)
