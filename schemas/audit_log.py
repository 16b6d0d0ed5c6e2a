"""What the gateway decides by itself against what somebody set: written into the audit log beside what people do."""

from datetime import datetime
from typing import Any
from uuid import UUID

from schemas import ids
from schemas.postgres import Connection

SYSTEM = "system"


async def note(
    connection: Connection, *, at: datetime, organization_id: UUID | None, action: str, target: str, after: Any
) -> None:
    """Write down what was done, in the transaction that does it; `target` is as the API addresses it."""
    await connection.execute(
        """INSERT INTO audit_log (id, at, organization_id, actor, action, target, address, after)
           VALUES ($1, $2, $3, $4, $5, $6, '', $7)""",
        ids.new_id(),
        at,
        organization_id,
        SYSTEM,
        action,
        target,
        after,
    )
