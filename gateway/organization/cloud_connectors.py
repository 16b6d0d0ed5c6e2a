"""Cloud connectors: each imports the devices of one vendor's cloud into a space."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

from msgspec import Struct

from gateway.api import paging
from gateway.api.callers.api_keys import ORGANIZATION_KEY
from gateway.api.endpoint import Success, endpoint
from gateway.api.paging import Page, PageQuery, Window
from gateway.api.scopes import FleetScope, OrganizationScope
from gateway.api.validation import Name, Text
from gateway.connect.authorization import Link, new_link
from gateway.organization import cloud_providers
from gateway.organization.cloud_providers import PATH
from gateway.permissions import Permission
from gateway.refusals import DoesNotFit
from gateway.services import Services
from gateway.stores.change import change
from gateway.stores.connectors import cloud_connectors as store
from gateway.stores.connectors.cloud_connectors import CloudConnector
from schemas.manifests import parsing
from schemas.postgres import Connection

RESOURCE = "connectors"
ONE = f"{PATH}/{{connector_id}}"
NOT_FOUND = {404: "Connector not found."}
OTHER_LIST = "Another list than the one that was seen is held by now."


class ConnectorsQuery(PageQuery, kw_only=True):
    """Which page."""

    def is_long(self) -> bool:
        """The devices of each are counted."""
        return True


class NewConnector(Struct):
    """A connector to make. Project and space are fixed for good.

    With `follow_spaces` devices move here as they do in the vendor's tree, unless somebody put them elsewhere.
    """

    provider: Name
    project_id: UUID
    space_id: UUID
    name: Name | None = None
    settings: dict[Name, Text] = {}
    follow_spaces: bool = False


class Made(Struct):
    """A connector, and how it is authorised; the passcode is shown this once."""

    connector: CloudConnector
    authentication: Link


class ConnectorChange(Struct):
    """What changes; absent members stay, `settings` are replaced whole."""

    name: Name | None = None
    settings: dict[Name, Text] | None = None
    follow_spaces: bool | None = None


class Deletion(Struct):
    """The connector's name, as proof that it is meant."""

    name: str = ""


class SeenList(Struct):
    """`held.list` of the connector as it was seen; without it, whatever list is held."""

    list: str | None = None


class Deleted(Struct):
    """How many devices went with it."""

    deleted_devices: int


@asynccontextmanager
async def locked(
    services: Services, organization: OrganizationScope, connector_id: str
) -> AsyncIterator[tuple[Connection, CloudConnector]]:
    """A transaction that changes a connector. Raises NotFound."""
    async with services.postgres.acquire() as connection, connection.transaction():
        yield connection, await store.lock(connection, organization.id, connector_id)


@endpoint(
    "POST",
    PATH,
    caller=ORGANIZATION_KEY,
    permission=Permission.DEVELOP,
    status=201,
    errors={422: "The provider, a setting or the space is not there."},
)
async def create_connector(services: Services, organization: OrganizationScope, body: NewConnector) -> Made:
    """Make a connector. Whoever opens the link and knows the passcode enters the vendor's credentials."""
    manifest = cloud_providers.manifest_of(services, body.provider)
    settings = cloud_providers.checked(manifest, body.settings)
    await cloud_providers.check_targets(services, organization.id, manifest, settings)
    async with services.postgres.acquire() as connection, connection.transaction():
        connector_id = await store.create(
            connection,
            organization.id,
            project_id=body.project_id,
            space_id=body.space_id,
            provider=body.provider,
            name=body.name or manifest.title,
            settings=settings,
            follow_spaces=body.follow_spaces,
        )
        link = await new_link(services, connection, connector_id)
        return Made(await store.read(connection, organization.id, connector_id), link)


@endpoint("GET", PATH, caller=ORGANIZATION_KEY, permission=Permission.READ)
async def list_connectors(services: Services, fleet: FleetScope, query: ConnectorsQuery) -> Page[CloudConnector]:
    """List the connectors in the order in which they were made."""

    async def read(window: Window) -> list[CloudConnector]:
        return await store.page(
            services.postgres,
            fleet.id,
            project_ids=fleet.project_ids,
            after=None if window.after is None else str(window.after[0]),
            offset=window.offset,
            limit=window.limit,
        )

    scope = (fleet.id, PATH, fleet.project_ids)
    return await paging.read_page(services, scope, query.page, query.per_page, read, lambda item: [item.id])


@endpoint("GET", ONE, caller=ORGANIZATION_KEY, permission=Permission.READ, errors=NOT_FOUND)
async def read_connector(services: Services, organization: OrganizationScope, connector_id: str) -> CloudConnector:
    """Read one connector."""
    return await store.read(services.postgres, organization.id, connector_id)


