"""What cloud connectors did: their runs, a preview of the next one, and the devices that they imported."""

import asyncio
from typing import Literal

from gateway.api import paging
from gateway.api.callers.api_keys import ORGANIZATION_KEY
from gateway.api.endpoint import Success, endpoint
from gateway.api.paging import Page, PageQuery, Window
from gateway.api.scopes import OrganizationScope
from gateway.organization.cloud_connectors import NOT_FOUND, ONE, locked
from gateway.permissions import Permission
from gateway.refusals import NotFound, TimedOut
from gateway.services import Services
from gateway.stores.connectors import cloud_connectors as store
from gateway.stores.connectors import imported_devices, runs
from gateway.stores.connectors.cloud_connectors import CloudConnector
from gateway.stores.connectors.imported_devices import ImportedDevice
from gateway.stores.connectors.runs import Kind, Run

RESOURCE = "connectors"
PREVIEW_WAIT_S = 30.0
PREVIEW_POLL_S = 0.1
RUN_UNKNOWN = "Run not found"
RUN_DIGITS_MAX = 18


class RunsQuery(PageQuery, kw_only=True):
    """All runs, or those of one kind."""

    kind: Kind | None = None


class ImportedQuery(PageQuery, kw_only=True):
    """All devices, or those of one state."""

    state: Literal["active", "excluded"] | None = None

    def is_long(self) -> bool:
        """So is a search, which may have to look at all of the list."""
        return super().is_long() or self.state is not None


@endpoint(
    "GET",
    f"{ONE}/preview",
    caller=ORGANIZATION_KEY,
    permission=Permission.READ,
    errors={**NOT_FOUND, 422: "It is disabled or was never authorised.", 504: "No worker finished it in time."},
)
async def preview(services: Services, organization: OrganizationScope, connector_id: str) -> Run:
    """See what a sync would change now; nothing is changed."""
    found = await store.read(services.postgres, organization.id, connector_id)
    run = await _asked(services, found)
    for _ in range(int(PREVIEW_WAIT_S / PREVIEW_POLL_S)):
        if run is None or run.finished_at is not None:
            break
        await asyncio.sleep(PREVIEW_POLL_S)
        run = await runs.read(services.postgres, found.id, run.id)
    if run is None or run.finished_at is None:
        raise TimedOut("No worker finished the preview in time; it appears among the runs")
    return run


@endpoint(
    "POST",
    f"{ONE}/preview",
    caller=ORGANIZATION_KEY,
    permission=Permission.DEVELOP,
    errors={**NOT_FOUND, 422: "It is disabled or was never authorised."},
)
async def begin_preview(services: Services, organization: OrganizationScope, connector_id: str) -> Run:
    """Ask for a preview without waiting for it: read it as a run until it has `finished_at`."""
    run = await _asked(services, await store.read(services.postgres, organization.id, connector_id))
    if run is None:
        raise NotFound(RUN_UNKNOWN)
    return run


async def _asked(services: Services, connector: CloudConnector) -> Run | None:
    """The run that a preview will be; None where its connector was deleted meanwhile."""
    store.check_runnable(connector)
    run_id = await runs.request_preview(services.postgres, connector.id)
    return await runs.read(services.postgres, connector.id, run_id)


@endpoint("GET", f"{ONE}/runs", caller=ORGANIZATION_KEY, permission=Permission.READ, errors=NOT_FOUND)
async def list_runs(
    services: Services, organization: OrganizationScope, connector_id: str, query: RunsQuery
) -> Page[Run]:
    """List the last 100 runs, the newest first."""
    found = await store.find(services.postgres, organization.id, connector_id)

    async def read(window: Window) -> list[Run]:
        after = None if window.after is None else int(window.after[0])
        return await runs.page(
            services.postgres, found, query.kind, after=after, offset=window.offset, limit=window.limit
        )

    scope = (found, "runs", query.kind)
    return await paging.read_page(services, scope, query.page, query.per_page, read, lambda item: [item.id])


@endpoint(
    "GET",
    f"{ONE}/runs/{{run}}",
    caller=ORGANIZATION_KEY,
    permission=Permission.READ,
    errors={404: "Connector not found, or none of its last 100 runs."},
)
async def read_run(services: Services, organization: OrganizationScope, connector_id: str, run: str) -> Run:
    """Read one run: what it changed, what it skipped and why."""
    connector = await store.find(services.postgres, organization.id, connector_id)
    found = None
    if run.isdecimal() and run.isascii() and len(run) <= RUN_DIGITS_MAX:
        found = await runs.read(services.postgres, connector, int(run))
    if found is None:
        raise NotFound(RUN_UNKNOWN)
    return found


@endpoint("GET", f"{ONE}/devices", caller=ORGANIZATION_KEY, permission=Permission.READ, errors=NOT_FOUND)
async def list_imported(
    services: Services, organization: OrganizationScope, connector_id: str, query: ImportedQuery
) -> Page[ImportedDevice]:
    """List what a connector imported, by the vendor's ids."""
    found = await store.find(services.postgres, organization.id, connector_id)
    excluded = None if query.state is None else query.state == "excluded"

    async def read(window: Window) -> list[ImportedDevice]:
        after = None if window.after is None else str(window.after[0])
        return await imported_devices.page(
            services.postgres, found, excluded, after=after, offset=window.offset, limit=window.limit
        )

    scope = (found, "devices", query.state)
    return await paging.read_page(services, scope, query.page, query.per_page, read, lambda item: [item.vendor_id])


@endpoint(
    "POST",
    f"{ONE}/devices/{{vendor_id:path}}/restore",
    caller=ORGANIZATION_KEY,
    permission=Permission.DEVELOP,
    errors={404: "No device of this id was deleted by a user."},
)
async def restore_device(
    services: Services, organization: OrganizationScope, connector_id: str, vendor_id: str
) -> Success:
    """Let a device that a user deleted be imported again, at once, as a new one."""
    async with locked(services, organization, connector_id) as (connection, connector):
        await imported_devices.restore(connection, connector.id, vendor_id)
    return Success()


ENDPOINTS = (preview, begin_preview, list_runs, read_run, list_imported, restore_device)
