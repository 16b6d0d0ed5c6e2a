"""Dumps that the organization's devices sent: listed, downloaded, deleted."""

from uuid import UUID

from starlette.requests import Request
from starlette.responses import Response

from gateway.api import downloads, paging
from gateway.api.callers.api_keys import ORGANIZATION_KEY
from gateway.api.downloads import Content
from gateway.api.endpoint import Success, endpoint
from gateway.api.paging import Page, PageQuery, Window
from gateway.api.scopes import OrganizationScope
from gateway.permissions import Permission
from gateway.services import Services
from gateway.stores.devices import locking
from gateway.stores.files import dumps
from gateway.stores.files.dumps import Dump


@endpoint(
    "GET",
    "/core/v1/organization/devices/{device_id}/dumps",
    caller=ORGANIZATION_KEY,
    permission=Permission.READ,
    errors={404: "Device not found."},
)
async def list_dumps(
    services: Services, organization: OrganizationScope, device_id: UUID, query: PageQuery
) -> Page[Dump]:
    """List what a device sent while it was the organization's, newest first."""
    await locking.check_owned(services.postgres, organization.id, device_id)

    async def read(window: Window) -> list[Dump]:
        return await dumps.page(
            services.postgres,
            organization.id,
            device_id,
            before=None if window.after is None else UUID(str(window.after[0])),
            offset=window.offset,
            limit=window.limit,
        )

    scope = ("dumps", organization.id, device_id)
    return await paging.read_page(services, scope, query.page, query.per_page, read, boundary=lambda one: [str(one.id)])


@endpoint(
    "GET",
    "/core/v1/organization/devices/{device_id}/dumps/{dump_id}/content",
    caller=ORGANIZATION_KEY,
    permission=Permission.READ,
    errors={404: "Dump not found."},
    described_answer=bytes,
)
async def read_content(
    services: Services, organization: OrganizationScope, device_id: UUID, dump_id: UUID, request: Request
) -> Response:
    """Download a dump, whole or a range of it. A browser saves it and shows nothing of it."""
    dump, parts = await dumps.read(services.postgres, organization.id, device_id, dump_id)
    content = Content(dumps.etag(parts), dump.size, dump.file_name, parts)
    end = services.downloads.begin(organization.id)
    return await downloads.answer(request, services.blobs, content, end, services.downloads.yield_to_telemetry)


@endpoint(
    "DELETE",
    "/core/v1/organization/devices/{device_id}/dumps/{dump_id}",
    caller=ORGANIZATION_KEY,
    permission=Permission.DEVELOP,
    errors={404: "Dump not found."},
)
async def delete_dump(services: Services, organization: OrganizationScope, device_id: UUID, dump_id: UUID) -> Success:
    """Delete a dump."""
    await dumps.delete(services.postgres, organization.id, device_id, dump_id)
    return Success()


ENDPOINTS = (list_dumps, read_content, delete_dump)
