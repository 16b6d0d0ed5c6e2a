"""Files of the organization for its own devices: firmware, manuals, whatever they fetch."""

from typing import Annotated, Any
from uuid import UUID

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType
from starlette.requests import Request
from starlette.responses import Response

from gateway.api import downloads, paging
from gateway.api.bodies import Streamed
from gateway.api.callers.api_keys import ORGANIZATION_KEY
from gateway.api.downloads import Content
from gateway.api.endpoint import Success, endpoint
from gateway.api.paging import Page, PageQuery, Window
from gateway.api.scopes import OrganizationScope
from gateway.api.validation import Name, Text
from gateway.permissions import Permission
from gateway.refusals import Conflict, TooLarge
from gateway.services import Services
from gateway.stores.files import catalog, uploads
from gateway.stores.files.catalog import File, Status, Whose

FileType = Annotated[str, Meta(min_length=1, max_length=64, description="`firmware`, or a word of yours.")]
Version = Annotated[str, Meta(min_length=1, max_length=255, description="Of firmware: a semantic version.")]
MinVersion = Annotated[
    str, Meta(min_length=1, max_length=255, description="Only devices with this version or a later one are offered it.")
]
NO_CONTENT = "File has no content yet"


class FilesQuery(PageQuery, kw_only=True):
    """Which files: for devices of one model, of one type, in one status."""

    model_id: UUID | None = None
    file_type: FileType | None = None
    status: Status | None = None


class NewFile(Struct, kw_only=True):
    """What is known of a new file; its bytes follow. Firmware needs a `version`, and the model that it is for."""

    name: Name
    file_type: FileType
    model_id: UUID | None = None
    desc: Text = ""
    version: Version | None = None
    min_version: MinVersion | None = None
    signature: Text | None = None
    public_notes: Text = ""


class FileChange(Struct, kw_only=True):
    """What changes of a draft; members that are absent stay."""

    name: Name | UnsetType = UNSET
    file_type: FileType | UnsetType = UNSET
    desc: Text | UnsetType = UNSET
    version: Version | UnsetType | None = UNSET
    min_version: MinVersion | UnsetType | None = UNSET
    signature: Text | UnsetType | None = UNSET
    public_notes: Text | UnsetType = UNSET


def own(organization: OrganizationScope) -> Whose:
    """The files of an organization."""
    return Whose(organization.id, as_vendor=False)


async def page_of(services: Services, whose: Whose, query: FilesQuery) -> Page[File]:
    """A page of the files of an organization, or of its models."""

    async def read(window: Window) -> list[File]:
        return await catalog.page(
            services.postgres,
            whose,
            model_id=query.model_id,
            file_type=query.file_type,
            status=query.status,
            before=None if window.after is None else UUID(str(window.after[0])),
            offset=window.offset,
            limit=window.limit,
        )

    scope = ("files", whose.organization_id, whose.as_vendor, query.model_id, query.file_type, query.status)
    return await paging.read_page(services, scope, query.page, query.per_page, read, boundary=lambda one: [str(one.id)])


async def create(services: Services, whose: Whose, model_id: UUID | None, body: Struct) -> File:
    """A new draft."""
    members = {name: value for name, value in msgspec.structs.asdict(body).items() if name != "model_id"}
    async with services.postgres.acquire() as connection, connection.transaction():
        return await catalog.create(connection, whose, model_id, members)


async def change(services: Services, whose: Whose, file_id: UUID, body: FileChange) -> File:
    """Change a draft."""
    given: dict[str, Any] = msgspec.structs.asdict(body)
    members = {name: value for name, value in given.items() if value is not UNSET}
    async with services.postgres.acquire() as connection, connection.transaction():
        return await catalog.change(connection, whose, await catalog.lock(connection, whose, file_id), members)


async def switch(services: Services, whose: Whose, file_id: UUID, status: Status) -> File:
    """Release a file, or withdraw it."""
    act = catalog.release if status == "released" else catalog.withdraw
    async with services.postgres.acquire() as connection, connection.transaction():
        file = await catalog.lock(connection, whose, file_id)
        return await act(connection, whose, file, services.clock())


async def delete(services: Services, whose: Whose, file_id: UUID) -> Success:
    """Delete a file."""
    async with services.postgres.acquire() as connection, connection.transaction():
        await catalog.delete(connection, await catalog.lock(connection, whose, file_id))
    return Success()


async def upload(services: Services, whose: Whose, file_id: UUID, body: Streamed) -> File:
    """Store the bytes of a draft as they come."""
    file = await catalog.read(services.postgres, whose, file_id)
    bytes_max = services.settings.file_bytes_max
    if body.length is not None and body.length > bytes_max:
        raise TooLarge(uploads.too_large(bytes_max))
    if file.checksum is None and file.status != "draft":
        raise Conflict(f"File is {file.status}: only a draft gets its bytes")
    end = services.uploads.begin(whose.organization_id)
    try:
        await uploads.store(
            services.postgres,
            services.blobs,
            body,
            body.digests,
            bytes_max,
            lambda connection, stored: uploads.fill(connection, file, stored),
            uploads.FOR_UPDATERS,
        )
    finally:
        end()
    return await catalog.read(services.postgres, whose, file_id)


