"""Incidents as people see them: the owner of the devices, and the vendor of their models.

An incident that is closed stays with whom its device belonged to then; an open one is its present owner's. Lists are
in the order in which incidents were opened, newest first.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal, NamedTuple
from uuid import UUID

import asyncpg
from msgspec import Struct

from gateway.refusals import Conflict, NotFound
from gateway.stores.change import Change
from gateway.stores.devices import locking
from gateway.stores.devices.owner_view import SUBTREE, DeviceModel, DeviceSpace
from gateway.stores.whose import Whose
from schemas import incidents
from schemas.incidents import PRIORITIES, Opening
from schemas.life_cycle import IncidentKind
from schemas.postgres import Executor
from schemas.rule_evaluation import Comparison, Value

UNKNOWN = "Incident not found"
SUSPENDED = "Incidents of this device are suspended, or its space is in maintenance"
IS_OPEN = "An incident of this device with this issue is open already"
KINDS: Sequence[IncidentKind] = ("device", "user", "rule")

Status = Literal["active", "closed"]

_INCIDENT = """
    SELECT i.id, i.device_id, i.kind, i.issue, i.title, i.description, i.priority, i.opened_at,
           i.closed_at, i.assignee, i.comment, i.rule_id, i.opened_value, i.closed_value, d.sub_model,
           m.id AS model_id, m.vendor, m.name AS model_name, o.name AS partner_name, s.id AS space_id, s.full_path,
           r.telemetry_key, r.comparison, r.value, r.duration_s, t.id AS ticket_id,
           CASE WHEN d.organization_id = i.organization_id THEN d.name ELSE '' END AS device_name
      FROM incidents i
      JOIN devices d ON d.id = i.device_id
      JOIN device_models m ON m.id = d.model_id
      JOIN organizations o ON o.id = m.organization_id
      LEFT JOIN spaces s ON s.id = d.space_id AND d.organization_id = i.organization_id
      LEFT JOIN incident_rules r ON r.id = i.rule_id
      LEFT JOIN tickets t ON t.incident_id = i.id AND t.resolved_at IS NULL
"""
_OWN = {
    False: "i.organization_id = $1 AND (i.closed_at IS NOT NULL OR d.organization_id = $1)",
    True: "i.vendor_id = $1",
}
"""SQL that is true of incidents of an organization's devices, or of the models that it makes."""


class RuleTerms(Struct):
    """What holds while an incident of a rule is open: the value of a telemetry key, so compared, is beyond `value`."""

    telemetry: str
    comparison: Comparison
    value: Value
    duration_s: int


class Incident(Struct, kw_only=True):
    """Something that is, or was, wrong with a device. `kind` tells who opened it: the device, a user or a rule.

    `rule_id` is null of the incident about being offline, `rule` of one whose rule was deleted. What a rule found
    when it opened and closed the incident stands in `opened_value` and `closed_value`. `ticket_id` is the open
    ticket about it.
    """

    id: UUID
    device_id: UUID
    device_name: str
    kind: IncidentKind
    issue: str
    title: str
    description: str
    priority: int
    priority_name: str
    status: Status
    opened_at: datetime
    closed_at: datetime | None
    assignee: str | None
    comment: str | None
    rule_id: UUID | None
    rule: RuleTerms | None
    opened_value: Value | None
    closed_value: Value | None
    model: DeviceModel
    sub_model: str | None
    partner_name: str
    space: DeviceSpace | None
    ticket_id: UUID | None


class Filters(NamedTuple):
    """Which incidents; None does not narrow them. Texts of title and description are looked for in any case."""

    since: datetime
    until: datetime
    status: Status | None = None
    priority: int | None = None
    title: str | None = None
    description: str | None = None
    issue: str | None = None
    device_model: str | None = None
    partner_name: str | None = None
    sub_model: str | None = None
    space_id: UUID | None = None
    device_id: UUID | None = None
    project_ids: Sequence[UUID] | None = None


_CONDITIONS = {
    "priority": "i.priority = {}",
    "title": "strpos(lower(i.title), lower({})) > 0",
    "description": "strpos(lower(i.description), lower({})) > 0",
    "issue": "i.issue = {}",
    "device_model": "lower(m.name) = lower({})",
    "partner_name": "lower({}) IN (lower(o.name), lower(m.vendor))",
    "sub_model": "d.sub_model = {}",
    "space_id": f"d.organization_id = i.organization_id AND d.space_id IN ({SUBTREE.format(top='{}')})",
    "device_id": "i.device_id = {}",
    "project_ids": "d.project_id = ANY({}::uuid[])",
}


