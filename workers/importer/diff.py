"""Applies what a vendor's list changes: rows, devices, spaces and events of all changes, in one transaction.

People go on meanwhile: a device may be deleted, or given to another organization, after the list was compared. So the
devices of all changes are locked first, those that are no longer as they were compared are left out, and every write
repeats the condition on the owner.
"""

from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from schemas import device_trees, ids, outbox
from schemas.life_cycle import DeviceClaimed, DeviceExcluded, DeviceRegistered, DeviceRestored, LabelsChanged
from schemas.postgres import Connection, batches
from workers.importer import spaces
from workers.importer.comparing import Changes, counted
from workers.importer.loading import STATEMENT_S

BATCH = 10_000
_FACTS = ("name", "serial", "mac", "model", "firmware", "space")


class LostRunError(Exception):
    """Somebody else runs this connector now, or a person changed it meanwhile: what was read is void."""


class Target(NamedTuple):
    """Whose devices these become, and where. With `follow_spaces` they move as they do in the vendor's tree."""

    connector_id: str
    organization_id: UUID
    project_id: UUID
    space_id: UUID
    model_id: UUID
    shards: int
    follow_spaces: bool = False


async def apply(connection: Connection, target: Target, changes: Changes, now: datetime) -> Changes:
    """Write all changes that were found by `comparing.compare`, in its transaction; returns what they came to."""
    if target.follow_spaces or await connection.fetchval("SELECT EXISTS (SELECT FROM changed WHERE device_id IS NULL)"):
        # Spaces may have to be made: nobody else changes the tree meanwhile. Projects are locked before devices.
        await connection.execute("SELECT FROM projects WHERE id = $1 FOR NO KEY UPDATE", target.project_id)
    await _settle(connection, target, changes)
    await _exclude(connection, target, now)
    await spaces.make(connection, target.space_id, follow=target.follow_spaces)
    await _update(connection, target, now)
    await _renumber(connection, target)
    if target.follow_spaces:
        await _move(connection, target, now)
    await _keep_facts(connection, target, now)
    await _create(connection, target, now)
    return await counted(connection, changes)


async def _settle(connection: Connection, target: Target, changes: Changes) -> None:
    """Lock the devices, in the order in which everybody does, and leave out those that are not as they were."""
    devices = "SELECT device_id FROM gone UNION SELECT device_id FROM changed"
    if target.follow_spaces and changes.moved:
        await device_trees.lock_trees(connection, devices, limit_s=STATEMENT_S)
    await connection.execute(
        f"""SELECT count(*) FROM (
               SELECT FROM devices WHERE id IN ({devices}) ORDER BY id FOR NO KEY UPDATE) locked""",
        timeout=STATEMENT_S,
    )
    for table in ("gone", "changed"):
        await connection.execute(
            f"""DELETE FROM {table} t WHERE t.device_id IS NOT NULL AND NOT EXISTS (
                    SELECT FROM cloud_devices c JOIN devices d ON d.id = c.device_id
                     WHERE c.connector_id = $1 AND c.vendor_id = t.vendor_id_was AND c.device_id = t.device_id
                       AND c.excluded IS NOT DISTINCT FROM t.excluded AND d.organization_id = $2
                       AND (d.deleted_at IS NULL OR t.excluded = 'user_deleted'))""",
            target.connector_id,
            target.organization_id,
            timeout=STATEMENT_S,
        )


async def _exclude(connection: Connection, target: Target, now: datetime) -> None:
    await connection.execute(
        """UPDATE cloud_devices c SET excluded = 'missing', excluded_at = $2 FROM gone
            WHERE c.connector_id = $1 AND c.vendor_id = gone.vendor_id AND c.device_id = gone.device_id
              AND c.excluded IS NULL""",
        target.connector_id,
        now,
        timeout=STATEMENT_S,
    )
    await outbox.append_to_each(connection, DeviceExcluded(reason="missing"), now, "SELECT device_id FROM gone")


