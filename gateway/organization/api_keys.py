"""API keys of the organization: as owner of devices (organization) and as vendor of models (partner)."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from msgspec import Meta, Struct

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
from gateway.stores.accounts.credentials import LIFE_MAX, ApiKey

OUTLIVES = "Expires at must not be later than {:%Y-%m-%d %H:%M:%S} UTC, when the key that makes it ends"


class NewApiKey(Struct):
    """What a key is for, and what it may do: unless told otherwise, all that keys of its kind may, for good.

    What a key that expires makes ends with it: by itself where no time is given; one beyond that is refused.
    """

    kind: KeyKind
    name: Name
    role: Role | None = None
    expires_at: Annotated[datetime, Meta(tz=True, description="From then on its calls are 401.")] | None = None


class MintedApiKey(Struct):
    """A new key; `key` is shown this once."""

    id: UUID
    kind: KeyKind
    role: Role
    name: str
    expires_at: datetime | None
    key: str


@endpoint("POST", "/core/v1/organization/api_keys", caller=ORGANIZATION_KEY, permission=Permission.ORGANIZE, status=201)
async def create_api_key(services: Services, organization: OrganizationScope, body: NewApiKey) -> MintedApiKey:
    """Create an API key."""
    if body.expires_at is not None and not services.clock() < body.expires_at < services.clock() + LIFE_MAX:
        raise DoesNotFit(f"Expires at must be in the future, and at most {LIFE_MAX.days // 365} years ahead")
    latest = organization.principal.expires_at
    if latest is not None and body.expires_at is not None and body.expires_at > latest:
        raise DoesNotFit(OUTLIVES.format(latest))
    minted = await credentials.mint_and_store(
        services.postgres,
        body.kind,
        owner_id=organization.id,
        name=body.name,
        role=body.role,
        expires_at=body.expires_at or latest,
    )
    made = await credentials.read_api_key(services.postgres, organization.id, minted.id)
    return MintedApiKey(made.id, made.kind, made.role, made.name, made.expires_at, minted.text)


@endpoint("GET", "/core/v1/organization/api_keys", caller=ORGANIZATION_KEY, permission=Permission.READ)
async def list_api_keys(services: Services, organization: OrganizationScope, query: PageQuery) -> Page[ApiKey]:
    """List the API keys, oldest first, those that were revoked or have expired too."""
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
