"""Organizations that a vendor makes for its customers: they trust the vendor from the start, and are their own."""

from uuid import UUID

from msgspec import Struct

from gateway.api.callers.api_keys import PARTNER_KEY
from gateway.api.endpoint import endpoint
from gateway.api.scopes import VendorScope
from gateway.api.validation import Named
from gateway.permissions import Permission
from gateway.refusals import DoesNotFit, NotPermitted
from gateway.services import Services
from gateway.stores.accounts import credentials
from gateway.stores.tenants import organizations, partners

MADE_MAX = 1_000
"""Organizations that one vendor makes."""
ENDS = "A key that expires makes no organization: the customer's first key would outlive it"
TOO_MANY = f"A partner makes at most {MADE_MAX} organizations"


class CustomerOrganization(Struct):
    """A new organization; `organization_key`, which may do all in it, is shown this once."""

    id: UUID
    name: str
    short_code: str
    organization_key: str


@endpoint(
    "POST",
    "/core/v1/partner/organizations",
    caller=PARTNER_KEY,
    permission=Permission.ORGANIZE,
    status=201,
    errors={422: f"The name does not fit, or the partner made {MADE_MAX} organizations."},
)
async def create_organization(services: Services, partner: VendorScope, body: Named) -> CustomerOrganization:
    """Make an organization for a customer, who gets its key and trusts the partner, which may do nothing in it.

    The key is for good, so none that expires makes one.
    """
    if partner.principal.expires_at is not None:
        raise NotPermitted(ENDS)
    async with services.postgres.acquire() as connection, connection.transaction():
        vendor = await organizations.read(connection, partner.id)
        made = await organizations.create(connection, body.name)
        if await organizations.note_maker(connection, made.id, vendor.id) > MADE_MAX:
            raise DoesNotFit(TOO_MANY)
        await partners.add(connection, made.id, vendor.short_code)
        key = await credentials.mint_and_store(connection, "organization", owner_id=made.id, name="First key")
    return CustomerOrganization(made.id, made.name, made.short_code, key.text)


ENDPOINTS = (create_organization,)
