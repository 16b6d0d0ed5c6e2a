"""The keys of asymmetric signatures in Postgres: made, shown to receivers, rotated.

A new key is shown before it signs, because receivers keep the key set for a while; a retired one is shown until the
last token it signed has expired. The first key of all signs at once.
"""

from datetime import datetime, timedelta
from typing import Any

from schemas.postgres import Connection
from schemas.secrets import Vault
from schemas.signing import TOKEN_LIFE_S, SigningKey

SHOWN_BEFORE = timedelta(minutes=15)
SHOWN_AFTER = timedelta(seconds=TOKEN_LIFE_S) + SHOWN_BEFORE
_LOCK = 0x7369676E


async def rotate(connection: Connection, vault: Vault) -> str:
    """Make a new key and retire the others; returns its id. Raises nothing of its own."""
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)
        await connection.execute("UPDATE signing_keys SET retired_at = now() WHERE retired_at IS NULL")
        return await _add(connection, vault)


async def signing_key(connection: Connection, vault: Vault, now: datetime) -> SigningKey:
    """The key that signs now; made if there is none yet."""
    async with connection.transaction():
        row = await _current(connection, now)
        if row is None:
            await connection.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)
            if await _current(connection, now) is None:
                await _add(connection, vault)
            row = await _current(connection, now)
        assert row is not None
    return SigningKey.read(row["id"], vault.open(row["private"], row["id"]))


async def shown(connection: Connection, now: datetime) -> list[dict[str, Any]]:
    """The members of the JWKS: keys that sign, will sign, or signed tokens that have not expired."""
    rows = await connection.fetch(
        "SELECT public FROM signing_keys WHERE retired_at IS NULL OR retired_at > $1 ORDER BY created_at DESC, id",
        now - SHOWN_AFTER,
    )
    return [row["public"] for row in rows]


async def _current(connection: Connection, now: datetime) -> Any:
    """The newest key that has been shown for long enough, else the oldest that is still shown."""
    return await connection.fetchrow(
        """SELECT id, private FROM signing_keys
            WHERE retired_at IS NULL OR retired_at > $2
            ORDER BY created_at > $1,
                     CASE WHEN created_at <= $1 THEN created_at END DESC, created_at, id LIMIT 1""",
        now - SHOWN_BEFORE,
        now - SHOWN_BEFORE,
    )


async def _add(connection: Connection, vault: Vault) -> str:
    key = SigningKey.generate()
    await connection.execute(
        "INSERT INTO signing_keys (id, private, public) VALUES ($1, $2, $3)",
        key.id,
        vault.seal(key.private_bytes(), key.id),
        key.public_jwk(),
    )
    return key.id