async def page(
    connection: Executor,
    whose: Whose,
    filters: Filters,
    *,
    before: tuple[datetime, UUID] | None,
    offset: int,
    limit: int,
) -> list[Incident]:
    """The incidents of an organization that were opened in a time range, newest first, from behind `before` on."""
    arguments: list[Any] = [whose.organization_id, filters.since, filters.until, offset, limit]
    conditions = [_OWN[whose.as_vendor], "i.opened_at >= $2", "i.opened_at < $3"]
    if filters.status is not None:
        conditions.append(f"i.closed_at IS {'' if filters.status == 'active' else 'NOT '}NULL")
    for name, condition in _CONDITIONS.items():
        if (value := getattr(filters, name)) is not None:
            arguments.append(value)
            conditions.append(condition.format(f"${len(arguments)}"))
    if before is not None:
        arguments += before
        conditions.append(f"(i.opened_at, i.id) < (${len(arguments) - 1}, ${len(arguments)})")
    rows = await connection.fetch(
        f"{_INCIDENT} WHERE {' AND '.join(conditions)} ORDER BY i.opened_at DESC, i.id DESC OFFSET $4 LIMIT $5",
        *arguments,
    )
    return [_incident(row) for row in rows]


async def read(connection: Executor, whose: Whose, incident_id: UUID) -> Incident:
    """Raises NotFound for an unknown incident and for another tenant's alike."""
    row = await connection.fetchrow(
        f"{_INCIDENT} WHERE {_OWN[whose.as_vendor]} AND i.id = $2", whose.organization_id, incident_id
    )
    if row is None:
        raise NotFound(UNKNOWN)
    return _incident(row)


async def project_of(connection: Executor, organization_id: UUID, incident_id: UUID) -> UUID | None:
    """The project that an incident's device is in. Raises NotFound."""
    row = await connection.fetchrow(
        f"""SELECT d.project_id FROM incidents i JOIN devices d ON d.id = i.device_id
             WHERE {_OWN[False]} AND i.id = $2""",
        organization_id,
        incident_id,
    )
    if row is None:
        raise NotFound(UNKNOWN)
    project_id: UUID | None = row["project_id"]
    return project_id


async def open_one(change: Change, organization_id: UUID, opening: Opening) -> Incident:
    """Open an incident of a device that the organization owns.

    Raises NotFound for the device, Conflict when one is open for the issue or none may be opened now.
    """
    connection = change.connection
    await locking.lock(connection, organization_id, opening.device_id)
    opened = await incidents.open_each(connection, [opening], change.moment)
    if not opened:
        open_already = await connection.fetchval(
            "SELECT true FROM incidents WHERE device_id = $1 AND issue = $2 AND closed_at IS NULL",
            opening.device_id,
            opening.issue,
        )
        raise Conflict(IS_OPEN if open_already else SUSPENDED)
    return await read(connection, Whose(organization_id, as_vendor=False), next(iter(opened.values())))


async def update(change: Change, organization_id: UUID, incident_id: UUID, changes: dict[str, str | None]) -> Incident:
    """Set assignee and comment, those that are given. Raises NotFound."""
    await read(change.connection, Whose(organization_id, as_vendor=False), incident_id)
    await change.connection.execute(
        """UPDATE incidents SET assignee = CASE WHEN $2 THEN $3 ELSE assignee END,
                  comment = CASE WHEN $4 THEN $5 ELSE comment END WHERE id = $1""",
        incident_id,
        "assignee" in changes,
        changes.get("assignee"),
        "comment" in changes,
        changes.get("comment"),
    )
    return await read(change.connection, Whose(organization_id, as_vendor=False), incident_id)


async def close(change: Change, organization_id: UUID, incident_id: UUID) -> Incident:
    """Close an incident, whoever opened it; one that is closed stays so. Raises NotFound."""
    found = await read(change.connection, Whose(organization_id, as_vendor=False), incident_id)
    await incidents.close_one(change.connection, found.id, change.moment, KINDS)
    return await read(change.connection, Whose(organization_id, as_vendor=False), incident_id)


async def suspend(change: Change, organization_id: UUID, device_id: UUID, *, suspended: bool) -> None:
    """Let no incidents of a device be opened, or again. Those that are open stay so. Raises NotFound."""
    await locking.lock(change.connection, organization_id, device_id)
    await change.connection.execute("UPDATE devices SET incidents_suspended = $2 WHERE id = $1", device_id, suspended)


def _incident(row: asyncpg.Record) -> Incident:
    return Incident(
        id=row["id"],
        device_id=row["device_id"],
        device_name=row["device_name"],
        kind=row["kind"],
        issue=row["issue"],
        title=row["title"],
        description=row["description"],
        priority=row["priority"],
        priority_name=PRIORITIES[row["priority"] - 1],
        status="active" if row["closed_at"] is None else "closed",
        opened_at=row["opened_at"],
        closed_at=row["closed_at"],
        assignee=row["assignee"],
        comment=row["comment"],
        rule_id=row["rule_id"],
        rule=None
        if row["telemetry_key"] is None
        else RuleTerms(row["telemetry_key"], row["comparison"], row["value"], row["duration_s"]),
        opened_value=row["opened_value"],
        closed_value=row["closed_value"],
        model=DeviceModel(row["model_id"], row["vendor"], row["model_name"]),
        sub_model=row["sub_model"],
        partner_name=row["partner_name"],
        space=None if row["full_path"] is None else DeviceSpace(row["space_id"], row["full_path"]),
        ticket_id=row["ticket_id"],
    )
