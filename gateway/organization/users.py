"""The people of an organization, or of a vendor, and what each may do. Roles are what other systems call groups."""

from gateway.api import paging
from gateway.api.callers.api_keys import BOTH
from gateway.api.endpoint import endpoint
from gateway.api.paging import Page, PageQuery, Window
from gateway.api.scopes import WholeScope
from gateway.permissions import Permission, Role
from gateway.services import Services
from gateway.stores.accounts import members
from gateway.stores.accounts.members import Person


class UsersQuery(PageQuery, kw_only=True):
    """Which people: those who have this role somewhere."""

    role: Role | None = None


@endpoint("GET", "/users", doors=BOTH, permission=Permission.READ)
async def list_users(services: Services, side: WholeScope, query: UsersQuery) -> Page[Person]:
    """List the people who have a role here, as an owner's also in one of its projects, or were invited to one."""

    async def read(window: Window) -> list[Person]:
        after = "" if window.after is None else str(window.after[0])
        limit = window.offset + window.limit
        found = await members.people(
            services.postgres, side.id, as_vendor=side.as_vendor, role=query.role, after=after, limit=limit
        )
        return found[window.offset :]

    told = ("users", *side.whose, query.role)
    return await paging.read_page(services, told, query.page, query.per_page, read, boundary=lambda one: [one.email])


ENDPOINTS = (list_users,)
