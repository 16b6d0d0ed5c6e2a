"""API keys of organizations and partners, and hardware keys of models: minted, listed, revoked.

The text of a credential is shown once, when it is minted; the tables hold a digest of its secret.
"""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import asyncpg
from msgspec import Struct

from gateway.permissions import KEY_ROLES, KeyKind, Role
from gateway.refusals import DoesNotFit, NotFound
from schemas import ids
from schemas.ids import Minted
from schemas.postgres import Executor

UNKNOWN_API_KEY = "API key not found"
UNKNOWN_HARDWARE_KEY = "Hardware key not found"
_USED = """
    LEFT JOIN (SELECT hardware_key_id, count(*) AS devices FROM devices WHERE model_id = $1 GROUP BY 1) used
      ON used.hardware_key_id = k.id
"""
LIFE_MAX = timedelta(days=10 * 365)
"""Of an API key that expires."""
_API_KEY = "id, kind, role, name, created_at, expires_at, last_used_at, revoked_at"


class ApiKey(Struct):
    """An API key without its secret."""

    id: UUID
    kind: KeyKind
    role: Role
    name: str
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None
    """To the minute; None when it never was."""
    revoked_at: datetime | None


class LiveApiKey(Struct):
    """What proves an API key, what it may do, and until when."""

    organization_id: UUID
    digest: bytes
    role: Role
    expires_at: datetime | None
    last_used_at: datetime | None


class HardwareKey(Struct):
    """A hardware key without its secret. `usage_count` is how many devices were registered with it."""

    id: UUID
    name: str
    created_at: datetime
    revoked_at: datetime | None
    usage_count: int


async def mint_and_store(
    connection: Executor,
    kind: str,
    *,
    owner_id: UUID,
    name: str,
    role: str | None = None,
    expires_at: datetime | None = None,
) -> Minted:
    """A new credential of `kind` (organization, partner, hardware); its `text` exists nowhere else.

    The owner is an organization, for a hardware key a model. An API key may do all that its kind may, unless `role`
    says otherwise, and until `expires_at`, for good without one. Raises NotFound when there is no such owner,
    DoesNotFit for a role that its kind cannot have.
    """
    minted = ids.mint(kind)
    try:
        if kind == "hardware":
            await connection.execute(
                "INSERT INTO hardware_keys (id, model_id, name, digest) VALUES ($1, $2, $3, $4)",
                minted.id,
                owner_id,
                name,
                minted.digest,
            )
        else:
            await connection.execute(
                """INSERT INTO api_keys (id, organization_id, kind, role, name, digest, expires_at)
                   VALUES ($1, $2, $3, $4, $5, $6, $7)""",
                minted.id,
                owner_id,
                kind,
                role or default_role(kind),
                name,
                minted.digest,
                expires_at,
            )
    except asyncpg.CheckViolationError as error:
        if error.constraint_name != "api_keys_role_check":
            raise
        raise DoesNotFit(f"Role of {kind} keys must be one of {', '.join(KEY_ROLES[kind])}") from None
    except asyncpg.ForeignKeyViolationError:
        raise NotFound("Model not found" if kind == "hardware" else "Organization not found") from None
    return minted


def default_role(kind: str) -> str:
    """The default role of an API key: everything that its kind may do."""
    return f"{kind}.admin"


async def live_api_key(connection: Executor, key_id: UUID, kind: KeyKind) -> LiveApiKey | None:
    """The API key of this id and kind, unless it was revoked; it may have expired."""
    row = await connection.fetchrow(
        "SELECT organization_id, digest, role, expires_at, last_used_at FROM api_keys WHERE id = $1 AND kind = $2"
        " AND revoked_at IS NULL",
        key_id,
        kind,
    )
    return None if row is None else LiveApiKey(**row)


async def api_keys(
    connection: Executor, organization_id: UUID, offset: int = 0, limit: int | None = None
) -> list[ApiKey]:
    """The organization's API keys, oldest first, revoked ones too."""
    rows = await connection.fetch(
        f"""SELECT {_API_KEY} FROM api_keys
            WHERE organization_id = $1 ORDER BY created_at, id OFFSET $2 LIMIT $3""",
        organization_id,
        offset,
        limit,
    )
    return [ApiKey(**row) for row in rows]


async def read_api_key(connection: Executor, organization_id: UUID, key_id: UUID) -> ApiKey:
    """Raises NotFound."""
    row = await connection.fetchrow(
        f"SELECT {_API_KEY} FROM api_keys WHERE id = $1 AND organization_id = $2",
        key_id,
        organization_id,
    )
    if row is None:
        raise NotFound(UNKNOWN_API_KEY)
    return ApiKey(**row)


