"""Data connectors: one HTTPS POST for each event of a project's devices, to a URL of the user's.

What is sent, when, and what happens when it fails is the dispatcher's (workers.dispatcher); this is what is set up, and
`deliveries` what came of it.
"""

from datetime import timedelta
from typing import Any

from msgspec import Struct

from gateway.api import page_tokens
from gateway.api.callers.service_accounts import SERVICE_ACCOUNT
from gateway.api.endpoint import Endpoint, endpoint
from gateway.api.page_tokens import PageQuery
from gateway.api.scopes import ProjectScope
from gateway.permissions import Permission
from gateway.services import Services
from gateway.stores.connectors import data_connectors as store
from gateway.v2 import data_connector_settings as settings
from gateway.v2.data_connector_settings import Change, DataConnector, Draft, SignatureSecret, shown
from gateway.v2.update_masks import UpdateQuery
from schemas.secrets import CONNECTOR_SECRETS

OVERLAP = timedelta(days=1)
CONNECTORS = "/v2/projects/{project}/dataconnectors"
CONNECTOR = CONNECTORS + "/{connector}"


class DataConnectors(Struct, rename="camel"):
    """Part of a list."""

    data_connectors: list[DataConnector]
    next_page_token: str


class Fault(Struct):
    """What does not fit of one setting; `path` is empty for what is about none alone."""

    path: str
    error: str


class Faults(Struct):
    """All that does not fit; none where it can be saved."""

    faults: list[Fault]


class NewSecret(Struct, rename="camel"):
    """The secret from now on; the one before is used beside it for a day."""

    signature_secret: SignatureSecret


@endpoint("GET", CONNECTORS, caller=SERVICE_ACCOUNT, permission=Permission.READ)
async def list_connectors(services: Services, project: ProjectScope, query: PageQuery) -> DataConnectors:
    """List the data connectors of a project."""
    after = page_tokens.last_id(query, page_tokens.XID)
    found = await store.listed(services.postgres, project.id, after, query.page_size + 1)
    page, token = page_tokens.cut(found, query.page_size, lambda connector: connector.id)
    listed = [shown(services, connector, project) for connector in page]
    return DataConnectors(listed, token)


@endpoint(
    "POST", CONNECTORS, caller=SERVICE_ACCOUNT, permission=Permission.DEVELOP, errors={409: "The project has too many."}
)
async def create_connector(services: Services, project: ProjectScope, body: Change) -> DataConnector:
    """Make a data connector. It gets the events that are stored from now on."""
    await settings.check_target(services, project.organization_id, body)
    draft = Draft(services, store.new(project.id))
    settings.apply(draft, body)
    async with services.postgres.acquire() as connection, connection.transaction():
        made = await store.create(connection, draft.finish())
    return shown(services, made, project)


@endpoint("POST", CONNECTORS + ":check", caller=SERVICE_ACCOUNT, permission=Permission.DEVELOP, audited=False)
async def check_new(services: Services, project: ProjectScope, body: Change) -> Faults:
    """See what would be refused of a new data connector, all at once; nothing is made."""
    return _faults(await settings.faults(services, project.organization_id, store.new(project.id), body))


@endpoint("POST", CONNECTOR + ":check", caller=SERVICE_ACCOUNT, permission=Permission.DEVELOP, audited=False)
async def check_change(services: Services, project: ProjectScope, connector: str, body: Change) -> Faults:
    """See what would be refused of a change, all at once; nothing is changed."""
    found = await store.read(services.postgres, project.id, connector)
    return _faults(await settings.faults(services, project.organization_id, found, body))


def _faults(found: dict[str, str]) -> Faults:
    return Faults([Fault(path, text) for path, text in found.items()])


@endpoint("POST", CONNECTOR + ":rotateSecret", caller=SERVICE_ACCOUNT, permission=Permission.DEVELOP)
async def rotate_secret(services: Services, project: ProjectScope, connector: str, body: NewSecret) -> DataConnector:
    """Sign with another secret. Standard Webhooks are signed with both for a day, so that receivers can follow."""
    vault = services.settings.vault(CONNECTOR_SECRETS)
    async with services.postgres.acquire() as connection, connection.transaction():
        locked = await store.lock(connection, project.id, connector)
        if locked.standard_webhooks:
            settings.check_standard_secret(body.signature_secret)
        await store.rotate_secret(connection, locked, vault.seal(body.signature_secret.encode(), locked.id), OVERLAP)
        return shown(services, await store.read(connection, project.id, connector), project)


@endpoint(
    "GET",
    CONNECTOR,
    caller=SERVICE_ACCOUNT,
    permission=Permission.READ,
    errors={404: "There is no such data connector."},
)
async def read_connector(services: Services, project: ProjectScope, connector: str) -> DataConnector:
    """Read one data connector."""
    return shown(services, await store.read(services.postgres, project.id, connector), project)


@endpoint("PATCH", CONNECTOR, caller=SERVICE_ACCOUNT, permission=Permission.DEVELOP)
async def update_connector(
    services: Services, project: ProjectScope, connector: str, query: UpdateQuery, body: Change
) -> DataConnector:
    """Change a data connector, from its next attempt on. Disabled, it drops what it owes; enabled, it begins anew."""
    await settings.check_target(services, project.organization_id, body)
    async with services.postgres.acquire() as connection, connection.transaction():
        draft = Draft(services, await store.lock(connection, project.id, connector))
        if query.update_mask is None:
            settings.apply(draft, body)
        else:
            settings.apply_masked(draft, body, query.update_mask)
        return shown(services, await store.update(connection, draft.finish()), project)


@endpoint("DELETE", CONNECTOR, caller=SERVICE_ACCOUNT, permission=Permission.DEVELOP)
async def delete_connector(services: Services, project: ProjectScope, connector: str) -> dict[str, Any]:
    """Delete a data connector; nothing more is sent."""
    await store.delete(services.postgres, (await store.read(services.postgres, project.id, connector)).id)
    return {}


ENDPOINTS: tuple[Endpoint, ...] = (
    list_connectors,
    create_connector,
    check_new,
    check_change,
    rotate_secret,
    read_connector,
    update_connector,
    delete_connector,
)