async def _update(connection: Connection, target: Target, now: datetime) -> None:
    """Names follow the vendor's unless a person gave another; firmware and the like always do."""
    renamed = """SELECT ch.device_id, ch.was, ch.name FROM changed ch JOIN devices d ON d.id = ch.device_id
                  WHERE ch.name <> ch.was AND d.name = ch.was AND d.organization_id = $1"""
    async for rows in batches(connection, renamed, target.organization_id, size=BATCH):
        names = [(row["device_id"], {"name": row["was"]}, {"name": row["name"]}) for row in rows]
        await outbox.append(
            connection, [outbox.event(one, LabelsChanged.between(was, name), now) for one, was, name in names]
        )
    await connection.execute(
        """UPDATE devices d SET name = CASE WHEN d.name = ch.was THEN ch.name ELSE d.name END,
                  info_version = d.info_version + (d.name = ch.was AND ch.name <> ch.was)::int,
                  mac = ch.mac, sub_model = ch.model, firmware_version = coalesce(ch.firmware, '')
             FROM changed ch WHERE d.id = ch.device_id AND d.organization_id = $1 AND d.deleted_at IS NULL""",
        target.organization_id,
        timeout=STATEMENT_S,
    )


async def _renumber(connection: Connection, target: Target) -> None:
    """Serial numbers follow the vendor's too. One that another device of the model has is kept as a fact only."""
    await connection.execute(
        """CREATE TEMPORARY TABLE numbered ON COMMIT DROP AS
           SELECT ch.device_id, ch.vendor_id, ch.serial, d.sn FROM changed ch JOIN devices d ON d.id = ch.device_id
            WHERE ch.serial IS NOT NULL AND d.sn IS DISTINCT FROM ch.serial AND d.organization_id = $1
              AND d.deleted_at IS NULL""",
        target.organization_id,
        timeout=STATEMENT_S,
    )
    # Who had to do without a number that one of these gives up gets it now.
    await connection.execute(
        """CREATE TEMPORARY TABLE renumbered ON COMMIT DROP AS
           SELECT device_id, serial, row_number() OVER (PARTITION BY serial ORDER BY vendor_id) AS place
             FROM (SELECT device_id, vendor_id, serial FROM numbered
                    UNION ALL
                   SELECT c.device_id, c.vendor_id, c.serial FROM numbered n JOIN cloud_devices c ON c.serial = n.sn
                     JOIN devices d ON d.id = c.device_id
                    WHERE c.connector_id = $1 AND c.excluded IS NULL AND d.sn IS NULL AND d.organization_id = $2
                      AND d.deleted_at IS NULL
                      AND NOT EXISTS (SELECT FROM changed ch WHERE ch.device_id = c.device_id)) q""",
        target.connector_id,
        target.organization_id,
        timeout=STATEMENT_S,
    )
    # First all give up what they had: two devices may have changed places.
    for number, condition in (
        ("NULL", "d.sn IS NOT NULL"),
        (
            "r.serial",
            """r.place = 1 AND NOT EXISTS (SELECT FROM devices o WHERE o.model_id = d.model_id AND o.sn = r.serial
                                                                   AND o.deleted_at IS NULL)""",
        ),
    ):
        await connection.execute(
            f"UPDATE devices d SET sn = {number} FROM renumbered r WHERE d.id = r.device_id AND {condition}",
            timeout=STATEMENT_S,
        )


async def _move(connection: Connection, target: Target, now: datetime) -> None:
    """Devices follow the vendor's tree unless a person put them elsewhere."""
    await connection.execute(
        """CREATE TEMPORARY TABLE moving ON COMMIT DROP AS
           SELECT d.id AS device_id, coalesce(there.space_id, $2) AS space_id
             FROM changed ch JOIN devices d ON d.id = ch.device_id
             LEFT JOIN places here ON here.path = ch.space_was LEFT JOIN places there ON there.path = ch.space
            WHERE ch.space <> ch.space_was AND d.organization_id = $1 AND d.deleted_at IS NULL
              AND d.space_id = CASE WHEN ch.space_was = '' THEN $2 ELSE here.space_id END""",
        target.organization_id,
        target.space_id,
        timeout=STATEMENT_S,
    )
    async for rows in batches(connection, "SELECT device_id, space_id FROM moving", size=BATCH):
        moved = await device_trees.move_trees(
            connection,
            [(row["device_id"], row["space_id"]) for row in rows],
            owner_id=target.organization_id,
            to_project_id=target.project_id,
            to_organization_id=target.organization_id,
            limit_s=STATEMENT_S,
        )
        await outbox.append(connection, [event for device in moved for event in device.events(now)])