async def content(services: Services, whose: Whose, file_id: UUID, request: Request) -> Response:
    """The bytes of a file, for those whose it is."""
    file = await catalog.read(services.postgres, whose, file_id)
    if file.checksum is None or file.size is None:
        raise Conflict(NO_CONTENT)
    end = services.downloads.begin(whose.organization_id)
    shown = Content(file.checksum, file.size, file.name)
    return await downloads.answer(request, services.blobs, shown, end, services.downloads.yield_to_telemetry)


@endpoint("GET", "/core/v1/organization/files", caller=ORGANIZATION_KEY, permission=Permission.READ)
async def list_files(services: Services, organization: OrganizationScope, query: FilesQuery) -> Page[File]:
    """List the organization's files, newest first."""
    return await page_of(services, own(organization), query)


@endpoint(
    "POST",
    "/core/v1/organization/files",
    caller=ORGANIZATION_KEY,
    permission=Permission.DEVELOP,
    status=201,
    errors={404: "Model not found."},
)
async def create_file(services: Services, organization: OrganizationScope, body: NewFile) -> File:
    """Create a draft of a file for the organization's own devices, all of them or those of a model.

    Then its bytes are put to `…/content`, and it is released.
    """
    return await create(services, own(organization), body.model_id, body)


@endpoint(
    "GET",
    "/core/v1/organization/files/{file_id}",
    caller=ORGANIZATION_KEY,
    permission=Permission.READ,
    errors={404: "File not found."},
)
async def read_file(services: Services, organization: OrganizationScope, file_id: UUID) -> File:
    """Read one file; `spreading` says how far a release or a withdrawal has come to the devices."""
    return await catalog.read(services.postgres, own(organization), file_id)


@endpoint(
    "PATCH",
    "/core/v1/organization/files/{file_id}",
    caller=ORGANIZATION_KEY,
    permission=Permission.DEVELOP,
    errors={404: "File not found.", 409: "It is no draft any more."},
)
async def change_file(services: Services, organization: OrganizationScope, file_id: UUID, body: FileChange) -> File:
    """Change a draft."""
    return await change(services, own(organization), file_id, body)


@endpoint(
    "DELETE",
    "/core/v1/organization/files/{file_id}",
    caller=ORGANIZATION_KEY,
    permission=Permission.DEVELOP,
    errors={404: "File not found.", 409: "It is released, or part of a rollout whose devices are kept."},
)
async def delete_file(services: Services, organization: OrganizationScope, file_id: UUID) -> Success:
    """Delete a draft, or a file that was withdrawn."""
    return await delete(services, own(organization), file_id)


@endpoint(
    "PUT",
    "/core/v1/organization/files/{file_id}/content",
    caller=ORGANIZATION_KEY,
    permission=Permission.DEVELOP,
    errors={404: "File not found.", 409: "It has its bytes already, or is no draft any more."},
)
async def put_content(services: Services, organization: OrganizationScope, file_id: UUID, body: Streamed) -> File:
    """Give a draft its bytes. They are compared with `Content-Digest` if that comes along.

    An upload that is cut off leaves nothing behind; it is begun anew. The same bytes again are fine, others are not.
    """
    return await upload(services, own(organization), file_id, body)


@endpoint(
    "GET",
    "/core/v1/organization/files/{file_id}/content",
    caller=ORGANIZATION_KEY,
    permission=Permission.READ,
    errors={404: "File not found.", 409: "It has no bytes yet."},
    described_answer=bytes,
)
async def read_content(
    services: Services, organization: OrganizationScope, file_id: UUID, request: Request
) -> Response:
    """Download a file, whole or a range of it."""
    return await content(services, own(organization), file_id, request)


@endpoint(
    "POST",
    "/core/v1/organization/files/{file_id}/release",
    caller=ORGANIZATION_KEY,
    permission=Permission.DEVELOP,
    errors={404: "File not found.", 409: "It has no bytes yet, or was withdrawn.", 422: "The version is released."},
)
async def release_file(services: Services, organization: OrganizationScope, file_id: UUID) -> File:
    """Release a draft: its devices may fetch it from now on, and firmware is offered to those that are older."""
    return await switch(services, own(organization), file_id, "released")


@endpoint(
    "POST",
    "/core/v1/organization/files/{file_id}/withdraw",
    caller=ORGANIZATION_KEY,
    permission=Permission.DEVELOP,
    errors={404: "File not found.", 409: "It is a draft."},
)
async def withdraw_file(services: Services, organization: OrganizationScope, file_id: UUID) -> File:
    """Withdraw a released file: it is offered to nobody from now on. Downloads under way may end."""
    return await switch(services, own(organization), file_id, "withdrawn")


ENDPOINTS = (
    list_files,
    create_file,
    read_file,
    change_file,
    delete_file,
    put_content,
    read_content,
    release_file,
    withdraw_file,
)
