"""The config of a device: read, and set whole under a version that only grows, by its owner or by the device itself."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg
from msgspec import Struct

from gateway.refusals import DoesNotFit, NotFound, Unauthenticated
from gateway.stores.change import Change
from gateway.stores.devices.locking import UNKNOWN, LockedDevice
from schemas.life_cycle import ConfigChanged
from schemas.postgres import Executor

OLD_VERSION = "Error setting config with old version, latest is {latest}"

_CONFIG = """
    SELECT d.name, d.config_version AS version, d.config_updated_at AS last_updated, d.config, d.id AS device_id{more}
      FROM devices d JOIN device_models m ON m.id = d.model_id
     WHERE d.id = $1 AND d.deleted_at IS NULL
"""
_OWNED_CONFIG = _CONFIG.format(
    more=""", d.applied_config_version AS applied_version,
           CASE d.applied_config_version WHEN 0 THEN NULL WHEN d.config_version THEN d.config
                                         ELSE d.applied_config END AS applied_config"""
)


class Config(Struct):
    """The config of a device; version 0 was never set."""

    name: str
    version: int
    last_updated: datetime | None
    config: dict[str, Any]
    device_id: UUID


class OwnedConfig(Config):
    """The config of a device, and what the device runs: the version that it applied last, 0 for none, and its content,
    which is null where that is not known.
    """

    applied_version: int
    applied_config: dict[str, Any] | None


async def read(connection: Executor, device_id: UUID) -> Config:
    """A device's own config. Raises Unauthenticated when it was deleted."""
    row = await connection.fetchrow(_CONFIG.format(more=""), device_id)
    if row is None:
        raise Unauthenticated
    return Config(**row)


async def read_of_owner(connection: Executor, organization_id: UUID, device_id: UUID) -> OwnedConfig:
    """The config of a device that the organization owns. Raises NotFound."""
    return _known(await connection.fetchrow(f"{_OWNED_CONFIG} AND d.organization_id = $2", device_id, organization_id))


async def by_ids(connection: Executor, organization_id: UUID, device_ids: Sequence[UUID]) -> list[OwnedConfig]:
    """The configs of those of these devices that the organization owns, oldest registration first."""
    of_these = _OWNED_CONFIG.replace("d.id = $1", "d.id = ANY($1::uuid[])")
    rows = await connection.fetch(f"{of_these} AND d.organization_id = $2 ORDER BY d.id", device_ids, organization_id)
    return [OwnedConfig(**row) for row in rows]


async def read_of_vendor(connection: Executor, organization_id: UUID, device_id: UUID) -> OwnedConfig:
    """The config of a device of one of the organization's models. Raises NotFound."""
    return _known(await connection.fetchrow(f"{_OWNED_CONFIG} AND m.organization_id = $2", device_id, organization_id))


def _known(row: asyncpg.Record | None) -> OwnedConfig:
    if row is None:
        raise NotFound(UNKNOWN)
    return OwnedConfig(**row)


async def put_of_owner(change: Change, device: LockedDevice, config: dict[str, Any], edited: int | None) -> None:
    """Store the owner's config as the next version, which the device is told of.

    `edited` is the version that it was made from, when no other edit may be lost. Raises DoesNotFit.
    """
    if edited not in (None, device.config_version):
        raise DoesNotFit(OLD_VERSION.format(latest=device.config_version))
    version = device.config_version + 1
    await change.connection.execute(
        "UPDATE devices SET config = $2, config_version = $3, config_updated_at = $4 WHERE id = $1",
        device.id,
        config,
        version,
        change.moment,
    )
    _changed(change, device.id, version)


async def put(change: Change, device_id: UUID, config: dict[str, Any], version: int | None) -> int:
    """Store a device's own config as `version` or as the next one; returns that.

    The device is taken to have applied it; with the current version and an equal config that is all it says. Raises
    DoesNotFit when the version is otherwise not newer, Unauthenticated when the device was deleted.
    """
    row = await change.connection.fetchrow(
        "SELECT config_version, config FROM devices WHERE id = $1 AND deleted_at IS NULL FOR NO KEY UPDATE", device_id
    )
    if row is None:
        raise Unauthenticated
    latest: int = row["config_version"]
    if version is None:
        version = latest + 1
    elif version == latest and _equal(row["config"], config):
        await change.connection.execute(
            "UPDATE devices SET applied_config_version = $2 WHERE id = $1", device_id, version
        )
        return version
    elif version <= latest:
        raise DoesNotFit(OLD_VERSION.format(latest=latest))
    await change.connection.execute(
        """UPDATE devices SET config = $2, config_version = $3, applied_config_version = $3, config_updated_at = $4
            WHERE id = $1""",
        device_id,
        config,
        version,
        change.moment,
    )
    _changed(change, device_id, version)
    return version


def _equal(one: Any, other: Any) -> bool:
    """Whether two JSON values are the same; 2 and 2.0 are, 1 and true are not."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_equal(value, other[name]) for name, value in one.items())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_equal, one, other))
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)


def _changed(change: Change, device_id: UUID, version: int) -> None:
    change.record(device_id, ConfigChanged(version=version))
    change.touched(device_id)
