"""Which bytes of the store are needed: those that a row of Postgres names, and those that are about to be named.

    put: bytes come ──▶ lock their name ──▶ store them under it ──▶ write the row ──▶ commit
    tidy: lock the name ──▶ no row names it ──▶ delete the bytes ──▶ commit

The lock is one of Postgres, for a transaction, so nobody deletes what another is about to name, and a crash ends it.
"""

from collections.abc import Sequence

from schemas.postgres import Connection


async def lock(connection: Connection, name: str) -> None:
    """Hold the name of some bytes until the transaction ends."""
    await connection.execute("SELECT pg_advisory_xact_lock($1)", int.from_bytes(bytes.fromhex(name[:16]), signed=True))


async def unneeded(connection: Connection, names: Sequence[str]) -> list[str]:
    """Those of these bytes that no row names."""
    rows = await connection.fetch(
        """SELECT given.name FROM unnest($1::text[]) AS given (name)
            WHERE NOT EXISTS (SELECT FROM files f WHERE f.checksum = given.name)
              AND NOT EXISTS (SELECT FROM dump_parts p WHERE p.checksum = given.name)""",
        names,
    )
    return [row["name"] for row in rows]
