"""The device's side of its config: read whole, and set whole under a version that only grows."""

from datetime import datetime
from typing import Any
from uuid import UUID

from gateway.api.callers import DeviceCaller
from gateway.refusals import Refusal
from gateway.stores.devices.device_view import gone
from gateway.stores.devices.owner_view import Config
from schemas import events
from schemas.events import EventType
from schemas.postgres import Connection, Executor


async def read(connection: Executor, device_id: UUID) -> Config:
    """The config of a device. Raises Refusal (401) when it was deleted."""
    row = await connection.fetchrow(
        """SELECT name, config_version AS version, config_updated_at AS last_updated, config, id AS device_id
             FROM devices WHERE id = $1 AND deleted_at IS NULL""",
        device_id,
    )
    if row is None:
        raise gone()
    return Config(**row)


async def put(
    connection: Connection, device: DeviceCaller, config: dict[str, Any], version: int | None, moment: datetime
) -> int:
    """Store a device's own whole config, in a transaction, as `version` or as the next one; returns that.

    The device is taken to have applied it. Raises Refusal: 422 when the version is not newer, 401 when the device was
    deleted.
    """
    row = await connection.fetchrow(
        "SELECT config_version, project_id FROM devices WHERE id = $1 AND deleted_at IS NULL FOR NO KEY UPDATE",
        device.id,
    )
    if row is None:
        raise gone()
    latest: int = row["config_version"]
    if version is None:
        version = latest + 1
    elif version <= latest:
        raise Refusal(422, f"Error setting config with old version, latest is {latest}")
    await connection.execute(
        """UPDATE devices SET config = $2, config_version = $3, applied_config_version = $3, config_updated_at = $4
            WHERE id = $1""",
        device.id,
        config,
        version,
        moment,
    )
    if row["project_id"] is not None:
        await events.append(
            connection,
            EventType.CONFIG_CHANGED,
            device_id=device.id,
            shard=device.shard,
            project_id=row["project_id"],
            moment=moment,
            version=version,
        )
    return version
