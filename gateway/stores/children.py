"""Devices below a device."""

from collections.abc import Sequence
from uuid import UUID

from schemas.postgres import Pool


async def key_versions(pool: Pool, parent_id: UUID, child_ids: Sequence[str]) -> dict[str, int]:
    """The key version of each of these ids that is a living child of the parent; others are left out."""
    rows = await pool.fetch(
        """SELECT id::text AS id, key_version FROM devices
            WHERE parent_id = $1 AND id::text = ANY($2::text[]) AND deleted_at IS NULL""",
        parent_id,
        [child_id for child_id in child_ids if "\0" not in child_id],
    )
    return {row["id"]: row["key_version"] for row in rows}
