"""API keys of the organization: as owner of devices (organization) and as vendor of models (partner)."""

from uuid import UUID

from msgspec import Struct

from gateway.api import paging
from gateway.api.callers.api_keys import ORGANIZATION_KEY
from gateway.api.endpoint import Success, endpoint
from gateway.api.paging import Page, PageQuery
from gateway.api.scopes import OrganizationScope
from gateway.api.validation import Name
from gateway.permissions import KeyKind, Permission, Role
from gateway.refusals import DoesNotFit
from gateway.services import Services
from gateway.stores.accounts import credentials
from gateway.stores.accounts.credentials import ApiKey


class NewApiKey(Struct):
    """What a key is for, and what it may do: unless told otherwise, all that keys of its kind may."""

    kind: KeyKind
    name: Name
    role: Role | None = None


class MintedApiKey(Struct):
    """A new key; `key` is shown this once."""

    id: UUID
    kind: KeyKind
    role: Role
    name: str
    key: str


@endpoint("POST", "/core/v1/organization/api_keys", caller=ORGANIZATION_KEY, permission=Permission.ORGANIZE, status=201)
async def create_api_key(services: Services, organization: OrganizationScope, body: NewApiKey) -> MintedApiKey:
    """Create an API key."""
    minted = await credentials.mint_and_store(
        services.postgres, body.kind, owner_id=organization.id, name=body.name, role=body.role
    )
    made = await credentials.read_api_key(services.postgres, organization.id, minted.id)
    return MintedApiKey(made.id, made.kind, made.role, made.name, minted.text)


@endpoint("GET", "/core/v1/organization/api_keys", caller=ORGANIZATION_KEY, permission=Permission.READ)
async def list_api_keys(services: Services, organization: OrganizationScope, query: PageQuery) -> Page[ApiKey]:
    """List the API keys, oldest first, revoked ones too."""
    rows = await credentials.api_keys(services.postgres, organization.id, *paging.slice_of(query))
    return paging.cut(rows, query.page, query.per_page)


@endpoint(
    "DELETE",
    "/core/v1/organization/api_keys/{key_id}",
    caller=ORGANIZATION_KEY,
    permission=Permission.ORGANIZE,
    errors={404: "API key not found.", 422: "A key cannot revoke itself."},
)
async def revoke_api_key(services: Services, organization: OrganizationScope, key_id: UUID) -> Success:
    """Revoke an API key; it ends at once."""
    if organization.principal.key_id == str(key_id):
        raise DoesNotFit("A key cannot revoke itself: use another one")
    await credentials.revoke_api_key(services.postgres, organization.id, key_id)
    return Success()


ENDPOINTS = (create_api_key, list_api_keys, revoke_api_key)
