"""The audit of a device: who did what to its keys, and to which unit it is, and when; readable by its owner.

Entries are written in the transaction of what they tell of. Each belongs to the organization that owned the device
then, and the next owner does not see it. A device keeps its newest entries.
"""

from datetime import datetime
from typing import Any, Literal, NamedTuple
from uuid import UUID

from msgspec import Struct

from gateway.stores.change import Change
from schemas.postgres import Executor

ENTRIES_MAX = 1_000
"""Of one device."""

ActorKind = Literal["owner", "vendor", "unit"]
Action = Literal[
    "key_rotated",
    "replacement_requested",
    "replacement_undone",
    "replaced",
    "return_asked",
    "return_confirmed",
    "returned",
]


class Actor(NamedTuple):
    """Who does something: by an API key, or a unit from its address."""

    kind: ActorKind
    id: str


class AuditEntry(Struct, kw_only=True):
    """What was done. `actor_id` is the API key that was used, or the address that the unit called from."""

    id: int
    at: datetime
    actor: ActorKind
    actor_id: str
    action: Action
    details: dict[str, Any]


async def note(change: Change, device_id: UUID, actor: Actor, action: Action, **details: Any) -> None:
    """Write down what is done to a device that is locked."""
    await change.connection.execute(
        """INSERT INTO device_audit (device_id, organization_id, at, actor, actor_id, action, details)
           SELECT id, organization_id, $2, $3, $4, $5, $6 FROM devices WHERE id = $1""",
        device_id,
        change.moment,
        actor.kind,
        actor.id,
        action,
        details,
    )
    await change.connection.execute(
        """DELETE FROM device_audit WHERE device_id = $1 AND id <= (
               SELECT id FROM device_audit WHERE device_id = $1 ORDER BY id DESC OFFSET $2 LIMIT 1)""",
        device_id,
        ENTRIES_MAX,
    )


async def page(
    connection: Executor, owner_id: UUID, device_id: UUID, *, before: int | None, offset: int, limit: int
) -> list[AuditEntry]:
    """What was done while the organization owned the device, newest first."""
    rows = await connection.fetch(
        """SELECT id, at, actor, actor_id, action, details FROM device_audit
            WHERE device_id = $1 AND organization_id = $2 AND ($3::bigint IS NULL OR id < $3)
            ORDER BY id DESC OFFSET $4 LIMIT $5""",
        device_id,
        owner_id,
        before,
        offset,
        limit,
    )
    return [AuditEntry(**row) for row in rows]
