"""Rotating a device's key: its version goes up, and for a while the key before is good too.

    rotate ──▶ both keys are good ──the new one is used, or the time is over──▶ only the new one

The flusher sees when the new key is used (see `workers.key_overlaps`). Who rotates again before that replaces the new
key, which nobody used: the one that the device has stays good.
"""

from datetime import datetime, timedelta
from uuid import UUID

from msgspec import Struct

from gateway.refusals import Conflict, NotFound
from gateway.stores.change import Change
from gateway.stores.devices import audit
from gateway.stores.devices.audit import Actor
from gateway.stores.devices.locking import UNKNOWN
from schemas.ids import next_key_version

TOO_OFTEN = "The device's key was rotated too often: the operator has to rotate the master key first"


class RotatedKey(Struct, frozen=True):
    """The version of a device's new key, and until when the one before is good as well."""

    version: int
    previous_until: datetime | None


async def rotate(change: Change, device_id: UUID, overlap: timedelta, actor: Actor) -> RotatedKey:
    """Give a device a new key. Without an overlap the one before ends at once. Raises NotFound, Conflict."""
    was = await change.connection.fetchrow(
        """SELECT key_version, previous_key_version, previous_key_good, key_generation() AS generation FROM devices
            WHERE id = $1 AND deleted_at IS NULL FOR NO KEY UPDATE""",
        device_id,
    )
    if was is None:
        raise NotFound(UNKNOWN)
    version = next_key_version(was["key_version"], was["generation"])
    if version is None:
        raise Conflict(TOO_OFTEN)
    until = change.moment + overlap if overlap else None
    await change.connection.execute(
        """UPDATE devices SET key_version = $2, previous_key_version = $3, previous_key_until = $4::timestamptz,
                  previous_key_good = $4 IS NOT NULL WHERE id = $1""",
        device_id,
        version,
        was["previous_key_version"] if was["previous_key_good"] else was["key_version"],
        until,
    )
    await audit.note(
        change, device_id, actor, "key_rotated", key_version=version, overlap_s=int(overlap.total_seconds())
    )
    change.touched(device_id)
    return RotatedKey(version, until)
