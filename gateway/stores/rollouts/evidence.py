"""What a device's own calls prove of its part in a rollout: that it fetches the file, and that it has all of it.

Noted with its time, and judged by the worker: only the first range and the last one say anything new.
"""

from datetime import datetime
from uuid import UUID

from schemas.postgres import Executor


async def fetches(connection: Executor, device_id: UUID, file_id: UUID, now: datetime, *, all_of_it: bool) -> None:
    """The device asked for a range of the file, or has been sent its last byte."""
    await connection.execute(
        """UPDATE rollout_devices p SET fetch_began_at = coalesce(p.fetch_began_at, $3),
                  fetched_at = CASE WHEN $4 THEN $3 ELSE p.fetched_at END, due_at = '-infinity'
             FROM rollouts r
            WHERE r.id = p.rollout_id AND r.file_id = $2 AND p.device_id = $1
              AND p.state IN ('offered', 'downloading', 'installing')
              AND (p.fetch_began_at IS NULL OR ($4 AND p.fetched_at IS NULL))""",
        device_id,
        file_id,
        now,
        all_of_it,
    )
