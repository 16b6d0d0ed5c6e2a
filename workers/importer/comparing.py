"""Compares a vendor's complete list with what was imported before, in sets; nothing is written yet.

What is gone is what the list lacks, and it was looked at twice where the list has pages. An item that was skipped is
not gone. A unit that comes under a new id, with the same serial number or the same letters in another case, is the
device that it was; where that is not beyond doubt, it is another.
"""

from typing import Any

from msgspec import Struct

from schemas.postgres import Connection
from workers.importer.loading import STATEMENT_S

SHOWN = 100
_LISTED = """(coalesce(l.name, c.name), coalesce(l.serial, c.serial), l.mac, l.model, l.firmware,
              coalesce(l.space, ''))"""
_KNOWN = "(c.name, c.serial, c.mac, c.model, c.firmware, c.space)"


class Changes(Struct):
    """What a list changes, in numbers."""

    found: int = 0
    created: int = 0
    renamed: int = 0
    excluded: int = 0
    restored: int = 0
    reenrolled: int = 0
    """Devices that go on under a new id of the vendor's."""
    moved: int = 0
    """Devices that have another place in the vendor's tree."""
    active: int = 0
    """Devices active before."""
    reenrolled_active: int = 0
    """Of those that go on under a new id, the ones that were active."""


async def compare(connection: Connection, connector_id: str, *, excludes: bool = True, twice: bool = False) -> Changes:
    """Find what changes, into temporary tables `changed` and `gone`. In a transaction.

    Without `excludes` no active device is gone, since the list is not to be trusted in that; `twice` says that there
    was a first reading.
    """
    assert connector_id.isalnum()
    mine = f"(SELECT * FROM cloud_devices WHERE connector_id = '{connector_id}')"  # these take no parameters
    # Both sides of what is not the same, in one pass over what may be a million rows each.
    await connection.execute(
        f"""CREATE TEMPORARY TABLE differing ON COMMIT DROP AS
            SELECT l.vendor_id, c.vendor_id AS vendor_id_was, coalesce(l.name, c.name, l.vendor_id) AS name,
                   coalesce(l.serial, c.serial) AS serial, l.mac, l.model, l.firmware, coalesce(l.space, '') AS space,
                   c.device_id, c.excluded, c.name AS was, c.space AS space_was
              FROM listed l FULL JOIN {mine} c ON c.vendor_id = l.vendor_id
             WHERE l.vendor_id IS NULL OR c.device_id IS NULL OR c.excluded = 'missing'
                OR (c.excluded IS NULL AND {_LISTED} IS DISTINCT FROM {_KNOWN})""",
        timeout=STATEMENT_S,
    )
    seen = " AND NOT EXISTS (SELECT FROM before b WHERE b.vendor_id = d.vendor_id_was)" if twice else ""
    await connection.execute(
        f"""CREATE TEMPORARY TABLE changed ON COMMIT DROP AS SELECT * FROM differing WHERE vendor_id IS NOT NULL;
            CREATE TEMPORARY TABLE gone ON COMMIT DROP AS
            SELECT vendor_id_was AS vendor_id, vendor_id_was, device_id, was AS name, serial, space_was AS space,
                   excluded
              FROM differing d
             WHERE vendor_id IS NULL AND NOT EXISTS (SELECT FROM skipped s WHERE s.vendor_id = d.vendor_id_was){seen}
               AND ({str(excludes).lower()} OR excluded IS NOT NULL)""",
        timeout=STATEMENT_S,
    )
    reenrolled = await _pair(connection)
    await connection.execute("DELETE FROM gone WHERE excluded IS NOT NULL")
    row = await connection.fetchrow(
        """SELECT (SELECT count(*) FROM listed) AS found,
                  (SELECT count(*) FROM cloud_devices WHERE connector_id = $1 AND excluded IS NULL) AS active""",
        connector_id,
        timeout=STATEMENT_S,
    )
    assert row is not None
    return await counted(connection, Changes(**row, reenrolled_active=reenrolled))


async def counted(connection: Connection, changes: Changes) -> Changes:
    """The numbers, as `changed` and `gone` are now."""
    row = await connection.fetchrow(
        """SELECT count(*) FILTER (WHERE device_id IS NULL) AS created,
                  count(*) FILTER (WHERE excluded IS NULL AND name <> was) AS renamed,
                  count(*) FILTER (WHERE excluded = 'missing') AS restored,
                  count(*) FILTER (WHERE vendor_id <> vendor_id_was) AS reenrolled,
                  count(*) FILTER (WHERE excluded IS NULL AND space <> space_was) AS moved,
                  (SELECT count(*) FROM gone) AS excluded
             FROM changed"""
    )
    assert row is not None
    for name, value in row.items():
        setattr(changes, name, value)
    return changes


