"""The people of the organization, and what each may do. Roles are what other systems call groups of users."""

from gateway.api import paging
from gateway.api.callers.api_keys import ORGANIZATION_KEY
from gateway.api.endpoint import endpoint
from gateway.api.paging import Page, PageQuery, Window
from gateway.api.scopes import OrganizationScope, Scope
from gateway.permissions import Permission, Role
from gateway.services import Services
from gateway.stores.accounts import members
from gateway.stores.accounts.members import Person


class UsersQuery(PageQuery, kw_only=True):
    """Which people: those who have this role somewhere."""

    role: Role | None = None


@endpoint("GET", "/core/v1/organization/users", caller=ORGANIZATION_KEY, permission=Permission.READ)
async def list_users(services: Services, organization: OrganizationScope, query: UsersQuery) -> Page[Person]:
    """List the people who have a role in the organization or in one of its projects, or were invited to one."""
    return await users_page(services, organization, query, as_vendor=False)


async def users_page(services: Services, scope: Scope, query: UsersQuery, *, as_vendor: bool) -> Page[Person]:
    """A page of the people of an organization, as owner or as vendor, by address."""

    async def read(window: Window) -> list[Person]:
        after = "" if window.after is None else str(window.after[0])
        limit = window.offset + window.limit
        found = await members.people(
            services.postgres, scope.id, as_vendor=as_vendor, role=query.role, after=after, limit=limit
        )
        return found[window.offset :]

    told = ("users", as_vendor, scope.id, query.role)
    return await paging.read_page(services, told, query.page, query.per_page, read, boundary=lambda one: [one.email])


ENDPOINTS = (list_users,)
