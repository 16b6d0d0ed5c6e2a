"""What is wrong with devices, and what was: an owner's, or those of a vendor's models."""

from datetime import datetime, timedelta
from typing import Annotated
from uuid import UUID

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType, field

from gateway.api import paging
from gateway.api.callers.api_keys import BOTH, OWNER, VENDOR
from gateway.api.endpoint import Success, endpoint
from gateway.api.paging import PER_PAGE, Page, PageNumber, Window
from gateway.api.scopes import OrganizationScope, SideScope, WholeScope
from gateway.api.validation import Label, Name, Text, check_priority
from gateway.organization.histories import Moment, moment_of
from gateway.permissions import Permission
from gateway.refusals import DoesNotFit
from gateway.services import Services
from gateway.stores.change import change
from gateway.stores.incidents import incidents
from gateway.stores.incidents.incidents import Filters, Incident, Status
from schemas.incidents import PRIORITIES, PRIORITY, Opening

PER_PAGE_MAX = 500
RANGE_DEFAULT = timedelta(days=7)
SEARCHED = (
    "priority", "title", "description", "issue", "device_model", "partner_name", "sub_model", "space_id", "device_id",
)  # fmt: skip
"""Filters by which incidents are looked through, not found."""
PATH = "/incidents"
ONE = f"{PATH}/{{incident_id}}"
UNKNOWN = {404: "Incident not found."}


class IncidentsQuery(Struct, kw_only=True):
    """Which incidents: opened from `from` on (by default a week before `to`) and before `to` (by default now).

    `priority` is a number or a name, `space_id` means the space and all below it; `title` and `description` need only
    hold the text, in any case.
    """

    since: Moment | None = field(default=None, name="from")
    until: Moment | None = field(default=None, name="to")
    status: Status | None = None
    priority: Annotated[Label, Meta(description="1 to 5, or critical, high, moderate, low, planning.")] | None = None
    title: Label | None = None
    description: Label | None = None
    issue: Label | None = None
    device_model: Label | None = None
    partner_name: Label | None = None
    sub_model: Label | None = None
    space_id: UUID | None = None
    device_id: UUID | None = None
    page: PageNumber = 1
    per_page: Annotated[int, Meta(ge=1, le=PER_PAGE_MAX)] = PER_PAGE

    def is_long(self) -> bool:
        """So is a search, which may have to look at all incidents of the time."""
        return paging.reaches_far(self.page, self.per_page) or any(getattr(self, name) is not None for name in SEARCHED)


class NewIncident(Struct, kw_only=True):
    """Something that a person found wrong with a device. `priority` goes from 1 (critical) to 5 (planning).

    One incident is open for each device and `issue`, which is the title where none is given.
    """

    device_id: UUID
    title: Annotated[Name, Meta(examples=["Display is cracked"])]
    description: Text = ""
    priority: Annotated[int, Meta(examples=[PRIORITY])] = PRIORITY
    issue: Label | None = None


class IncidentChange(Struct, kw_only=True):
    """Who looks after it, and what there is to say; members that are absent stay, null empties them."""

    assignee: Label | UnsetType | None = UNSET
    comment: Text | UnsetType | None = UNSET


@endpoint(
    "GET",
    PATH,
    doors=(OWNER.but(errors={404: "The device or space is not the organization's."}), VENDOR),
    permission=Permission.READ,
)
async def list_incidents(services: Services, side: SideScope, query: IncidentsQuery) -> Page[Incident]:
    """List incidents, newest first."""
    if query.device_id is not None:
        await side.over(services, query.device_id)
    if query.space_id is not None:
        await side.at(services, query.space_id)
    until = services.clock() if query.until is None else moment_of("To", query.until)
    since = until - RANGE_DEFAULT if query.since is None else moment_of("From", query.since)
    if until <= since:
        raise DoesNotFit("From must be before to")
    narrowed = {name: getattr(query, name, None) for name in Filters._fields[2:]}
    narrowed |= {"priority": _priority(query.priority), "project_ids": side.project_ids}
    # What happens while this is read is the newest there is.
    filters = Filters(since, until if query.until is not None else until + timedelta(minutes=1), **narrowed)

    async def read(window: Window) -> list[Incident]:
        before = None
        if window.after is not None:
            opened_at, incident_id = window.after
            before = (datetime.fromisoformat(str(opened_at)), UUID(str(incident_id)))
        return await incidents.page(
            services.postgres, side.whose, filters, before=before, offset=window.offset, limit=window.limit
        )

    return await paging.read_page(
        services,
        ("incidents", *side.whose, query.since, query.until, *narrowed.values()),
        query.page,
        query.per_page,
        read,
        boundary=lambda incident: [incident.opened_at.isoformat(), str(incident.id)],
    )


