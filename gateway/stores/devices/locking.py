"""Devices that are about to change: locked first, then changed.

Everything that changes devices takes its locks in this order, here, in the other stores and in workers:

    project  ─►  space  ─►  parents  ─►  devices, by id  ─►  commands, by number  ─►  licences, by id

    project   whoever changes its tree of spaces
    space     whoever puts devices into it (held, so that it is not deleted) or changes it and tells the devices in it
    parents   one advisory lock: whoever gives a device another parent
    devices   whoever changes them or their commands. Several are locked by one statement in the order of their ids;
              with those below them by `schemas.device_trees`, never a parent first and then what is found below it
    commands  whoever hands commands out changes several without their devices' locks
    licences  whoever hands licences out notes it of several likewise

Who waits for no lock (`SKIP LOCKED`) may take them in any order: command clock, flusher, whoever empties `reply_queue`.
"""

from typing import Any
from uuid import UUID

from msgspec import Struct

from gateway.refusals import NotFound
from schemas.device_trees import THESE, lock_trees
from schemas.postgres import Connection, Executor

UNKNOWN = "Device not found"


class LockedDevice(Struct, frozen=True):
    """A device of the caller's, locked for the transaction that changes it."""

    id: UUID
    model_id: UUID
    organization_id: UUID
    project_id: UUID
    space_id: UUID
    name: str
    details: dict[str, Any]
    config_version: int
    open_commands: int


async def lock(
    connection: Connection, organization_id: UUID, device_id: UUID, *, unknown: str = UNKNOWN
) -> LockedDevice:
    """Lock a device that the organization owns until the end of the transaction. Raises NotFound, saying `unknown`."""
    row = await connection.fetchrow(
        """SELECT id, model_id, organization_id, project_id, space_id, name, details, config_version, open_commands
             FROM devices WHERE id = $1 AND organization_id = $2 AND deleted_at IS NULL FOR NO KEY UPDATE""",
        device_id,
        organization_id,
    )
    if row is None:
        raise NotFound(unknown)
    return LockedDevice(**row)


async def lock_with_all_below(connection: Connection, organization_id: UUID, device_id: UUID) -> LockedDevice:
    """As `lock`, with all devices below it. Raises NotFound."""
    await check_owned(connection, organization_id, device_id)
    await lock_trees(connection, THESE, [device_id])
    # Who owns it may have changed while the locks were waited for.
    return await lock(connection, organization_id, device_id)


async def check_of_vendor(connection: Executor, organization_id: UUID, device_id: UUID) -> None:
    """Raises NotFound unless the device is of one of the organization's models, which stays so."""
    if not await connection.fetchval(
        """SELECT true FROM devices d JOIN device_models m ON m.id = d.model_id
            WHERE d.id = $1 AND m.organization_id = $2 AND d.deleted_at IS NULL""",
        device_id,
        organization_id,
    ):
        raise NotFound(UNKNOWN)


async def check_owned(connection: Executor, organization_id: UUID, device_id: UUID) -> None:
    """Raises NotFound unless the organization owns the device, which is not locked."""
    if not await connection.fetchval(
        "SELECT true FROM devices WHERE id = $1 AND organization_id = $2 AND deleted_at IS NULL",
        device_id,
        organization_id,
    ):
        raise NotFound(UNKNOWN)
