"""A vendor's list in the session's temporary tables, as it comes: memory stays flat however long it is.

listed      its devices
skipped     ids of items that cannot be imported: what is known of those devices stays as it is
uncounted   what the vendor's total counts beside the devices, one key for each: skipped and filtered rows
before      the devices of the first reading, where the list was read twice
"""

from collections.abc import Sequence

from schemas.postgres import Connection
from workers.importer.devices import Listed

STATEMENT_S = 600.0


async def begin(connection: Connection) -> None:
    """Make room in this session for one list."""
    await connection.execute("DROP TABLE IF EXISTS pg_temp.listed, pg_temp.uncounted, pg_temp.skipped, pg_temp.before")
    await _make_tables(connection)


async def begin_again(connection: Connection) -> None:
    """Make room for a second reading; what the first one had is not gone, whatever the second says."""
    await connection.execute(
        """ALTER TABLE listed RENAME TO before; DROP TABLE pg_temp.uncounted;
           ALTER TABLE skipped RENAME TO skipped_before"""
    )
    await _make_tables(connection)
    await connection.execute("INSERT INTO skipped SELECT * FROM skipped_before; DROP TABLE skipped_before")


async def _make_tables(connection: Connection) -> None:
    await connection.execute(
        """CREATE TEMPORARY TABLE listed (vendor_id text NOT NULL, name text, serial text, mac text,
                                          model text, firmware text, space text);
           CREATE TEMPORARY TABLE uncounted (key text NOT NULL);
           CREATE TEMPORARY TABLE skipped (vendor_id text NOT NULL)"""
    )


async def load(connection: Connection, devices: Sequence[Listed]) -> None:
    """Add devices of a page."""
    await connection.copy_records_to_table("listed", records=devices, timeout=STATEMENT_S)


async def load_skipped(connection: Connection, vendor_ids: Sequence[str]) -> None:
    """Note the ids of items that were skipped: their devices stay as they were."""
    await connection.copy_records_to_table("skipped", records=[(one,) for one in vendor_ids])


async def load_uncounted(connection: Connection, keys: Sequence[str]) -> None:
    """Note rows that are no device here but count in the vendor's total, by id or by what else tells them apart."""
    await connection.copy_records_to_table("uncounted", records=[(key,) for key in keys])


async def end_of_list(connection: Connection) -> list[str]:
    """Drop the second of each pair of equal ids; returns the first of those ids, at most a few."""
    # How many there are is all that plans depend on: a small sample says it as well as a large one.
    await connection.execute("SET work_mem = '64MB'; SET default_statistics_target = 10; ANALYZE listed (vendor_id)")
    rows = await connection.fetch(
        """WITH twice AS (SELECT vendor_id, min(ctid) AS kept FROM listed GROUP BY vendor_id HAVING count(*) > 1),
                dropped AS (DELETE FROM listed l USING twice t WHERE l.vendor_id = t.vendor_id AND l.ctid <> t.kept
                            RETURNING l.vendor_id)
           SELECT vendor_id FROM dropped""",
        timeout=STATEMENT_S,
    )
    return [row["vendor_id"] for row in rows]


async def different(connection: Connection) -> int:
    """How many different devices the list names, skipped and filtered ones too. After `end_of_list`."""
    found: int = await connection.fetchval(
        """SELECT (SELECT count(*) FROM listed)
                  + (SELECT count(DISTINCT key) FROM uncounted u
                      WHERE NOT EXISTS (SELECT FROM listed l WHERE l.vendor_id = u.key))""",
        timeout=STATEMENT_S,
    )
    return found


async def lacks(connection: Connection, connector_id: str) -> bool:
    """Whether the list lacks any device that is active."""
    return bool(
        await connection.fetchval(
            """SELECT EXISTS (SELECT FROM cloud_devices c WHERE connector_id = $1 AND excluded IS NULL
                 AND NOT EXISTS (SELECT FROM listed l WHERE l.vendor_id = c.vendor_id)
                 AND NOT EXISTS (SELECT FROM skipped s WHERE s.vendor_id = c.vendor_id))""",
            connector_id,
            timeout=STATEMENT_S,
        )
    )
