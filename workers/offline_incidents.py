"""The automatic incident of devices that are offline: the sweep opens it, the flusher closes it.

Both do so inside the transaction that changes the state of the devices, and tell of the change in it. What else the two
share stands here too.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

from schemas import ids, outbox
from schemas.life_cycle import IncidentClosed, IncidentOpened, StatusChanged
from schemas.postgres import Connection

ISSUE = "offline"
CHECK_MAX = timedelta(seconds=300)
"""A device is looked at again after so long at most, so that a threshold that was lowered holds soon."""


async def open_for(connection: Connection, device_ids: Sequence[UUID], moment: datetime) -> None:
    """Open the incidents of devices that went offline, and tell of it."""
    await connection.execute(
        """INSERT INTO incidents (id, device_id, issue, title, opened_at)
           SELECT i.id, i.device_id, $3, 'Device is offline', $4
             FROM unnest($1::uuid[], $2::uuid[]) AS i (id, device_id)
           ON CONFLICT (device_id, issue) WHERE closed_at IS NULL DO NOTHING""",
        [ids.new_id() for _ in device_ids],
        device_ids,
        ISSUE,
        moment,
    )
    await _announce(connection, device_ids, offline=True, moment=moment)


async def close_for(connection: Connection, device_ids: Sequence[UUID], moment: datetime) -> None:
    """Close the incidents of devices that called again, with the events that tell of it."""
    await connection.execute(
        """UPDATE incidents SET closed_at = $2
            WHERE device_id = ANY($1::uuid[]) AND issue = $3 AND closed_at IS NULL""",
        device_ids,
        moment,
        ISSUE,
    )
    await _announce(connection, device_ids, offline=False, moment=moment)


async def _announce(connection: Connection, device_ids: Sequence[object], *, offline: bool, moment: datetime) -> None:
    incident = IncidentOpened(issue=ISSUE) if offline else IncidentClosed(issue=ISSUE)
    for event in (StatusChanged(offline=offline), incident):
        query = "SELECT unnest($4::uuid[]) AS device_id"
        await outbox.append_to_each(connection, event, moment, query, device_ids)
