"""Hardware keys: what a maker puts into its devices so that they can register as a model."""

from uuid import UUID

from msgspec import Struct

from gateway import paging
from gateway.callers import OrganizationCaller
from gateway.endpoint import Success, endpoint
from gateway.paging import Page, PageQuery
from gateway.services import Gateway
from gateway.stores import credentials, models
from gateway.stores.credentials import HardwareKey
from gateway.validation import Label


class NewHardwareKey(Struct):
    """What a key is called."""

    name: Label = ""


class MintedHardwareKey(Struct):
    """A new key; `key` is shown this once."""

    id: UUID
    name: str
    key: str


@endpoint("POST", "/core/v1/organization/models/{model_id}/hardware_keys", status=201, errors={404: "Model not found."})
async def create_hardware_key(
    gateway: Gateway, organization: OrganizationCaller, model_id: UUID, body: NewHardwareKey
) -> MintedHardwareKey:
    """Create a hardware key of a model."""
    await models.read(gateway.postgres, organization.organization_id, model_id)
    minted = await credentials.mint_and_store(gateway.postgres, "hardware", owner_id=model_id, name=body.name)
    return MintedHardwareKey(minted.id, body.name, minted.text)


@endpoint("GET", "/core/v1/organization/models/{model_id}/hardware_keys", errors={404: "Model not found."})
async def list_hardware_keys(
    gateway: Gateway, organization: OrganizationCaller, model_id: UUID, query: PageQuery
) -> Page[HardwareKey]:
    """List a model's hardware keys with how many devices were registered by each, oldest first."""
    await models.read(gateway.postgres, organization.organization_id, model_id)
    rows = await credentials.hardware_keys(gateway.postgres, model_id, *paging.slice_of(query))
    return paging.cut(rows, query.page, query.per_page)


@endpoint(
    "DELETE",
    "/core/v1/organization/models/{model_id}/hardware_keys/{key_id}",
    errors={404: "Model or hardware key not found."},
)
async def revoke_hardware_key(
    gateway: Gateway, organization: OrganizationCaller, model_id: UUID, key_id: UUID
) -> Success:
    """Revoke a hardware key: no device registers with it any more; those registered stay."""
    await models.read(gateway.postgres, organization.organization_id, model_id)
    await credentials.revoke_hardware_key(gateway.postgres, model_id, key_id)
    return Success()


ENDPOINTS = (create_hardware_key, list_hardware_keys, revoke_hardware_key)
