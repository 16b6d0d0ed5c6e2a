"""API keys of the organisation: as owner of devices (organization) and as vendor of models (partner)."""

from typing import Literal
from uuid import UUID

from msgspec import Struct
from starlette.requests import Request

from gateway.api import paging
from gateway.api.callers import OrganizationCaller, presented_key
from gateway.api.endpoint import Success, endpoint
from gateway.api.paging import Page, PageQuery
from gateway.api.validation import Name
from gateway.refusals import DoesNotFit
from gateway.services import Services
from gateway.stores.accounts import credentials
from gateway.stores.accounts.credentials import ApiKey
from schemas import ids


class NewApiKey(Struct):
    """What a key is for."""

    kind: Literal["organization", "partner"]
    name: Name


class MintedApiKey(Struct):
    """A new key; `key` is shown this once."""

    id: UUID
    kind: str
    name: str
    key: str


@endpoint("POST", "/core/v1/organization/api_keys", status=201)
async def create_api_key(services: Services, organization: OrganizationCaller, body: NewApiKey) -> MintedApiKey:
    """Create an API key."""
    minted = await credentials.mint_and_store(
        services.postgres, body.kind, owner_id=organization.organization_id, name=body.name
    )
    return MintedApiKey(minted.id, body.kind, body.name, minted.text)


@endpoint("GET", "/core/v1/organization/api_keys")
async def list_api_keys(services: Services, organization: OrganizationCaller, query: PageQuery) -> Page[ApiKey]:
    """List the API keys, oldest first, revoked ones too."""
    rows = await credentials.api_keys(services.postgres, organization.organization_id, *paging.slice_of(query))
    return paging.cut(rows, query.page, query.per_page)


@endpoint(
    "DELETE",
    "/core/v1/organization/api_keys/{key_id}",
    errors={404: "API key not found.", 422: "A key cannot revoke itself."},
)
async def revoke_api_key(
    services: Services, organization: OrganizationCaller, request: Request, key_id: UUID
) -> Success:
    """Revoke an API key; it ends at once."""
    presented = ids.present(presented_key(request))
    if presented is not None and presented.id == key_id:
        raise DoesNotFit("A key cannot revoke itself: use another one")
    await credentials.revoke_api_key(services.postgres, organization.organization_id, key_id)
    return Success()


ENDPOINTS = (create_api_key, list_api_keys, revoke_api_key)