async def revoke_api_key(connection: Executor, organization_id: UUID, key_id: UUID) -> None:
    """End a key; a second time changes nothing. Raises NotFound."""
    found = await connection.fetchval(
        """UPDATE api_keys SET revoked_at = coalesce(revoked_at, now())
            WHERE id = $1 AND organization_id = $2 RETURNING true""",
        key_id,
        organization_id,
    )
    if not found:
        raise NotFound(UNKNOWN_API_KEY)


class RotatedKey(Struct):
    """A new key in place of one that ended; `key` is shown this once."""

    id: UUID
    kind: str
    name: str
    role: str | None
    key: str
    revoked: UUID


async def rotate_api_key(connection: Executor, key_id: UUID) -> RotatedKey:
    """A new API key that may do the same, for as long a time, in place of one that ends. Raises NotFound."""
    organization_id = await organization_of_api_key(connection, key_id)
    was = await read_api_key(connection, organization_id, key_id)
    await revoke_api_key(connection, organization_id, key_id)
    expires_at = None if was.expires_at is None else datetime.now(UTC) + (was.expires_at - was.created_at)
    return await _in_place_of(connection, key_id, was.kind, organization_id, was.name, was.role, expires_at)


async def rotate_hardware_key(connection: Executor, key_id: UUID) -> RotatedKey:
    """A new hardware key of the same model, in place of one that ends. Raises NotFound."""
    model_id = await model_of_hardware_key(connection, key_id)
    name = await revoke_hardware_key(connection, model_id, key_id)
    return await _in_place_of(connection, key_id, "hardware", model_id, name, None)


async def _in_place_of(
    connection: Executor,
    revoked: UUID,
    kind: str,
    owner_id: UUID,
    name: str,
    role: str | None,
    expires_at: datetime | None = None,
) -> RotatedKey:
    minted = await mint_and_store(connection, kind, owner_id=owner_id, name=name, role=role, expires_at=expires_at)
    return RotatedKey(minted.id, kind, name, role, minted.text, revoked)


async def hardware_keys(
    connection: Executor, model_id: UUID, offset: int = 0, limit: int | None = None, *, counted: bool = True
) -> list[HardwareKey]:
    """The model's hardware keys, oldest first, revoked ones too; unless `counted`, as if nothing had used them.

    Counting looks at all devices of the model.
    """
    rows = await connection.fetch(
        f"""
        SELECT k.id, k.name, k.created_at, k.revoked_at, {"coalesce(used.devices, 0)" if counted else 0} AS usage_count
          FROM hardware_keys k {_USED if counted else ""}
         WHERE k.model_id = $1 ORDER BY k.created_at, k.id OFFSET $2 LIMIT $3
        """,
        model_id,
        offset,
        limit,
    )
    return [HardwareKey(**row) for row in rows]


async def revoke_hardware_key(connection: Executor, model_id: UUID, key_id: UUID) -> str:
    """End a key and return its name; a second time changes nothing. Raises NotFound."""
    name: str | None = await connection.fetchval(
        """UPDATE hardware_keys SET revoked_at = coalesce(revoked_at, now())
            WHERE id = $1 AND model_id = $2 RETURNING name""",
        key_id,
        model_id,
    )
    if name is None:
        raise NotFound(UNKNOWN_HARDWARE_KEY)
    return name


async def read_hardware_key(connection: Executor, model_id: UUID, key_id: UUID) -> None:
    """Raises NotFound when the model has no such key."""
    if not await connection.fetchval(
        "SELECT EXISTS (SELECT FROM hardware_keys WHERE id = $1 AND model_id = $2)", key_id, model_id
    ):
        raise NotFound(UNKNOWN_HARDWARE_KEY)


async def model_of_hardware_key(connection: Executor, key_id: UUID) -> UUID:
    """The model that a hardware key belongs to. Raises NotFound."""
    model_id: UUID | None = await connection.fetchval("SELECT model_id FROM hardware_keys WHERE id = $1", key_id)
    if model_id is None:
        raise NotFound(UNKNOWN_HARDWARE_KEY)
    return model_id


async def organization_of_api_key(connection: Executor, key_id: UUID) -> UUID:
    """The organization that an API key belongs to. Raises NotFound."""
    organization_id: UUID | None = await connection.fetchval(
        "SELECT organization_id FROM api_keys WHERE id = $1", key_id
    )
    if organization_id is None:
        raise NotFound(UNKNOWN_API_KEY)
    return organization_id
