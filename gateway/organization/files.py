"""Files for devices, an owner's or all of a vendor's models: firmware, manuals, whatever they fetch."""

from typing import Annotated, Any
from uuid import UUID

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType
from starlette.requests import Request
from starlette.responses import Response

from gateway.api import downloads, paging
from gateway.api.bodies import Streamed
from gateway.api.callers.api_keys import BOTH, OWNER, VENDOR
from gateway.api.downloads import Content
from gateway.api.endpoint import Success, endpoint
from gateway.api.paging import Page, PageQuery, Window
from gateway.api.scopes import WholeScope
from gateway.api.validation import Name, Text
from gateway.permissions import Permission
from gateway.refusals import Conflict, TooLarge
from gateway.services import Services
from gateway.stores.files import catalog, uploads
from gateway.stores.files.catalog import File, Status

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


class NewModelFile(NewFile, kw_only=True):
    """What is known of a new file of a model; its bytes follow. Firmware needs a `version`."""

    model_id: Annotated[UUID, Meta(description="The model whose devices it is for.")]


class FileChange(Struct, kw_only=True):
    """What changes of a draft; members that are absent stay."""

    name: Name | UnsetType = UNSET
    file_type: FileType | UnsetType = UNSET
    desc: Text | UnsetType = UNSET
    version: Version | UnsetType | None = UNSET
    min_version: MinVersion | UnsetType | None = UNSET
    signature: Text | UnsetType | None = UNSET
    public_notes: Text | UnsetType = UNSET


PATH = "/files"
ONE = f"{PATH}/{{file_id}}"
CONTENT = f"{ONE}/content"
_UNKNOWN = {404: "File not found."}


@endpoint("GET", PATH, doors=BOTH, permission=Permission.READ)
async def list_files(services: Services, side: WholeScope, query: FilesQuery) -> Page[File]:
    """List files, newest first."""

    async def read(window: Window) -> list[File]:
        return await catalog.page(
            services.postgres,
            side.whose,
            model_id=query.model_id,
            file_type=query.file_type,
            status=query.status,
            before=None if window.after is None else UUID(str(window.after[0])),
            offset=window.offset,
            limit=window.limit,
        )

    scope = ("files", *side.whose, query.model_id, query.file_type, query.status)
    return await paging.read_page(services, scope, query.page, query.per_page, read, boundary=lambda one: [str(one.id)])


@endpoint(
    "POST",
    PATH,
    doors=(OWNER, VENDOR.but(body=NewModelFile)),
    permission=Permission.DEVELOP,
    status=201,
    errors={404: "Model not found."},
)
async def create_file(services: Services, side: WholeScope, body: NewFile) -> File:
    """Create a draft of a file for all devices of a model, or as an owner for its own devices.

    Then its bytes are put to `…/content`, and it is released.
    """
    members = {name: value for name, value in msgspec.structs.asdict(body).items() if name != "model_id"}
    async with services.postgres.acquire() as connection, connection.transaction():
        return await catalog.create(connection, side.whose, body.model_id, members)


@endpoint("GET", ONE, doors=BOTH, permission=Permission.READ, errors=_UNKNOWN)
async def read_file(services: Services, side: WholeScope, file_id: UUID) -> File:
    """Read one file; `spreading` says how far a release or a withdrawal has come to the devices."""
    return await catalog.read(services.postgres, side.whose, file_id)


@endpoint("PATCH", ONE, doors=BOTH, permission=Permission.DEVELOP, errors={**_UNKNOWN, 409: "It is no draft any more."})
async def change_file(services: Services, side: WholeScope, file_id: UUID, body: FileChange) -> File:
    """Change a draft."""
    given: dict[str, Any] = msgspec.structs.asdict(body)
    members = {name: value for name, value in given.items() if value is not UNSET}
    async with services.postgres.acquire() as connection, connection.transaction():
        file = await catalog.lock(connection, side.whose, file_id)
        return await catalog.change(connection, side.whose, file, members)


@endpoint(
    "DELETE",
    ONE,
    doors=BOTH,
    permission=Permission.DEVELOP,
    errors={**_UNKNOWN, 409: "It is released, or part of a rollout whose devices are kept."},
)
async def delete_file(services: Services, side: WholeScope, file_id: UUID) -> Success:
    """Delete a draft, or a file that was withdrawn."""
    async with services.postgres.acquire() as connection, connection.transaction():
        await catalog.delete(connection, await catalog.lock(connection, side.whose, file_id))
    return Success()


@endpoint(
    "PUT",
    CONTENT,
    doors=BOTH,
    permission=Permission.DEVELOP,
    errors={**_UNKNOWN, 409: "It has its bytes already, or is no draft any more."},
)
async def put_content(services: Services, side: WholeScope, file_id: UUID, body: Streamed) -> File:
    """Give a draft its bytes. They are compared with `Content-Digest` if that comes along.

    An upload that is cut off leaves nothing behind; it is begun anew. The same bytes again are fine, others are not.
    """
    file = await catalog.read(services.postgres, side.whose, file_id)
    bytes_max = services.settings.file_bytes_max
    if body.length is not None and body.length > bytes_max:
        raise TooLarge(uploads.too_large(bytes_max))
    if file.checksum is None and file.status != "draft":
        raise Conflict(f"File is {file.status}: only a draft gets its bytes")
    end = services.uploads.begin(side.id)
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
    return await catalog.read(services.postgres, side.whose, file_id)


@endpoint(
    "GET",
    CONTENT,
    doors=BOTH,
    permission=Permission.READ,
    errors={**_UNKNOWN, 409: "It has no bytes yet."},
    described_answer=bytes,
)
async def read_content(services: Services, side: WholeScope, file_id: UUID, request: Request) -> Response:
    """Download a file, whole or a range of it."""
    file = await catalog.read(services.postgres, side.whose, file_id)
    if file.checksum is None or file.size is None:
        raise Conflict(NO_CONTENT)
    end = services.downloads.begin(side.id)
    shown = Content(file.checksum, file.size, file.name)
    return await downloads.answer(request, services.blobs, shown, end, services.downloads.yield_to_telemetry)


@endpoint(
    "POST",
    f"{ONE}/release",
    doors=BOTH,
    permission=Permission.DEVELOP,
    errors={**_UNKNOWN, 409: "It has no bytes yet, or was withdrawn.", 422: "The version is released."},
)
async def release_file(services: Services, side: WholeScope, file_id: UUID) -> File:
    """Release a draft: its devices may fetch it from now on, and firmware is offered to those that are older."""
    async with services.postgres.acquire() as connection, connection.transaction():
        file = await catalog.lock(connection, side.whose, file_id)
        return await catalog.release(connection, side.whose, file, services.clock())


@endpoint(
    "POST", f"{ONE}/withdraw", doors=BOTH, permission=Permission.DEVELOP, errors={**_UNKNOWN, 409: "It is a draft."}
)
async def withdraw_file(services: Services, side: WholeScope, file_id: UUID) -> File:
    """Withdraw a released file: it is offered to nobody from now on. Downloads under way may end."""
    async with services.postgres.acquire() as connection, connection.transaction():
        file = await catalog.lock(connection, side.whose, file_id)
        return await catalog.withdraw(connection, side.whose, file, services.clock())


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
