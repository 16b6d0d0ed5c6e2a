"""Devices with all that is below them: locked, and moved to another space.

Edges do so with one device, importers with as many as a vendor's list has. A device takes along those below it that are
in the same space, unless they are to go elsewhere.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from schemas import outbox
from schemas.life_cycle import DeviceMoved
from schemas.outbox import Event
from schemas.postgres import Connection, PostgresBusy

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


class MovedDevice(NamedTuple):
    """A device that is in another space now."""

    device_id: UUID
    from_project_id: UUID
    from_space_id: UUID
    to_project_id: UUID
    to_space_id: UUID

    def events(self, moment: datetime) -> list[Event]:
        """What its project is told; both, where it came into another one."""
        moved = DeviceMoved(
            from_project_id=self.from_project_id,
            from_space_id=self.from_space_id,
            to_project_id=self.to_project_id,
            to_space_id=self.to_space_id,
        )
        projects = dict.fromkeys((self.from_project_id, self.to_project_id))
        return [outbox.event(self.device_id, moved, moment, project_id) for project_id in projects]


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


async def move_trees(
    connection: Connection,
    wanted: Sequence[tuple[UUID, UUID]],
    *,
    owner_id: UUID,
    to_project_id: UUID,
    to_organization_id: UUID,
    limit_s: float | None = None,
) -> list[MovedDevice]:
    """Put devices into spaces, each with those below it; returns those that moved.

    `wanted` is pairs of a device, which is locked with all below it, and a space of `to_project_id`, which is held.
    Devices that are not `owner_id`'s, or are there already, stay.
    """
    rows = await connection.fetch(
        """WITH RECURSIVE moving AS (
               SELECT d.id, d.project_id, d.space_id, w.space_id AS to_space_id, 0 AS depth
                 FROM unnest($1::uuid[], $2::uuid[]) AS w (device_id, space_id) JOIN devices d ON d.id = w.device_id
                WHERE d.organization_id = $3 AND d.deleted_at IS NULL AND d.space_id <> w.space_id
               UNION ALL
               SELECT d.id, d.project_id, d.space_id, m.to_space_id, m.depth + 1
                 FROM devices d JOIN moving m ON d.parent_id = m.id
                WHERE d.space_id = m.space_id AND d.organization_id = $3 AND d.deleted_at IS NULL)
           UPDATE devices d SET space_id = m.to_space_id, project_id = $4, organization_id = $5,
                  space_data_version = space_data_version + 1
             FROM (SELECT DISTINCT ON (id) * FROM moving ORDER BY id, depth) m WHERE d.id = m.id
           RETURNING d.id, m.project_id, m.space_id, m.to_space_id""",
        [device_id for device_id, _ in wanted],
        [space_id for _, space_id in wanted],
        owner_id,
        to_project_id,
        to_organization_id,
        timeout=limit_s,
    )
    return [
        MovedDevice(row["id"], row["project_id"], row["space_id"], to_project_id, row["to_space_id"]) for row in rows
    ]