@endpoint(
    "POST",
    PATH,
    doors=(OWNER,),
    permission=Permission.DEVELOP,
    status=201,
    errors={404: "Device not found.", 409: "One is open for the issue, or none may be opened now."},
)
async def open_incident(services: Services, organization: OrganizationScope, body: NewIncident) -> Incident:
    """Open an incident of a device."""
    check_priority(body.priority)
    issue = body.issue or body.title
    opening = Opening(body.device_id, "user", issue, body.title, body.description, body.priority)
    async with change(services) as changed:
        return await incidents.open_one(changed, organization.id, opening)


@endpoint("GET", ONE, doors=BOTH, permission=Permission.READ, errors=UNKNOWN)
async def read_incident(services: Services, side: WholeScope, incident_id: UUID) -> Incident:
    """Read one incident."""
    return await incidents.read(services.postgres, side.whose, incident_id)


@endpoint("PATCH", ONE, doors=(OWNER,), permission=Permission.DEVELOP, errors=UNKNOWN)
async def change_incident(
    services: Services, organization: OrganizationScope, incident_id: UUID, body: IncidentChange
) -> Incident:
    """Say who looks after an incident, and what there is to say of it."""
    changes = {name: value for name, value in msgspec.structs.asdict(body).items() if value is not UNSET}
    async with change(services) as changed:
        return await incidents.update(changed, organization.id, incident_id, changes)


@endpoint("DELETE", ONE, doors=(OWNER,), permission=Permission.DEVELOP, errors=UNKNOWN)
async def close_incident(services: Services, organization: OrganizationScope, incident_id: UUID) -> Incident:
    """Close an incident, whoever opened it; it stays in the list. One that is closed already stays as it is."""
    async with change(services) as changed:
        return await incidents.close(changed, organization.id, incident_id)


@endpoint(
    "POST",
    "/devices/{device_id}/suspend_incidents",
    doors=(OWNER,),
    permission=Permission.DEVELOP,
    errors={404: "Device not found."},
)
async def suspend_incidents(services: Services, organization: OrganizationScope, device_id: UUID) -> Success:
    """Open no incidents of a device until they are resumed, by the owner or by the device. Open ones stay open."""
    async with change(services) as changed:
        await incidents.suspend(changed, organization.id, device_id, suspended=True)
    return Success()


@endpoint(
    "POST",
    "/devices/{device_id}/resume_incidents",
    doors=(OWNER,),
    permission=Permission.DEVELOP,
    errors={404: "Device not found."},
)
async def resume_incidents(services: Services, organization: OrganizationScope, device_id: UUID) -> Success:
    """Open incidents of a device again."""
    async with change(services) as changed:
        await incidents.suspend(changed, organization.id, device_id, suspended=False)
    return Success()


def _priority(text: str | None) -> int | None:
    """A priority by number or name. Raises DoesNotFit."""
    if text is None:
        return None
    if text in PRIORITIES:
        return PRIORITIES.index(text) + 1
    priority = int(text) if text.isascii() and text.isdecimal() else 0
    check_priority(priority)
    return priority


ENDPOINTS = (
    list_incidents,
    open_incident,
    read_incident,
    change_incident,
    close_incident,
    suspend_incidents,
    resume_incidents,
)