async def _pair(connection: Connection) -> int:
    """Join new ids to devices that are gone, where that is beyond doubt; returns how many of them were active."""
    await connection.execute(
        """CREATE TEMPORARY TABLE pairs ON COMMIT DROP AS
           WITH candidates AS (
                   SELECT n.vendor_id, g.vendor_id AS vendor_id_was, n.serial,
                          lower(g.vendor_id) = lower(n.vendor_id) AS by_id
                     FROM changed n JOIN gone g ON lower(g.vendor_id) = lower(n.vendor_id)
                    WHERE n.device_id IS NULL AND coalesce(n.serial = g.serial, true)
                    UNION
                   SELECT n.vendor_id, g.vendor_id, n.serial, lower(g.vendor_id) = lower(n.vendor_id)
                     FROM changed n JOIN gone g ON g.serial = n.serial WHERE n.device_id IS NULL),
                counted AS (SELECT *, count(*) OVER (PARTITION BY vendor_id) AS news,
                                   count(*) OVER (PARTITION BY vendor_id_was) AS olds FROM candidates)
           SELECT vendor_id, vendor_id_was, serial, by_id FROM counted WHERE news = 1 AND olds = 1""",
        timeout=STATEMENT_S,
    )
    if not await connection.fetchval("SELECT count(*) FROM pairs"):
        return 0
    await connection.execute(
        """DELETE FROM pairs p WHERE NOT by_id AND EXISTS (SELECT FROM listed l WHERE l.serial = p.serial
                                                             AND l.vendor_id <> p.vendor_id)""",
        timeout=STATEMENT_S,
    )
    await connection.execute(
        """UPDATE changed n SET device_id = g.device_id, excluded = g.excluded, vendor_id_was = g.vendor_id,
                  was = g.name, space_was = g.space, serial = coalesce(n.serial, g.serial),
                  name = coalesce(l.name, g.name)
             FROM pairs p JOIN gone g ON g.vendor_id = p.vendor_id_was JOIN listed l ON l.vendor_id = p.vendor_id
            WHERE n.vendor_id = p.vendor_id""",
        timeout=STATEMENT_S,
    )
    active: int = await connection.fetchval(
        """WITH joined AS (DELETE FROM gone g USING pairs p WHERE g.vendor_id = p.vendor_id_was RETURNING g.excluded)
           SELECT count(*) FROM joined WHERE excluded IS NULL"""
    )
    return active


async def digests(connection: Connection) -> tuple[str, str]:
    """Of what the list takes away, and of all that it adds, takes away and names anew. After `compare`."""
    row = await connection.fetchrow(
        """WITH facts AS (SELECT 'gone' AS kind, vendor_id AS id FROM gone
                           UNION ALL SELECT 'gone', vendor_id_was FROM changed WHERE vendor_id <> vendor_id_was
                           UNION ALL SELECT 'here', vendor_id FROM changed
                                      WHERE device_id IS NULL OR excluded = 'missing' OR vendor_id <> vendor_id_was),
                texts AS (SELECT string_agg(length(id) || ':' || id, ',' ORDER BY id COLLATE "C")
                                   FILTER (WHERE kind = 'gone') AS gone,
                                 string_agg(kind || length(id) || ':' || id, ',' ORDER BY kind, id COLLATE "C") AS every
                            FROM facts)
           SELECT encode(sha256(convert_to(coalesce(gone, ''), 'UTF8')), 'hex') AS gone,
                  encode(sha256(convert_to(coalesce(every, ''), 'UTF8')), 'hex') AS every FROM texts""",
        timeout=STATEMENT_S,
    )
    assert row is not None
    return row["gone"], row["every"]


async def shown(connection: Connection, *kinds: str) -> dict[str, list[dict[str, Any]]]:
    """The first devices of each kind of change (all kinds when none is named), for a person. After `compare`."""
    queries = {
        "created": "SELECT vendor_id, name FROM changed WHERE device_id IS NULL",
        "renamed": "SELECT vendor_id, was, name FROM changed WHERE excluded IS NULL AND name <> was",
        "restored": "SELECT vendor_id, name FROM changed WHERE excluded = 'missing'",
        "excluded": "SELECT vendor_id, name FROM gone",
        "reenrolled": """SELECT vendor_id, vendor_id_was AS was, name, serial FROM changed
                          WHERE vendor_id <> vendor_id_was""",
        "moved": """SELECT vendor_id, name, space_was AS was, space FROM changed
                     WHERE excluded IS NULL AND space <> space_was""",
    }
    return {
        kind: [dict(row) for row in await connection.fetch(f"{queries[kind]} ORDER BY vendor_id LIMIT {SHOWN}")]
        for kind in kinds or queries
    }
