"""The device's side of its config: read whole, and set whole under a version that only grows."""

from datetime import datetime
from typing import Any
from uuid import UUID

from gateway.refusals import DoesNotFit, Unauthenticated
from gateway.stores.devices.identity import DeviceCaller
from gateway.stores.devices.owner_view import Config
from schemas import outbox
from schemas.life_cycle import ConfigChanged
from schemas.postgres import Connection, Executor


async def read(connection: Executor, device_id: UUID) -> Config:
    """The config of a device. Raises Unauthenticated when it was deleted."""
    row = await connection.fetchrow(
        """SELECT name, config_version AS version, config_updated_at AS last_updated, config, id AS device_id
             FROM devices WHERE id = $1 AND deleted_at IS NULL""",
        device_id,
    )
    if row is None:
        raise Unauthenticated
    return Config(**row)


async def put(
    connection: Connection, device: DeviceCaller, config: dict[str, Any], version: int | None, moment: datetime
) -> int:
    """Store a device's own whole config, in a transaction, as `version` or as the next one; returns that.

    The device is taken to have applied it; with the current version and an equal config that is all it says. Raises
    DoesNotFit when the version is otherwise not newer, Unauthenticated when the device was deleted.
    """
    row = await connection.fetchrow(
        "SELECT config_version, config FROM devices WHERE id = $1 AND deleted_at IS NULL FOR NO KEY UPDATE",
        device.id,
    )
    if row is None:
        raise Unauthenticated
    latest: int = row["config_version"]
    if version is None:
        version = latest + 1
    elif version == latest and _equal(row["config"], config):
        await connection.execute("UPDATE devices SET applied_config_version = $2 WHERE id = $1", device.id, version)
        return version
    elif version <= latest:
        raise DoesNotFit(f"Error setting config with old version, latest is {latest}")
    await connection.execute(
        """UPDATE devices SET config = $2, config_version = $3, applied_config_version = $3, config_updated_at = $4
            WHERE id = $1""",
        device.id,
        config,
        version,
        moment,
    )
    await outbox.append(connection, [outbox.event(device.id, ConfigChanged(version=version), moment)])
    return version


def _equal(one: Any, other: Any) -> bool:
    """Whether two JSON values are the same; 2 and 2.0 are, 1 and true are not."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_equal(value, other[name]) for name, value in one.items())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_equal, one, other))
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)
