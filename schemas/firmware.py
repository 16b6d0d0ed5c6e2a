"""What devices are told of firmware, brought up to date: for some devices at once, for a whole model by a worker.

Which firmware a device is offered says one function of the database (`offered_firmware`); the columns
`devices.latest_fw_*` hold what it said last. Triggers call it where a device changes. Where files or rollouts change,
whoever changes them calls `choose` for a few devices, or begins a sweep for all of a model.

    release: lock the model ──▶ status ──▶ sweep noted ──▶ commit ──▶ a worker goes through the devices by id

The lock makes registrations wait: a device that registers meanwhile either sees the release, or is seen by the sweep.
"""

from collections.abc import Sequence
from uuid import UUID

from schemas.postgres import Connection

_LOCK = """
    SELECT id FROM devices WHERE id = ANY($1::uuid[]) AND deleted_at IS NULL ORDER BY id FOR NO KEY UPDATE
"""
_CHOOSE = """
    UPDATE devices d SET latest_fw_file_id = o.file_id, latest_fw_version = o.version
      FROM (SELECT l.id, f.file_id, f.version
              FROM devices l
              LEFT JOIN LATERAL offered_firmware(l.id, l.model_id, l.organization_id, l.firmware_version) f ON true
             WHERE l.id = ANY($1::uuid[])) o
     WHERE d.id = o.id
       AND (d.latest_fw_file_id, d.latest_fw_version) IS DISTINCT FROM (o.file_id, o.version)
    RETURNING d.id
"""


async def choose(connection: Connection, device_ids: Sequence[UUID]) -> list[UUID]:
    """Offer these devices what they are to be offered now; those of which that is another, in a transaction.

    Whoever calls this has their replies rewritten once it is committed (`change.touched`, or `replies.publish`).
    """
    # Locked by a statement before it: what this one reads is not older than the locks.
    locked = [row["id"] for row in await connection.fetch(_LOCK, device_ids)]
    return [row["id"] for row in await connection.fetch(_CHOOSE, locked)]


async def lock_model(connection: Connection, model_id: UUID | None) -> None:
    """Let no device of a model be registered until the transaction ends."""
    await connection.execute("SELECT FROM device_models WHERE id = $1 FOR UPDATE", model_id)


async def begin_sweep(connection: Connection, file_id: UUID, model_id: UUID | None) -> None:
    """Have a worker go through all devices of a model, from the first on, because of this file."""
    await connection.execute(
        """INSERT INTO firmware_sweeps (file_id, model_id) VALUES ($1, $2)
           ON CONFLICT (file_id) DO UPDATE
              SET after_id = NULL, devices = NULL, done = 0, requested_at = now(), finished_at = NULL""",
        file_id,
        model_id,
    )
