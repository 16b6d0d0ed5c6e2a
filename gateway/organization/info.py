"""Whose key it is, and how much there is: what programs call to try a key out."""

from datetime import datetime
from uuid import UUID

from msgspec import Struct

from gateway.api.callers.api_keys import ORGANIZATION_KEY
from gateway.api.endpoint import endpoint
from gateway.api.scopes import OrganizationScope
from gateway.permissions import Permission
from gateway.services import Services
from gateway.stores.tenants import organizations
from gateway.stores.tenants.organizations import Counts


class OrganizationInfo(Struct):
    """The organization. Cloud IDs of the models that it makes begin with `short_code`."""

    id: UUID
    name: str
    short_code: str
    created_at: datetime
    counts: Counts


@endpoint("GET", "/core/v1/organization/info", caller=ORGANIZATION_KEY, permission=Permission.READ)
async def read_info(services: Services, organization: OrganizationScope) -> OrganizationInfo:
    """Read the organization's name, short code and counts."""
    found = await organizations.read(services.postgres, organization.id)
    counts = await organizations.counts(services.postgres, organization.id)
    return OrganizationInfo(found.id, found.name, found.short_code, found.created_at, counts)


ENDPOINTS = (read_info,)
