"""Files of a vendor for all devices of one of its models, whoever owns them: firmware above all."""

from typing import Annotated
from uuid import UUID

from msgspec import Meta, Struct
from starlette.requests import Request
from starlette.responses import Response

from gateway.api.bodies import Streamed
from gateway.api.callers.api_keys import PARTNER_KEY
from gateway.api.endpoint import Success, endpoint
from gateway.api.paging import Page
from gateway.api.scopes import VendorScope
from gateway.api.validation import Name, Text
from gateway.organization import files
from gateway.organization.files import FileChange, FilesQuery, FileType, MinVersion, Version
from gateway.permissions import Permission
from gateway.services import Services
from gateway.stores.files import catalog
from gateway.stores.files.catalog import File, Whose


class NewModelFile(Struct, kw_only=True):
    """What is known of a new file of a model; its bytes follow. Firmware needs a `version`."""

    model_id: Annotated[UUID, Meta(description="The model whose devices it is for.")]
    name: Name
    file_type: FileType
    desc: Text = ""
    version: Version | None = None
    min_version: MinVersion | None = None
    signature: Text | None = None
    public_notes: Text = ""


def made(partner: VendorScope) -> Whose:
    """The files of a vendor's models."""
    return Whose(partner.id, as_vendor=True)


@endpoint("GET", "/core/v1/partner/files", caller=PARTNER_KEY, permission=Permission.READ)
async def list_files(services: Services, partner: VendorScope, query: FilesQuery) -> Page[File]:
    """List the files of the partner's models, newest first."""
    return await files.page_of(services, made(partner), query)


@endpoint(
    "POST",
    "/core/v1/partner/files",
    caller=PARTNER_KEY,
    permission=Permission.DEVELOP,
    status=201,
    errors={404: "Model not found."},
)
async def create_file(services: Services, partner: VendorScope, body: NewModelFile) -> File:
    """Create a draft of a file for all devices of a model.

    Then its bytes are put to `…/content`, and it is released.
    """
    return await files.create(services, made(partner), body.model_id, body)


@endpoint(
    "GET",
    "/core/v1/partner/files/{file_id}",
    caller=PARTNER_KEY,
    permission=Permission.READ,
    errors={404: "File not found."},
)
async def read_file(services: Services, partner: VendorScope, file_id: UUID) -> File:
    """Read one file; `spreading` says how far a release or a withdrawal has come to the devices."""
    return await catalog.read(services.postgres, made(partner), file_id)


@endpoint(
    "PATCH",
    "/core/v1/partner/files/{file_id}",
    caller=PARTNER_KEY,
    permission=Permission.DEVELOP,
    errors={404: "File not found.", 409: "It is no draft any more."},
)
async def change_file(services: Services, partner: VendorScope, file_id: UUID, body: FileChange) -> File:
    """Change a draft."""
    return await files.change(services, made(partner), file_id, body)


@endpoint(
    "DELETE",
    "/core/v1/partner/files/{file_id}",
    caller=PARTNER_KEY,
    permission=Permission.DEVELOP,
    errors={404: "File not found.", 409: "It is released, or part of a rollout whose devices are kept."},
)
async def delete_file(services: Services, partner: VendorScope, file_id: UUID) -> Success:
    """Delete a draft, or a file that was withdrawn."""
    return await files.delete(services, made(partner), file_id)


@endpoint(
    "PUT",
    "/core/v1/partner/files/{file_id}/content",
    caller=PARTNER_KEY,
    permission=Permission.DEVELOP,
    errors={404: "File not found.", 409: "It has its bytes already, or is no draft any more."},
)
async def put_content(services: Services, partner: VendorScope, file_id: UUID, body: Streamed) -> File:
    """Give a draft its bytes. They are compared with `Content-Digest` if that comes along.

    An upload that is cut off leaves nothing behind; it is begun anew. The same bytes again are fine, others are not.
    """
    return await files.upload(services, made(partner), file_id, body)


@endpoint(
    "GET",
    "/core/v1/partner/files/{file_id}/content",
    caller=PARTNER_KEY,
    permission=Permission.READ,
    errors={404: "File not found.", 409: "It has no bytes yet."},
    described_answer=bytes,
)
async def read_content(services: Services, partner: VendorScope, file_id: UUID, request: Request) -> Response:
    """Download a file, whole or a range of it."""
    return await files.content(services, made(partner), file_id, request)


@endpoint(
    "POST",
    "/core/v1/partner/files/{file_id}/release",
    caller=PARTNER_KEY,
    permission=Permission.DEVELOP,
    errors={404: "File not found.", 409: "It has no bytes yet, or was withdrawn.", 422: "The version is released."},
)
async def release_file(services: Services, partner: VendorScope, file_id: UUID) -> File:
    """Release a draft: its devices may fetch it from now on, and firmware is offered to those that are older."""
    return await files.switch(services, made(partner), file_id, "released")


@endpoint(
    "POST",
    "/core/v1/partner/files/{file_id}/withdraw",
    caller=PARTNER_KEY,
    permission=Permission.DEVELOP,
    errors={404: "File not found.", 409: "It is a draft."},
)
async def withdraw_file(services: Services, partner: VendorScope, file_id: UUID) -> File:
    """Withdraw a released file: it is offered to nobody from now on. Downloads under way may end."""
    return await files.switch(services, made(partner), file_id, "withdrawn")


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
