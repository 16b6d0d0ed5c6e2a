"""Hardware keys: what a maker puts into its devices so that they can register as a model."""

from uuid import UUID

from msgspec import Struct

from gateway.api import paging
from gateway.api.callers.api_keys import ORGANIZATION_KEY
from gateway.api.endpoint import Success, endpoint
from gateway.api.paging import Page, PageQuery
from gateway.api.scopes import OrganizationScope
from gateway.api.validation import Label
from gateway.permissions import Permission
from gateway.services import Services
from gateway.stores import models
from gateway.stores.accounts import credentials
from gateway.stores.accounts.credentials import HardwareKey
from gateway.stores.change import change
from gateway.stores.devices import deletion

DELETED_AT_ONCE_MAX = 5_000


class NewHardwareKey(Struct):
    """What a key is called."""

    name: Label = ""


class MintedHardwareKey(Struct):
    """A new key; `key` is shown this once."""

    id: UUID
    name: str
    key: str


class DeletedDevices(Struct):
    """How many devices were deleted; with `more`, call again."""

    deleted: int
    more: bool


@endpoint(
    "POST",
    "/core/v1/organization/models/{model_id}/hardware_keys",
    caller=ORGANIZATION_KEY,
    permission=Permission.ADMINISTER,
    status=201,
    errors={404: "Model not found."},
)
async def create_hardware_key(
    services: Services, organization: OrganizationScope, model_id: UUID, body: NewHardwareKey
) -> MintedHardwareKey:
    """Create a hardware key of a model."""
    await models.read(services.postgres, organization.id, model_id)
    minted = await credentials.mint_and_store(services.postgres, "hardware", owner_id=model_id, name=body.name)
    return MintedHardwareKey(minted.id, body.name, minted.text)


@endpoint(
    "GET",
    "/core/v1/organization/models/{model_id}/hardware_keys",
    caller=ORGANIZATION_KEY,
    permission=Permission.READ,
    errors={404: "Model not found."},
)
async def list_hardware_keys(
    services: Services, organization: OrganizationScope, model_id: UUID, query: PageQuery
) -> Page[HardwareKey]:
    """List a model's hardware keys with how many devices were registered by each, oldest first."""
    return await page_of(services, organization, model_id, query)


async def page_of(
    services: Services, organization: OrganizationScope, model_id: UUID, query: PageQuery, *, counted: bool = True
) -> Page[HardwareKey]:
    """A page of a model's hardware keys; counting by them looks at all devices of the model."""
    await models.read(services.postgres, organization.id, model_id)
    rows = await credentials.hardware_keys(services.postgres, model_id, *paging.slice_of(query), counted=counted)
    return paging.cut(rows, query.page, query.per_page)


@endpoint(
    "DELETE",
    "/core/v1/organization/models/{model_id}/hardware_keys/{key_id}",
    caller=ORGANIZATION_KEY,
    permission=Permission.ADMINISTER,
    errors={404: "Model or hardware key not found."},
)
async def revoke_hardware_key(
    services: Services, organization: OrganizationScope, model_id: UUID, key_id: UUID
) -> Success:
    """Revoke a hardware key: no device registers with it any more; those registered stay."""
    await models.read(services.postgres, organization.id, model_id)
    await credentials.revoke_hardware_key(services.postgres, model_id, key_id)
    return Success()


@endpoint(
    "DELETE",
    "/core/v1/organization/models/{model_id}/hardware_keys/{key_id}/devices",
    caller=ORGANIZATION_KEY,
    permission=Permission.ADMINISTER,
    errors={404: "Model or hardware key not found.", 409: "The hardware key is not revoked."},
)
async def delete_registered_devices(
    services: Services, organization: OrganizationScope, model_id: UUID, key_id: UUID
) -> DeletedDevices:
    """Delete devices that registered with a revoked hardware key and that nobody claimed, some thousands a call."""
    await models.read(services.postgres, organization.id, model_id)
    await credentials.read_hardware_key(services.postgres, model_id, key_id)
    async with change(services) as changed:
        found = await deletion.registered_with(changed.connection, key_id, DELETED_AT_ONCE_MAX + 1)
        deleted = await deletion.delete(changed, found[:DELETED_AT_ONCE_MAX])
    return DeletedDevices(deleted, len(found) > DELETED_AT_ONCE_MAX)


ENDPOINTS = (create_hardware_key, list_hardware_keys, revoke_hardware_key, delete_registered_devices)
