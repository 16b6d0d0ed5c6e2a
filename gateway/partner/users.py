"""The people who look after the models that the partner makes."""

from gateway.api.callers.api_keys import PARTNER_KEY
from gateway.api.endpoint import endpoint
from gateway.api.paging import Page
from gateway.api.scopes import VendorScope
from gateway.organization.users import UsersQuery, users_page
from gateway.permissions import Permission
from gateway.services import Services
from gateway.stores.accounts.members import Person


@endpoint("GET", "/core/v1/partner/users", caller=PARTNER_KEY, permission=Permission.READ)
async def list_users(services: Services, partner: VendorScope, query: UsersQuery) -> Page[Person]:
    """List the people who have a role as partner, or were invited to one."""
    return await users_page(services, partner, query, as_vendor=True)


ENDPOINTS = (list_users,)
