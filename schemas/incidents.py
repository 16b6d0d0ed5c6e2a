"""Opening and closing of incidents, the same for whoever does it: devices and people by an edge, rules by a worker.

One incident is open for each device and issue, whoever opened it: what would open a second one changes nothing. Of a
device whose incidents are suspended, or whose space is in maintenance, none is opened. Both happen in the transaction
of what led to them, which tells of them.
"""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from msgspec import UNSET

from schemas import ids, outbox
from schemas.life_cycle import IncidentClosed, IncidentKind, IncidentOpened
from schemas.postgres import Connection
from schemas.rule_evaluation import Value

OFFLINE = "offline"
"""The issue of the incident that the offline sweep opens."""
PRIORITIES = ("critical", "high", "moderate", "low", "planning")
"""What priorities are called, from 1 on."""
PRIORITY = 3
"""Where none is given."""


class Opening(NamedTuple):
    """An incident that shall be opened."""

    device_id: UUID
    kind: IncidentKind
    issue: str
    title: str
    description: str = ""
    priority: int = PRIORITY
    rule_id: UUID | None = None
    value: Value | None = None
    """What a rule found."""


class Closing(NamedTuple):
    """An open incident that shall be closed."""

    device_id: UUID
    issue: str
    value: Value | None = None


Place = tuple[UUID, str]
"""Device and issue: where one incident may be open."""


async def open_each(connection: Connection, openings: Sequence[Opening], moment: datetime) -> dict[Place, UUID]:
    """Open those that may be opened and are not open yet, and tell of it; the ids of the new ones."""
    if not openings:
        return {}
    columns = list(zip(*openings, strict=True))
    rows = await connection.fetch(
        """INSERT INTO incidents (id, device_id, kind, issue, title, description, priority, rule_id, opened_value,
                                  opened_at)
           SELECT o.id, o.device_id, o.kind, o.issue, o.title, o.description, o.priority, o.rule_id, o.value, $10
             FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::text[], $7::smallint[],
                         $8::uuid[], $9::json[])
                    AS o (id, device_id, kind, issue, title, description, priority, rule_id, value)
             JOIN devices d ON d.id = o.device_id
             LEFT JOIN spaces s ON s.id = d.space_id
            WHERE d.deleted_at IS NULL AND NOT d.incidents_suspended AND s.maintenance IS NOT TRUE
           ON CONFLICT (device_id, issue) WHERE closed_at IS NULL DO NOTHING
           RETURNING id, device_id, kind, issue, title, priority, opened_value AS value""",
        [ids.new_id() for _ in openings],
        *columns,
        moment,
    )
    await outbox.append(connection, [_opened(row, moment) for row in rows])
    return {(row["device_id"], row["issue"]): row["id"] for row in rows}


async def close_each(
    connection: Connection, closings: Sequence[Closing], moment: datetime, kinds: Collection[IncidentKind]
) -> int:
    """Close those of these kinds that are open, and tell of it; returns how many were."""
    if not closings:
        return 0
    return await _close(
        connection,
        """SELECT i.id, c.value
             FROM unnest($3::uuid[], $4::text[], $5::json[]) AS c (device_id, issue, value)
             JOIN incidents i ON i.device_id = c.device_id AND i.issue = c.issue
            WHERE i.closed_at IS NULL AND i.kind = ANY($2::text[]) ORDER BY i.id FOR NO KEY UPDATE OF i""",
        moment,
        list(kinds),
        *zip(*closings, strict=True),
    )


async def close_all(
    connection: Connection, device_ids: Collection[UUID], moment: datetime, kinds: Collection[IncidentKind]
) -> int:
    """Close all open incidents of these kinds that devices have, and tell of it; returns how many there were."""
    return await _close(
        connection,
        """SELECT id, NULL::json AS value FROM incidents
            WHERE device_id = ANY($3::uuid[]) AND closed_at IS NULL AND kind = ANY($2::text[])
            ORDER BY id FOR NO KEY UPDATE""",
        moment,
        list(kinds),
        list(device_ids),
    )


async def close_one(
    connection: Connection, incident_id: UUID, moment: datetime, kinds: Collection[IncidentKind]
) -> bool:
    """Close an incident of one of these kinds, and tell of it; whether it was open."""
    return bool(
        await _close(
            connection,
            """SELECT id, NULL::json AS value FROM incidents
                WHERE id = $3 AND closed_at IS NULL AND kind = ANY($2::text[]) FOR NO KEY UPDATE""",
            moment,
            list(kinds),
            incident_id,
        )
    )


async def close_of_rule(connection: Connection, rule_id: UUID, moment: datetime) -> int:
    """Close all that a rule opened, since it holds no more; returns how many were open."""
    return await _close(
        connection,
        """SELECT id, NULL::json AS value FROM incidents
            WHERE rule_id = $3 AND closed_at IS NULL AND kind = ANY($2::text[]) ORDER BY id FOR NO KEY UPDATE""",
        moment,
        ["rule"],
        rule_id,
    )


async def _close(connection: Connection, which: str, moment: datetime, *arguments: Any) -> int:
    """Close those that a query yields as (`id`, `value`), locked in the order of their ids."""
    rows = await connection.fetch(
        f"""WITH ended AS ({which})
            UPDATE incidents i SET closed_at = greatest($1, i.opened_at), closed_value = ended.value
              FROM ended WHERE i.id = ended.id
            RETURNING i.id, i.device_id, i.kind, i.issue, ended.value""",
        moment,
        *arguments,
    )
    await outbox.append(connection, [_closed(row, moment) for row in rows])
    return len(rows)


def _opened(row: Any, moment: datetime) -> outbox.Event:
    told = IncidentOpened(
        incident_id=row["id"],
        kind=row["kind"],
        issue=row["issue"],
        title=row["title"],
        priority=row["priority"],
        value=UNSET if row["value"] is None else row["value"],
    )
    return outbox.event(row["device_id"], told, moment)


def _closed(row: Any, moment: datetime) -> outbox.Event:
    value = UNSET if row["value"] is None else row["value"]
    told = IncidentClosed(incident_id=row["id"], kind=row["kind"], issue=row["issue"], value=value)
    return outbox.event(row["device_id"], told, moment)