@endpoint(
    "PATCH",
    ONE,
    caller=ORGANIZATION_KEY,
    permission=Permission.DEVELOP,
    errors={**NOT_FOUND, 422: "A setting does not fit."},
)
async def update_connector(
    services: Services, organization: OrganizationScope, connector_id: str, body: ConnectorChange
) -> CloudConnector:
    """Rename a connector or change its settings. A run under way begins anew.

    A setting that is part of an address, or of how requests are proven, ends the credentials and the link: make a new
    one.
    """
    if body.settings is not None:
        manifest = cloud_providers.manifest_of(
            services, (await store.read(services.postgres, organization.id, connector_id)).provider
        )
        await cloud_providers.check_targets(
            services, organization.id, manifest, cloud_providers.checked(manifest, body.settings)
        )
    async with locked(services, organization, connector_id) as (connection, connector):
        settings, elsewhere = connector.settings, False
        if body.settings is not None:
            settings = body.settings
            changed = {
                name for name in settings | connector.settings if settings.get(name) != connector.settings.get(name)
            }
            elsewhere = bool(changed & parsing.leading(manifest))
        await store.change(
            connection,
            connector.id,
            name=body.name or connector.name,
            settings=settings,
            follow_spaces=body.follow_spaces,
            elsewhere=elsewhere,
        )
        return await store.read(connection, organization.id, connector_id)


@endpoint(
    "DELETE",
    ONE,
    caller=ORGANIZATION_KEY,
    permission=Permission.DEVELOP,
    errors={**NOT_FOUND, 422: "The name is not the connector's; the sentence has the count."},
)
async def delete_connector(
    services: Services, organization: OrganizationScope, connector_id: str, query: Deletion
) -> Deleted:
    """Delete a connector and all its devices, which cannot be undone. The spaces stay."""
    async with change(services) as changed:
        return Deleted(await store.delete(changed, organization.id, connector_id, query.name))


@endpoint("POST", f"{ONE}/disable", caller=ORGANIZATION_KEY, permission=Permission.DEVELOP, errors=NOT_FOUND)
async def disable_connector(services: Services, organization: OrganizationScope, connector_id: str) -> CloudConnector:
    """Stop a connector. Its devices stay and show `disconnected`."""
    async with locked(services, organization, connector_id) as (connection, connector):
        await store.disable(connection, connector.id)
        return await store.read(connection, organization.id, connector_id)


@endpoint("POST", f"{ONE}/enable", caller=ORGANIZATION_KEY, permission=Permission.DEVELOP, errors=NOT_FOUND)
async def enable_connector(services: Services, organization: OrganizationScope, connector_id: str) -> CloudConnector:
    """Go on with the same credentials, at once."""
    async with locked(services, organization, connector_id) as (connection, connector):
        await store.enable(connection, connector.id)
        return await store.read(connection, organization.id, connector_id)


@endpoint("POST", f"{ONE}/regenerate_link", caller=ORGANIZATION_KEY, permission=Permission.DEVELOP, errors=NOT_FOUND)
async def regenerate_link(services: Services, organization: OrganizationScope, connector_id: str) -> Link:
    """A new link and passcode, for the same or other credentials; those before stop working at once."""
    async with locked(services, organization, connector_id) as (connection, connector):
        return await new_link(services, connection, connector.id)


@endpoint(
    "POST",
    f"{ONE}/reauthenticate",
    caller=ORGANIZATION_KEY,
    permission=Permission.DEVELOP,
    errors={**NOT_FOUND, 422: "The provider has no consent to renew."},
)
async def reauthenticate(services: Services, organization: OrganizationScope, connector_id: str) -> Link:
    """A new link for passing the vendor's consent again; what was entered before need not be entered again."""
    async with locked(services, organization, connector_id) as (connection, connector):
        if not cloud_providers.manifest_of(services, connector.provider).consents:
            raise DoesNotFit("This provider has no consent to renew: regenerate the link to enter credentials")
        return await new_link(services, connection, connector.id)


@endpoint(
    "POST",
    f"{ONE}/sync",
    caller=ORGANIZATION_KEY,
    permission=Permission.DEVELOP,
    errors={**NOT_FOUND, 422: "It is disabled or was never authorised."},
)
async def sync_now(services: Services, organization: OrganizationScope, connector_id: str) -> Success:
    """Run at once."""
    async with locked(services, organization, connector_id) as (connection, connector):
        store.check_runnable(connector)
        await store.sync(connection, connector.id)
    return Success()


@endpoint(
    "POST",
    f"{ONE}/confirm",
    caller=ORGANIZATION_KEY,
    permission=Permission.DEVELOP,
    errors={**NOT_FOUND, 409: OTHER_LIST, 422: "No list is held."},
)
async def confirm(services: Services, organization: OrganizationScope, connector_id: str, body: SeenList) -> Success:
    """Agree to the list that is held: the next run begins at once, and applies that list alone."""
    async with locked(services, organization, connector_id) as (connection, connector):
        await store.confirm(connection, connector, body.list)
    return Success()


@endpoint(
    "POST",
    f"{ONE}/reject",
    caller=ORGANIZATION_KEY,
    permission=Permission.DEVELOP,
    errors={**NOT_FOUND, 409: OTHER_LIST, 422: "No list is held."},
)
async def reject(services: Services, organization: OrganizationScope, connector_id: str, body: SeenList) -> Success:
    """Keep the devices that the held list would take away: however often it comes, it is not applied by itself."""
    async with locked(services, organization, connector_id) as (connection, connector):
        await store.reject(connection, connector, body.list)
    return Success()


ENDPOINTS = (
    create_connector,
    list_connectors,
    read_connector,
    update_connector,
    delete_connector,
    disable_connector,
    enable_connector,
    regenerate_link,
    reauthenticate,
    sync_now,
    confirm,
    reject,
)
