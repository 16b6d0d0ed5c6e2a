"""Device models of an organization as vendor."""

from collections.abc import Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Literal
from uuid import UUID

import asyncpg
from msgspec import Struct

from gateway.refusals import DoesNotFit, NotFound
from schemas import ids, mappings
from schemas.bounds import OFFLINE_THRESHOLD_S, RATE_LIMIT
from schemas.license_signatures import Algorithm
from schemas.mappings import MappingError
from schemas.postgres import Connection, Executor

UNKNOWN = "Model not found"
NAME_TAKEN = "Name has already been taken"
IN_USE = "Model still has devices"
GENERIC = "generic"
"""The type of devices that are none of those which sensors are known by."""
REQUEUE_TIMEOUT_S = 600
"""A new rate limit touches every device of the model; a million of them take about a minute."""

Authentication = Literal["mac_sn", "cloud_id"]
"""How a device is claimed: by what is printed on it."""
_MODEL = """id, vendor, name, authentication, offline_threshold_s, rate_limit, state_keys_max, state_bytes_max,
            device_type, product_number, event_mappings, license_algorithm, public, created_at"""


class Model(Struct):
    """One device model. `rate_limit` is calls in 30 s; limits of the state are null where the installation's hold.

    `device_type`, `product_number` and `event_mappings` (see schemas.mappings) say what its devices are to the /v2 API.
    Devices of a `public` model may be claimed by every organization, others by the vendor's own and by those that have
    it as partner. Licences of its devices are signed by `license_algorithm`.
    """

    id: UUID
    vendor: str
    name: str
    authentication: Authentication
    offline_threshold_s: int
    rate_limit: int
    state_keys_max: int | None
    state_bytes_max: int | None
    device_type: str
    product_number: str
    event_mappings: dict[str, str]
    license_algorithm: Algorithm
    public: bool
    created_at: datetime


async def create(
    connection: Executor,
    organization_id: UUID,
    *,
    vendor: str,
    name: str,
    authentication: Authentication = "mac_sn",
    offline_threshold_s: int = OFFLINE_THRESHOLD_S.default,
    rate_limit: int = RATE_LIMIT.default,
    state_keys_max: int | None = None,
    state_bytes_max: int | None = None,
    device_type: str = GENERIC,
    product_number: str = "",
    event_mappings: Mapping[str, str] = MappingProxyType({}),
    license_algorithm: Algorithm = "rsa",
) -> Model:
    """A new model. Raises DoesNotFit when the name is taken or a value does not fit."""
    _check_mappings(device_type, event_mappings)
    try:
        row = await connection.fetchrow(
            f"""INSERT INTO device_models
                       (id, organization_id, vendor, name, authentication, offline_threshold_s, rate_limit,
                        state_keys_max, state_bytes_max, device_type, product_number, event_mappings, license_algorithm)
                VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13) RETURNING {_MODEL}""",
            ids.new_id(),
            organization_id,
            vendor,
            name,
            authentication,
            offline_threshold_s,
            rate_limit,
            state_keys_max,
            state_bytes_max,
            device_type,
            product_number,
            dict(event_mappings),
            license_algorithm,
        )
    except asyncpg.UniqueViolationError:
        raise DoesNotFit(NAME_TAKEN) from None
    except asyncpg.ForeignKeyViolationError:
        raise NotFound("Organization not found") from None
    except asyncpg.CheckViolationError as error:
        raise DoesNotFit(f"Model does not fit: {error.constraint_name}") from None
    assert row is not None
    return Model(**row)


async def listed(
    connection: Executor, organization_id: UUID, offset: int = 0, limit: int | None = None, search: str | None = None
) -> list[Model]:
    """The organization's models by name; those with `search` in their vendor or name, in any case."""
    rows = await connection.fetch(
        f"""SELECT {_MODEL} FROM device_models
             WHERE organization_id = $1
               AND ($4::text IS NULL OR strpos(lower(name), lower($4)) > 0 OR strpos(lower(vendor), lower($4)) > 0)
             ORDER BY name, id OFFSET $2 LIMIT $3""",
        organization_id,
        offset,
        limit,
        search,
    )
    return [Model(**row) for row in rows]


