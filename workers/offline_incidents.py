"""The automatic incident of devices that are offline: the sweep opens it, the flusher closes it.

Both do so inside the transaction that changes the state of the devices, and tell of the change in it. What else the two
share stands here too.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

from schemas import incidents, outbox
from schemas.incidents import Closing, Opening
from schemas.life_cycle import StatusChanged
from schemas.postgres import Connection

CHECK_MAX = timedelta(seconds=300)
"""A device is looked at again after so long at most, so that a threshold that was lowered holds soon."""


async def open_for(connection: Connection, device_ids: Sequence[UUID], moment: datetime) -> None:
    """Open the incidents of devices that went offline, but of those that shall have none, and tell of both."""
    await _announce(connection, device_ids, offline=True, moment=moment)
    openings = [Opening(device_id, "rule", incidents.OFFLINE, "Device is offline") for device_id in device_ids]
    await incidents.open_each(connection, openings, moment)


async def close_for(connection: Connection, device_ids: Sequence[UUID], moment: datetime) -> None:
    """Close the incidents of devices that called again, with the events that tell of it."""
    await _announce(connection, device_ids, offline=False, moment=moment)
    closings = [Closing(device_id, incidents.OFFLINE) for device_id in device_ids]
    await incidents.close_each(connection, closings, moment, ["rule"])


async def _announce(connection: Connection, device_ids: Sequence[object], *, offline: bool, moment: datetime) -> None:
    query = "SELECT unnest($4::uuid[]) AS device_id"
    await outbox.append_to_each(connection, StatusChanged(offline=offline), moment, query, device_ids)
