"""Notes about the owner's devices and spaces."""

from typing import Annotated
from uuid import UUID

from msgspec import Meta, Struct

from gateway.api import paging
from gateway.api.callers.api_keys import ORGANIZATION_KEY
from gateway.api.endpoint import Success, endpoint
from gateway.api.paging import Page, PageQuery, Window
from gateway.api.scopes import OrganizationScope
from gateway.api.validation import TEXT_CHARACTERS_MAX
from gateway.permissions import Permission
from gateway.services import Services
from gateway.stores.incidents import notes
from gateway.stores.incidents.notes import About, Note

OF_DEVICE = "/core/v1/organization/devices/{device_id}/notes"
OF_SPACE = "/core/v1/organization/spaces/{space_id}/notes"
NO_DEVICE, NO_SPACE = {404: "Device not found."}, {404: "Space not found."}
NO_NOTE = {404: "Note not found."}


class NewNote(Struct):
    """What is to be remembered."""

    content: Annotated[
        str, Meta(min_length=1, max_length=TEXT_CHARACTERS_MAX, examples=["The key to the cabinet is at the desk"])
    ]


@endpoint("GET", "/core/v1/organization/devices/notes", caller=ORGANIZATION_KEY, permission=Permission.READ)
async def list_all_notes(services: Services, organization: OrganizationScope, query: PageQuery) -> Page[Note]:
    """List the notes about all devices, newest first."""
    return await _page(services, organization, "device_id", None, query)


@endpoint("GET", OF_DEVICE, caller=ORGANIZATION_KEY, permission=Permission.READ, errors=NO_DEVICE)
async def list_device_notes(
    services: Services, organization: OrganizationScope, device_id: UUID, query: PageQuery
) -> Page[Note]:
    """List the notes about a device, newest first."""
    return await _page(services, organization, "device_id", device_id, query)


@endpoint("POST", OF_DEVICE, caller=ORGANIZATION_KEY, permission=Permission.DEVELOP, status=201, errors=NO_DEVICE)
async def add_device_note(services: Services, organization: OrganizationScope, device_id: UUID, body: NewNote) -> Note:
    """Write something down about a device."""
    return await _add(services, organization, "device_id", device_id, body)


@endpoint("DELETE", f"{OF_DEVICE}/{{note_id}}", caller=ORGANIZATION_KEY, permission=Permission.DEVELOP, errors=NO_NOTE)
async def delete_device_note(
    services: Services, organization: OrganizationScope, device_id: UUID, note_id: UUID
) -> Success:
    """Delete a note about a device."""
    await notes.delete(services.postgres, organization.id, "device_id", device_id, note_id)
    return Success()


@endpoint("GET", OF_SPACE, caller=ORGANIZATION_KEY, permission=Permission.READ, errors=NO_SPACE)
async def list_space_notes(
    services: Services, organization: OrganizationScope, space_id: UUID, query: PageQuery
) -> Page[Note]:
    """List the notes about a space, newest first."""
    return await _page(services, organization, "space_id", space_id, query)


@endpoint("POST", OF_SPACE, caller=ORGANIZATION_KEY, permission=Permission.DEVELOP, status=201, errors=NO_SPACE)
async def add_space_note(services: Services, organization: OrganizationScope, space_id: UUID, body: NewNote) -> Note:
    """Write something down about a space."""
    return await _add(services, organization, "space_id", space_id, body)


@endpoint("DELETE", f"{OF_SPACE}/{{note_id}}", caller=ORGANIZATION_KEY, permission=Permission.DEVELOP, errors=NO_NOTE)
async def delete_space_note(
    services: Services, organization: OrganizationScope, space_id: UUID, note_id: UUID
) -> Success:
    """Delete a note about a space."""
    await notes.delete(services.postgres, organization.id, "space_id", space_id, note_id)
    return Success()


async def _page(
    services: Services, organization: OrganizationScope, about: About, thing_id: UUID | None, query: PageQuery
) -> Page[Note]:
    if thing_id is not None:
        await notes.check(services.postgres, organization.id, about, thing_id)

    async def read(window: Window) -> list[Note]:
        before = None if window.after is None else UUID(str(window.after[0]))
        where = (organization.id, about, thing_id)
        return await notes.page(services.postgres, *where, before=before, offset=window.offset, limit=window.limit)

    return await paging.read_page(
        services,
        ("notes", organization.id, about, thing_id),
        query.page,
        query.per_page,
        read,
        boundary=lambda note: [str(note.id)],
    )


async def _add(
    services: Services, organization: OrganizationScope, about: About, thing_id: UUID, body: NewNote
) -> Note:
    async with services.postgres.acquire() as connection, connection.transaction():
        user, at = organization.principal.id, services.clock()
        return await notes.add(connection, organization.id, about, thing_id, body.content, user, at)


ENDPOINTS = (
    list_all_notes,
    list_device_notes,
    add_device_note,
    delete_device_note,
    list_space_notes,
    add_space_note,
    delete_space_note,
)