async def read(connection: Executor, organization_id: UUID, model_id: UUID) -> Model:
    """Raises NotFound for an unknown model and for another organization's alike."""
    row = await connection.fetchrow(
        f"SELECT {_MODEL} FROM device_models WHERE id = $1 AND organization_id = $2", model_id, organization_id
    )
    if row is None:
        raise NotFound(UNKNOWN)
    return Model(**row)


async def license_algorithm(connection: Executor, organization_id: UUID, model_id: UUID) -> Algorithm:
    """How licences of a model's devices are signed. Raises NotFound as `read`."""
    return (await read(connection, organization_id, model_id)).license_algorithm


async def update(
    connection: Connection,
    organization_id: UUID,
    model_id: UUID,
    *,
    vendor: str | None,
    name: str | None,
    offline_threshold_s: int | None,
    rate_limit: int | None,
    state_keys_max: int | None,
    state_bytes_max: int | None,
    device_type: str | None,
    product_number: str | None,
    event_mappings: Mapping[str, str] | None,
    license_algorithm: Algorithm | None,
) -> Model:
    """Change what is not None, in a transaction. Raises NotFound, or DoesNotFit when the name is taken or what would be
    mapped does not fit.

    A new rate limit reaches the devices' prepared replies through `reply_queue`, a new mapping the next messages.
    """
    was = await connection.fetchrow(
        f"SELECT {_MODEL} FROM device_models WHERE id = $1 AND organization_id = $2 FOR NO KEY UPDATE",
        model_id,
        organization_id,
    )
    if was is None:
        raise NotFound(UNKNOWN)
    if device_type is not None or event_mappings is not None:
        kept = was["event_mappings"] if event_mappings is None else event_mappings
        _check_mappings(device_type or was["device_type"], kept)
    try:
        row = await connection.fetchrow(
            f"""UPDATE device_models
                   SET vendor = coalesce($3, vendor), name = coalesce($4, name),
                       offline_threshold_s = coalesce($5, offline_threshold_s), rate_limit = coalesce($6, rate_limit),
                       device_type = coalesce($7, device_type), product_number = coalesce($8, product_number),
                       event_mappings = coalesce($9, event_mappings), state_keys_max = coalesce($10, state_keys_max),
                       state_bytes_max = coalesce($11, state_bytes_max),
                       license_algorithm = coalesce($12, license_algorithm)
                 WHERE id = $1 AND organization_id = $2 RETURNING {_MODEL}""",
            model_id,
            organization_id,
            vendor,
            name,
            offline_threshold_s,
            rate_limit,
            device_type,
            product_number,
            None if event_mappings is None else dict(event_mappings),
            state_keys_max,
            state_bytes_max,
            license_algorithm,
            timeout=REQUEUE_TIMEOUT_S,
        )
    except asyncpg.UniqueViolationError:
        raise DoesNotFit(NAME_TAKEN) from None
    assert row is not None
    return Model(**row)


def _check_mappings(device_type: str, event_mappings: Mapping[str, str]) -> None:
    try:
        mappings.parse(device_type, event_mappings)
    except MappingError as error:
        raise DoesNotFit(f"Event mappings: {error}") from None


async def vendor_of(connection: Executor, model_id: UUID) -> UUID:
    """The organization that makes a model. Raises NotFound."""
    vendor: UUID | None = await connection.fetchval("SELECT organization_id FROM device_models WHERE id = $1", model_id)
    if vendor is None:
        raise NotFound(UNKNOWN)
    return vendor


async def publish(connection: Executor, model_id: UUID, *, public: bool) -> Model:
    """Let every organization claim the model's devices, or no longer. The operator's to say: see `claiming`.

    Raises NotFound.
    """
    row = await connection.fetchrow(
        f"UPDATE device_models SET public = $2 WHERE id = $1 RETURNING {_MODEL}", model_id, public
    )
    if row is None:
        raise NotFound(UNKNOWN)
    return Model(**row)


async def delete(connection: Executor, organization_id: UUID, model_id: UUID) -> None:
    """Delete a model that no device was ever registered with. Raises NotFound, or DoesNotFit.

    Records of deleted devices count: they are what turns a deleted device's key away.
    """
    try:
        found = await connection.fetchval(
            "DELETE FROM device_models WHERE id = $1 AND organization_id = $2 RETURNING true", model_id, organization_id
        )
    except asyncpg.ForeignKeyViolationError:
        raise DoesNotFit(IN_USE) from None
    if not found:
        raise NotFound(UNKNOWN)
