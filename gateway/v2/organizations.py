"""Organizations as those see them who have a role there."""

from msgspec import Struct

from gateway.api import page_tokens
from gateway.api.callers.service_accounts import SERVICE_ACCOUNT
from gateway.api.endpoint import Endpoint, endpoint
from gateway.api.page_tokens import PageQuery
from gateway.api.principals import Principal
from gateway.api.scopes import OrganizationScope
from gateway.permissions import Permission
from gateway.services import Services
from gateway.stores.tenants import organizations, visible_projects

PREFIX = "organizations/"


class Organization(Struct, rename="camel"):
    """An organization in which the caller has a role."""

    name: str
    display_name: str


class Organizations(Struct, rename="camel"):
    """All of them."""

    organizations: list[Organization]
    next_page_token: str


@endpoint("GET", "/v2/organizations", caller=SERVICE_ACCOUNT)
async def list_organizations(services: Services, account: Principal, query: PageQuery) -> Organizations:
    """List the organizations in which the caller has a role."""
    found = await visible_projects.organizations(services.postgres, {grant.organization_id for grant in account.grants})
    listed = [Organization(f"{PREFIX}{organization_id}", name) for organization_id, name in found]
    return Organizations(*page_tokens.part(listed, query, lambda organization: organization.name))


@endpoint("GET", "/v2/organizations/{organization}", caller=SERVICE_ACCOUNT, permission=Permission.BELONG)
async def read_organization(services: Services, organization: OrganizationScope) -> Organization:
    """Read one organization."""
    found = await organizations.read(services.postgres, organization.id)
    return Organization(f"{PREFIX}{found.id}", found.name)


ENDPOINTS: tuple[Endpoint, ...] = (list_organizations, read_organization)
