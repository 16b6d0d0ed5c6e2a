"""Registering devices: the hardware key's model, and the new row."""

from typing import Any
from uuid import UUID

from msgspec import Struct

from schemas import ids
from schemas.ids import Presented
from schemas.postgres import Connection, Pool
from schemas.replies import DEFAULT_RATE_LIMIT


class Model(Struct, frozen=True):
    """What registration needs to know of a model, and the key that named it."""

    id: UUID
    hardware_key_id: UUID
    authentication: str
    short_code: str | None
    has_own_limit: bool


async def model_of_key(pool: Pool, presented: Presented) -> Model | None:
    """The model of a hardware key; None when the key is unknown, wrong or revoked."""
    row = await pool.fetchrow(
        """SELECT k.digest, m.id, m.authentication, o.short_code, m.rate_limit
             FROM hardware_keys k JOIN device_models m ON m.id = k.model_id
                  JOIN organizations o ON o.id = m.organization_id
            WHERE k.id = $1 AND k.revoked_at IS NULL""",
        presented.id,
    )
    if presented.kind != "hardware" or row is None or not ids.same(presented.digest, row["digest"]):
        return None
    limited = row["rate_limit"] != DEFAULT_RATE_LIMIT
    return Model(row["id"], presented.id, row["authentication"], row["short_code"], limited)


async def insert(connection: Connection, device_id: UUID, model: Model, *, shard: int, **members: Any) -> None:
    """Insert the device. Raises asyncpg.UniqueViolationError when its serial or Cloud ID is taken."""
    columns = ("sn", "mac", "cloud_id", "name", "sub_model", "firmware_version", "details")
    await connection.execute(
        f"""INSERT INTO devices (id, shard, model_id, hardware_key_id, {", ".join(columns)})
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)""",
        device_id,
        shard,
        model.id,
        model.hardware_key_id,
        *(members[column] for column in columns),
    )
