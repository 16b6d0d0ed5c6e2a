"""The heart of a sync: a vendor's complete list against what was imported before, in sets, in one transaction.

    load     pages are copied into the session's temporary table as they come: memory stays flat
    compare  two set operations find what changed and what is gone; nothing is written yet
    apply    rows, devices, spaces and events of all changes, or none of them

A list that would exclude much is held instead of applied: an empty one after one that was not, or one without more
than a share of the active devices. It is applied once a person confirms it, or the third time in a row that it comes.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from msgspec import Struct

from schemas import ids, outbox
from schemas.events import EventType
from schemas.life_cycle import DeviceClaimed, DeviceExcluded, DeviceRegistered, DeviceRestored
from schemas.postgres import Connection, batches
from workers.importer.devices import Listed

EXCLUDED_SHARE_MAX = 0.15
EXCLUDED_MIN = 10
AGREEING_RUNS = 3
BATCH = 10_000
SHOWN = 100
STATEMENT_S = 600.0

_FACTS = ("name", "serial", "mac", "model", "firmware")
_SAME = (
    f"({', '.join('l.' + fact for fact in _FACTS)}) IS NOT DISTINCT FROM ({', '.join('c.' + fact for fact in _FACTS)})"
)


class LostRunError(Exception):
    """Somebody else runs this connector now, or a person changed it meanwhile: what was read is void."""


class Target(NamedTuple):
    """Whose devices these become, and where."""

    connector_id: str
    organization_id: UUID
    project_id: UUID
    space_id: UUID
    model_id: UUID
    shards: int


class Changes(Struct):
    """What a list changes, in numbers."""

    found: int = 0
    created: int = 0
    renamed: int = 0
    excluded: int = 0
    restored: int = 0
    active: int = 0
    """Devices active before."""
    gone_digest: str = ""
    """Of the ids that are gone: the same for the same set."""

    @property
    def excludes_much(self) -> bool:
        """Whether the list must be held."""
        if self.found == 0 and self.active > 0:
            return True
        return self.excluded >= EXCLUDED_MIN and self.excluded > EXCLUDED_SHARE_MAX * self.active


async def begin(connection: Connection) -> None:
    """Make room in this session for one list."""
    await connection.execute("DROP TABLE IF EXISTS pg_temp.listed")
    await connection.execute(
        """CREATE TEMPORARY TABLE listed (vendor_id text NOT NULL, name text NOT NULL, serial text, mac text,
                                          model text, firmware text, space text)"""
    )


async def load(connection: Connection, devices: Sequence[Listed]) -> None:
    """Add a page."""
    await connection.copy_records_to_table("listed", records=devices, timeout=STATEMENT_S)


async def end_of_list(connection: Connection) -> list[str]:
    """Drop the second of each pair of equal ids; returns the first of those ids, at most a few."""
    await connection.execute("SET work_mem = '64MB'")
    await connection.execute("ANALYZE listed (vendor_id)")
    rows = await connection.fetch(
        """WITH twice AS (SELECT vendor_id, min(ctid) AS kept FROM listed GROUP BY vendor_id HAVING count(*) > 1),
                dropped AS (DELETE FROM listed l USING twice t WHERE l.vendor_id = t.vendor_id AND l.ctid <> t.kept
                            RETURNING l.vendor_id)
           SELECT vendor_id FROM dropped""",
        timeout=STATEMENT_S,
    )
    return [row["vendor_id"] for row in rows]


async def compare(connection: Connection, connector_id: str) -> Changes:
    """Find what changes, into temporary tables `changed` and `gone`. In a transaction."""
    assert connector_id.isalnum()
    mine = f"'{connector_id}'"  # these statements take no parameters
    await connection.execute(
        f"""CREATE TEMPORARY TABLE changed ON COMMIT DROP AS
            SELECT l.*, c.device_id, c.excluded, c.name AS was
              FROM listed l
              LEFT JOIN (SELECT * FROM cloud_devices WHERE connector_id = {mine}) c USING (vendor_id)
             WHERE c.device_id IS NULL OR c.excluded = 'missing'
                OR (c.excluded IS NULL AND NOT {_SAME})""",
        timeout=STATEMENT_S,
    )
    await connection.execute(
        f"""CREATE TEMPORARY TABLE gone ON COMMIT DROP AS
            SELECT c.vendor_id, c.device_id, c.name FROM cloud_devices c
             WHERE c.connector_id = {mine} AND c.excluded IS NULL
               AND NOT EXISTS (SELECT FROM listed l WHERE l.vendor_id = c.vendor_id)""",
        timeout=STATEMENT_S,
    )
    row = await connection.fetchrow(
        """SELECT (SELECT count(*) FROM listed) AS found, count(*) FILTER (WHERE device_id IS NULL) AS created,
                  count(*) FILTER (WHERE excluded IS NULL AND name <> was) AS renamed,
                  count(*) FILTER (WHERE excluded = 'missing') AS restored,
                  (SELECT count(*) FROM gone) AS excluded,
                  (SELECT count(*) FROM cloud_devices WHERE connector_id = $1 AND excluded IS NULL) AS active,
                  (SELECT coalesce(sum(hashtextextended(vendor_id, 0)::numeric), 0)::text FROM gone) AS gone_digest
             FROM changed""",
        connector_id,
        timeout=STATEMENT_S,
    )
    assert row is not None
    return Changes(**row)


async def shown(connection: Connection) -> dict[str, list[dict[str, Any]]]:
    """The first devices of each kind of change, for a person to look at. After `compare`."""
    kinds = {
        "created": "SELECT vendor_id, name FROM changed WHERE device_id IS NULL",
        "renamed": "SELECT vendor_id, was, name FROM changed WHERE excluded IS NULL AND name <> was",
        "restored": "SELECT vendor_id, name FROM changed WHERE excluded = 'missing'",
        "excluded": "SELECT vendor_id, name FROM gone",
    }
    return {
        kind: [dict(row) for row in await connection.fetch(f"{query} ORDER BY vendor_id LIMIT {SHOWN}")]
        for kind, query in kinds.items()
    }


async def apply(connection: Connection, target: Target, now: datetime) -> None:
    """Write all changes that `compare` found. In its transaction."""
    await _exclude(connection, target, now)
    await _update(connection, target, now)
    await _create(connection, target, now)


async def _exclude(connection: Connection, target: Target, now: datetime) -> None:
    await connection.execute(
        """UPDATE cloud_devices c SET excluded = 'missing', excluded_at = $2 FROM gone
            WHERE c.connector_id = $1 AND c.vendor_id = gone.vendor_id""",
        target.connector_id,
        now,
        timeout=STATEMENT_S,
    )
    await outbox.append_to_each(connection, DeviceExcluded(reason="missing"), now, "SELECT device_id FROM gone")


async def _update(connection: Connection, target: Target, now: datetime) -> None:
    """Names follow the vendor's unless a person gave another; firmware and the like always do."""
    await outbox.append_selected(
        connection,
        EventType.LABELS_CHANGED,
        now,
        """SELECT ch.device_id, json_build_object('added', json_build_object(),
                  'modified', json_build_object('name', ch.name), 'removed', '[]'::json) AS data
             FROM changed ch JOIN devices named ON named.id = ch.device_id
            WHERE ch.name <> ch.was AND named.name = ch.was""",
    )
    await connection.execute(
        """UPDATE devices d SET name = CASE WHEN d.name = ch.was THEN ch.name ELSE d.name END, mac = ch.mac,
                  sub_model = ch.model, firmware_version = coalesce(ch.firmware, '')
             FROM changed ch WHERE d.id = ch.device_id""",
        timeout=STATEMENT_S,
    )
    await outbox.append_to_each(
        connection,
        DeviceRestored(),
        now,
        "SELECT device_id FROM changed WHERE excluded = 'missing'",
    )
    await connection.execute(
        f"""UPDATE cloud_devices c SET excluded = NULL, excluded_at = NULL,
                   {", ".join(f"{fact} = ch.{fact}" for fact in _FACTS)}
              FROM changed ch WHERE c.connector_id = $1 AND c.vendor_id = ch.vendor_id AND ch.device_id IS NOT NULL""",
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
    await _make_spaces(connection, target)
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
    for told in (DeviceRegistered(), DeviceClaimed(space_id=target.space_id)):
        await outbox.append_to_each(connection, told, now, "SELECT device_id FROM fresh")


async def _make_spaces(connection: Connection, target: Target) -> None:
    """The tree below the target space, into the temporary table `places`."""
    await connection.execute("CREATE TEMPORARY TABLE places (path text, space_id uuid) ON COMMIT DROP")
    rows = await connection.fetch("SELECT DISTINCT space FROM changed WHERE device_id IS NULL AND space IS NOT NULL")
    if not rows:
        return
    # As whoever changes the tree does: nobody else does meanwhile.
    await connection.execute("SELECT FROM projects WHERE id = $1 FOR NO KEY UPDATE", target.project_id)
    known: dict[str, UUID] = {"": target.space_id}
    for path in sorted(row["space"] for row in rows):
        above = ""
        for name in path.split("/"):
            here = f"{above}/{name}" if above else name
            if here not in known:
                known[here] = await _space(connection, known[above], name)
            above = here
    await connection.copy_records_to_table("places", records=[item for item in known.items() if item[0]])


async def _space(connection: Connection, parent_id: UUID, name: str) -> UUID:
    found: UUID = await connection.fetchval(
        """INSERT INTO spaces (id, project_id, parent_id, name, full_path)
           SELECT $1, project_id, id, $3, full_path || '/' || $3 FROM spaces WHERE id = $2
           ON CONFLICT (project_id, full_path) DO UPDATE SET name = excluded.name RETURNING id""",
        ids.new_id(),
        parent_id,
        name,
    )
    return found
