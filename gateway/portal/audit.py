"""The audit log: who changed what, when, and from where; as a list and as a file for spreadsheets."""

from collections.abc import AsyncIterator

import msgspec
from starlette.responses import Response, StreamingResponse

from gateway.api.scopes import OrganizationScope
from gateway.organization import audit
from gateway.organization.audit import AuditQuery
from gateway.permissions import Permission
from gateway.portal import csv_files
from gateway.portal.page import page
from gateway.portal.rendering import HEADERS, View
from gateway.services import Services
from gateway.stores import audit as stored
from gateway.stores.audit import Entry, Filter

PATH = "/audit"
COLUMNS = ("at", "actor", "actor_name", "action", "target", "address", "given", "before", "after")


@page("GET", PATH, permission=Permission.ORGANIZE)
async def show_audit(services: Services, organization: OrganizationScope, query: AuditQuery) -> View:
    """What was changed."""
    found = await audit.list_audit(services, organization, query)
    return View("audit.html", {"entries": found, "asked": query})


@page("GET", PATH + "/export", permission=Permission.ORGANIZE)
async def export_audit(services: Services, organization: OrganizationScope, query: AuditQuery) -> Response:
    """All of it as CSV."""
    headers = {**HEADERS, "content-disposition": 'attachment; filename="audit.csv"'}
    rows = _csv(services, organization, query.filter)  # what it refuses is a page still, and no file that is cut off
    return StreamingResponse(rows, headers=headers, media_type="text/csv; charset=utf-8")


async def _csv(services: Services, organization: OrganizationScope, wanted: Filter) -> AsyncIterator[str]:
    yield csv_files.line(COLUMNS)
    async for entries in stored.everything(services.postgres, organization.id, wanted):
        yield "".join(csv_files.line(_cell(entry, name) for name in COLUMNS) for entry in entries)


def _cell(entry: Entry, name: str) -> str:
    value = getattr(entry, name)
    if name == "at":
        return str(value.isoformat())
    return value if isinstance(value, str) else "" if value is None else msgspec.json.encode(value).decode()


PAGES = (export_audit, show_audit)
