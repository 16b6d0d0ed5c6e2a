"""Devices that are about to change: locked first, then changed.

Everything that changes devices takes its locks in this order, here, in the other stores and in workers:

    project  ─►  space  ─►  parents  ─►  devices, by id  ─►  commands, by number

    project   whoever changes its tree of spaces
    space     whoever puts devices into it (held, so that it is not deleted) or changes it and tells the devices in it
    parents   one advisory lock: whoever gives a device another parent
    devices   whoever changes them or their commands. Several are locked by one statement in the order of their ids;
              with those below them by `lock_trees`, never a parent first and then what is found below it
    commands  whoever hands commands out changes several without their devices' locks

Who waits for no lock (`SKIP LOCKED`) may take them in any order: command clock, flusher, whoever empties `reply_queue`.
"""

from typing import Any
from uuid import UUID

from msgspec import Struct

from gateway.refusals import NotFound
from schemas.postgres import Connection, Executor, PostgresBusy

UNKNOWN = "Device not found"
ATTEMPTS_MAX = 10
"""So often is a tree of devices locked anew that grew while it was waited for."""

TREES = """
    WITH RECURSIVE tree AS (
        SELECT id FROM devices WHERE id IN ({tops}) AND deleted_at IS NULL
        UNION SELECT d.id FROM devices d JOIN tree ON d.parent_id = tree.id WHERE d.deleted_at IS NULL)
"""
"""The devices of a query, `tops`, and all devices below them, as `tree`."""
THESE = "SELECT unnest($1::uuid[])"
_SAME = "count(*), bit_xor(hashtextextended(id::text, 0))"
"""Tells two sets of devices apart without taking either out of the database."""


class LockedDevice(Struct, frozen=True):
    """A device of the caller's, locked for the transaction that changes it."""

    id: UUID
    model_id: UUID
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
        """SELECT id, model_id, project_id, space_id, name, details, config_version, open_commands
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


async def lock_trees(connection: Connection, tops: str, *arguments: Any, limit_s: float | None = None) -> None:
    """Lock the devices whose ids a query, `tops`, yields, and all devices below them, until the transaction ends.

    All are found first and then locked in the order of their ids, so that two trees that overlap wait for one another
    and not in a circle. What came below them meanwhile would be locked out of turn: then all locks are given back and
    taken anew. From then on nothing comes below them, since a new child locks its parent. Raises
    PostgresBusy when that goes on and on.
    """
    trees = TREES.format(tops=tops)
    for _ in range(ATTEMPTS_MAX):
        savepoint = connection.transaction()
        await savepoint.start()
        locked = await connection.fetchrow(
            f"""{trees} SELECT {_SAME} FROM (
                    SELECT id FROM devices WHERE id IN (SELECT id FROM tree) AND deleted_at IS NULL
                     ORDER BY id FOR NO KEY UPDATE) locked""",
            *arguments,
            timeout=limit_s,
        )
        if locked == await connection.fetchrow(f"{trees} SELECT {_SAME} FROM tree", *arguments, timeout=limit_s):
            await savepoint.commit()
            return
        await savepoint.rollback()
    raise PostgresBusy("devices kept coming below those that were to be locked")


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
