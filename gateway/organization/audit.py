"""The audit log of the organization: who changed what, and from where."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from msgspec import Meta

from gateway.api import paging
from gateway.api.callers.api_keys import ORGANIZATION_KEY
from gateway.api.endpoint import endpoint
from gateway.api.paging import Boundary, Page, PageQuery, Window
from gateway.api.scopes import OrganizationScope
from gateway.organization.histories import Moment, moment_of
from gateway.permissions import Permission
from gateway.services import Services
from gateway.stores import audit
from gateway.stores.audit import Entry, Filter


class AuditQuery(PageQuery, kw_only=True):
    """Which changes: by whom (`person:…`, `key:…`, `command:…`, a service account, or `system`), which action, when."""

    actor: Annotated[str, Meta(max_length=255, examples=["key:01997a31-4400-7aaa-9755-4d5e6f708192"])] | None = None
    action: Annotated[str, Meta(max_length=255, examples=["claim_device"])] | None = None
    since: Moment | None = None
    until: Moment | None = None

    @property
    def filter(self) -> Filter:
        """What the list is narrowed by; nothing typed narrows nothing."""
        since = moment_of("Since", self.since) if self.since else None
        until = moment_of("Until", self.until) if self.until else None
        return Filter(actor=self.actor or None, action=self.action or None, since=since, until=until)


@endpoint("GET", "/core/v1/organization/audit", caller=ORGANIZATION_KEY, permission=Permission.ORGANIZE)
async def list_audit(services: Services, organization: OrganizationScope, query: AuditQuery) -> Page[Entry]:
    """List what was changed, newest first: by people, keys, service accounts, from the command line, by the gateway."""
    wanted = query.filter

    async def read(window: Window) -> list[Entry]:
        after = None if window.after is None else _position(window.after)
        return await audit.page(
            services.postgres, organization.id, wanted, after=after, offset=window.offset, limit=window.limit
        )

    scope = (str(organization.id), "audit", wanted)
    return await paging.read_page(services, scope, query.page, query.per_page, read, _boundary)


def _boundary(entry: Entry) -> Boundary:
    return [entry.at.isoformat(), str(entry.id)]


def _position(boundary: Boundary) -> tuple[datetime, UUID]:
    return datetime.fromisoformat(str(boundary[0])), UUID(str(boundary[1]))


ENDPOINTS = (list_audit,)
