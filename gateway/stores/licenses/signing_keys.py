"""The keys by which a vendor's licences are signed: made when the first one is needed, shown, rotated.

A vendor has one key of each algorithm that signs; those before it stay readable, because what they signed stays good.
The private half never leaves: it is sealed at rest (see `schemas.secrets`).
"""

import asyncio
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

import asyncpg
from msgspec import Struct

from gateway.refusals import NotFound
from schemas.ids import new_xid
from schemas.license_signatures import Algorithm, LicenseKey
from schemas.postgres import Connection, Executor
from schemas.secrets import Vault

UNKNOWN = "License key not found"
_SHOWN = "id, algorithm, public AS public_key, created_at, retired_at"


class LicenseSigningKey(Struct):
    """The public half of a key that signs licences, as PEM; a retired one signs no more."""

    id: str
    algorithm: Algorithm
    public_key: str
    created_at: datetime
    retired_at: datetime | None


class Signer(NamedTuple):
    """The key that signs now."""

    id: str
    key: LicenseKey


async def listed(connection: Executor, vendor_id: UUID, offset: int, limit: int) -> list[LicenseSigningKey]:
    """All keys of a vendor, newest first."""
    rows = await connection.fetch(
        f"""SELECT {_SHOWN} FROM license_keys WHERE organization_id = $1
             ORDER BY created_at DESC, id DESC OFFSET $2 LIMIT $3""",
        vendor_id,
        offset,
        limit,
    )
    return [LicenseSigningKey(**row) for row in rows]


async def read(connection: Executor, vendor_id: UUID, key_id: str) -> LicenseSigningKey:
    """Raises NotFound for an unknown key and for another vendor's alike."""
    row = await connection.fetchrow(
        f"SELECT {_SHOWN} FROM license_keys WHERE id = $1 AND organization_id = $2", key_id, vendor_id
    )
    if row is None:
        raise NotFound(UNKNOWN)
    return LicenseSigningKey(**row)


async def signer(connection: Connection, vault: Vault, vendor_id: UUID, algorithm: Algorithm) -> Signer:
    """The key that signs a vendor's licences now; made if there is none yet. In a transaction."""
    row = await _signing(connection, vendor_id, algorithm)
    if row is None:
        await _lock(connection, vendor_id)
        row = await _signing(connection, vendor_id, algorithm)
    if row is None:
        await _add(connection, vault, vendor_id, algorithm)
        row = await _signing(connection, vendor_id, algorithm)
    assert row is not None
    return Signer(row["id"], LicenseKey.read(vault.open(row["private"], row["id"])))


async def rotate(connection: Connection, vault: Vault, vendor_id: UUID, algorithm: Algorithm) -> LicenseSigningKey:
    """A new key signs from now on; licences that are signed stay as they are. In a transaction."""
    await _lock(connection, vendor_id)
    await connection.execute(
        """UPDATE license_keys SET retired_at = now()
            WHERE organization_id = $1 AND algorithm = $2 AND retired_at IS NULL""",
        vendor_id,
        algorithm,
    )
    return await read(connection, vendor_id, await _add(connection, vault, vendor_id, algorithm))


async def _lock(connection: Connection, vendor_id: UUID) -> None:
    await connection.execute("SELECT FROM organizations WHERE id = $1 FOR NO KEY UPDATE", vendor_id)


async def _signing(connection: Connection, vendor_id: UUID, algorithm: Algorithm) -> asyncpg.Record | None:
    return await connection.fetchrow(
        """SELECT id, private FROM license_keys
            WHERE organization_id = $1 AND algorithm = $2 AND retired_at IS NULL""",
        vendor_id,
        algorithm,
    )


async def _add(connection: Connection, vault: Vault, vendor_id: UUID, algorithm: Algorithm) -> str:
    # Looking for primes would hold up everybody else.
    key = await asyncio.to_thread(LicenseKey.generate, algorithm)
    key_id = new_xid()
    await connection.execute(
        "INSERT INTO license_keys (id, organization_id, algorithm, private, public) VALUES ($1, $2, $3, $4, $5)",
        key_id,
        vendor_id,
        algorithm,
        vault.seal(key.private_bytes(), key_id),
        key.public_pem(),
    )
    return key_id