async def _keep_facts(connection: Connection, target: Target, now: datetime) -> None:
    """What the vendor says now, and under which id; those that were missing are back."""
    await outbox.append_to_each(
        connection, DeviceRestored(), now, "SELECT device_id FROM changed WHERE excluded = 'missing'"
    )
    await connection.execute(
        f"""UPDATE cloud_devices c SET vendor_id = ch.vendor_id,
                   excluded = CASE c.excluded WHEN 'missing' THEN NULL ELSE c.excluded END,
                   excluded_at = CASE c.excluded WHEN 'missing' THEN NULL ELSE c.excluded_at END,
                   {", ".join(f"{fact} = ch.{fact}" for fact in _FACTS)}
              FROM changed ch WHERE c.connector_id = $1 AND c.vendor_id = ch.vendor_id_was
               AND c.device_id = ch.device_id AND c.excluded IS NOT DISTINCT FROM ch.excluded""",
        target.connector_id,
        timeout=STATEMENT_S,
    )


async def _create(connection: Connection, target: Target, now: datetime) -> None:
    """New devices: ids are made here, a batch at a time; the rest is done by the server."""
    await connection.execute(
        """CREATE TEMPORARY TABLE fresh (vendor_id text NOT NULL, device_id uuid NOT NULL, shard smallint NOT NULL)
           ON COMMIT DROP"""
    )
    async for rows in batches(connection, "SELECT vendor_id FROM changed WHERE device_id IS NULL", size=BATCH):
        made = [(row["vendor_id"], ids.new_id()) for row in rows]
        fresh = [(vendor_id, new, ids.shard_of(str(new).encode(), target.shards)) for vendor_id, new in made]
        await connection.copy_records_to_table("fresh", records=fresh)
    await connection.execute("ANALYZE fresh")
    # A serial number that is not unique, among these or within the model, is kept with the vendor's facts only.
    await connection.execute(
        """INSERT INTO devices (id, shard, model_id, sn, mac, name, sub_model, firmware_version, registered_at,
                                organization_id, project_id, space_id, claimed_at)
           SELECT f.device_id, f.shard, $1,
                  CASE WHEN row_number() OVER (PARTITION BY ch.serial ORDER BY ch.vendor_id) = 1
                            AND NOT EXISTS (SELECT FROM devices d WHERE d.model_id = $1 AND d.sn = ch.serial
                                             AND d.deleted_at IS NULL)
                       THEN ch.serial END,
                  ch.mac, ch.name, ch.model, coalesce(ch.firmware, ''), $5, $2, $3, coalesce(p.space_id, $4), $5
             FROM fresh f JOIN changed ch USING (vendor_id) LEFT JOIN places p ON p.path = ch.space""",
        target.model_id,
        target.organization_id,
        target.project_id,
        target.space_id,
        now,
        timeout=STATEMENT_S,
    )
    await connection.execute(
        f"""INSERT INTO cloud_devices (connector_id, vendor_id, device_id, {", ".join(_FACTS)})
            SELECT $1, vendor_id, f.device_id, {", ".join(f"ch.{fact}" for fact in _FACTS)}
              FROM fresh f JOIN changed ch USING (vendor_id)""",
        target.connector_id,
        timeout=STATEMENT_S,
    )
    for event in (DeviceRegistered(), DeviceClaimed(space_id=target.space_id)):
        await outbox.append_to_each(connection, event, now, "SELECT device_id FROM fresh")
