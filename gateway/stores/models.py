"""Device models of an organisation as vendor."""

from datetime import datetime
from typing import Literal
from uuid import UUID

import asyncpg
from msgspec import Struct

from gateway.errors import Refusal
from schemas import ids
from schemas.postgres import Executor
from schemas.replies import DEFAULT_RATE_LIMIT

UNKNOWN = "Model not found"
NAME_TAKEN = "Name has already been taken"
IN_USE = "Model still has devices"
DEFAULT_OFFLINE_THRESHOLD_S = 300
REQUEUE_TIMEOUT_S = 600
"""A new rate limit touches every device of the model; a million of them take about a minute."""

_MODEL = "id, vendor, name, authentication, offline_threshold_s, rate_limit, created_at"


class Model(Struct):
    """One device model. `rate_limit` is calls in 30 s."""

    id: UUID
    vendor: str
    name: str
    authentication: Literal["mac_sn", "cloud_id"]
    offline_threshold_s: int
    rate_limit: int
    created_at: datetime


async def create(
    connection: Executor,
    organization_id: UUID,
    *,
    vendor: str,
    name: str,
    authentication: str = "mac_sn",
    offline_threshold_s: int = DEFAULT_OFFLINE_THRESHOLD_S,
    rate_limit: int = DEFAULT_RATE_LIMIT,
) -> Model:
    """A new model. Raises Refusal: 422 when the name is taken or a value does not fit."""
    try:
        row = await connection.fetchrow(
            f"""INSERT INTO device_models
                       (id, organization_id, vendor, name, authentication, offline_threshold_s, rate_limit)
                VALUES ($1, $2, $3, $4, $5, $6, $7) RETURNING {_MODEL}""",
            ids.new_id(),
            organization_id,
            vendor,
            name,
            authentication,
            offline_threshold_s,
            rate_limit,
        )
    except asyncpg.UniqueViolationError:
        raise Refusal(422, NAME_TAKEN) from None
    except asyncpg.ForeignKeyViolationError:
        raise Refusal(404, "Organization not found") from None
    except asyncpg.CheckViolationError as error:
        raise Refusal(422, f"Model does not fit: {error.constraint_name}") from None
    assert row is not None
    return Model(**row)


async def listed(connection: Executor, organization_id: UUID, offset: int = 0, limit: int | None = None) -> list[Model]:
    """The organisation's models by name."""
    rows = await connection.fetch(
        f"SELECT {_MODEL} FROM device_models WHERE organization_id = $1 ORDER BY name, id OFFSET $2 LIMIT $3",
        organization_id,
        offset,
        limit,
    )
    return [Model(**row) for row in rows]


async def read(connection: Executor, organization_id: UUID, model_id: UUID) -> Model:
    """Raises Refusal (404) for an unknown model and for another organisation's alike."""
    row = await connection.fetchrow(
        f"SELECT {_MODEL} FROM device_models WHERE id = $1 AND organization_id = $2", model_id, organization_id
    )
    if row is None:
        raise Refusal(404, UNKNOWN)
    return Model(**row)


async def update(
    connection: Executor,
    organization_id: UUID,
    model_id: UUID,
    *,
    vendor: str | None,
    name: str | None,
    offline_threshold_s: int | None,
    rate_limit: int | None,
) -> Model:
    """Change what is not None. Raises Refusal: 404, or 422 when the name is taken.

    A new rate limit reaches the devices' prepared replies through `reply_queue`.
    """
    try:
        row = await connection.fetchrow(
            f"""UPDATE device_models
                   SET vendor = coalesce($3, vendor), name = coalesce($4, name),
                       offline_threshold_s = coalesce($5, offline_threshold_s), rate_limit = coalesce($6, rate_limit)
                 WHERE id = $1 AND organization_id = $2 RETURNING {_MODEL}""",
            model_id,
            organization_id,
            vendor,
            name,
            offline_threshold_s,
            rate_limit,
            timeout=REQUEUE_TIMEOUT_S,
        )
    except asyncpg.UniqueViolationError:
        raise Refusal(422, NAME_TAKEN) from None
    if row is None:
        raise Refusal(404, UNKNOWN)
    return Model(**row)


async def delete(connection: Executor, organization_id: UUID, model_id: UUID) -> None:
    """Delete a model that no device was ever registered with. Raises Refusal: 404, or 422.

    Records of deleted devices count: they are what turns a deleted device's key away.
    """
    try:
        found = await connection.fetchval(
            "DELETE FROM device_models WHERE id = $1 AND organization_id = $2 RETURNING true", model_id, organization_id
        )
    except asyncpg.ForeignKeyViolationError:
        raise Refusal(422, IN_USE) from None
    if not found:
        raise Refusal(404, UNKNOWN)
