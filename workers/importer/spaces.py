"""The tree below a connector's space, as the vendor's list has it."""

from uuid import UUID

from schemas import ids
from schemas.bounds import SPACE_DEPTH_MAX, SPACE_PATH_BYTES_MAX
from schemas.postgres import Connection


async def make(connection: Connection, top_id: UUID, *, follow: bool) -> None:
    """Make the spaces that `changed` needs, into the temporary table `places`; those it had too, to `follow` moves.

    A path that is too long or too deep for a space ends where it fits: one device does not stop the list.
    """
    await connection.execute("CREATE TEMPORARY TABLE places (path text, space_id uuid) ON COMMIT DROP")
    moved = "OR space <> space_was" if follow else ""
    rows = await connection.fetch(
        f"SELECT DISTINCT space FROM changed WHERE (device_id IS NULL {moved}) AND space <> ''"
    )
    top: str = await connection.fetchval("SELECT full_path FROM spaces WHERE id = $1", top_id)
    known: dict[str, UUID] = {"": top_id}
    for path in sorted(row["space"] for row in rows):
        above = ""
        for name in path.split("/"):
            here = f"{above}/{name}" if above else name
            if here not in known:
                known[here] = await _space(connection, known[above], name) if _fits(f"{top}/{here}") else known[above]
            above = here
    if follow:
        rows = await connection.fetch(
            """SELECT DISTINCT ch.space_was, s.id FROM changed ch JOIN spaces top ON top.id = $1
                 JOIN spaces s ON s.project_id = top.project_id AND s.full_path = top.full_path || '/' || ch.space_was
                WHERE ch.space <> ch.space_was AND ch.space_was <> ''""",
            top_id,
        )
        known |= {row["space_was"]: row["id"] for row in rows}
    await connection.copy_records_to_table("places", records=[item for item in known.items() if item[0]])


def _fits(path: str) -> bool:
    return len(path.encode()) <= SPACE_PATH_BYTES_MAX and path.count("/") < SPACE_DEPTH_MAX


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
