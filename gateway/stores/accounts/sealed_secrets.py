"""All secrets that are encrypted at rest, to encrypt them anew when the key changes."""

from schemas.postgres import Connection
from schemas.secrets import CONNECTOR_SECRETS, LICENSE_KEYS, SIGNING_KEYS, VENDOR_CREDENTIALS
from schemas.settings import Keys

SEALED = (
    ("cloud_connectors", VENDOR_CREDENTIALS, ("credentials", "consent")),
    ("data_connectors", CONNECTOR_SECRETS, ("headers", "secret", "previous_secret")),
    ("license_keys", LICENSE_KEYS, ("private",)),
    ("signing_keys", SIGNING_KEYS, ("private",)),
)
"""Table, purpose, columns; each is bound to the id of its row."""


async def seal_anew(connection: Connection, keys: Keys) -> dict[str, int]:
    """Seal all secrets with the newest key; returns how many rows each table has. In a transaction: all or none.

    Raises SecretError for one that was sealed with a key that is not among these.
    """
    counts = {}
    for table, purpose, columns in SEALED:
        vault = keys.vault(purpose)
        rows = await connection.fetch(f"SELECT id, {', '.join(columns)} FROM {table} ORDER BY id FOR UPDATE")
        for row in rows:
            await connection.execute(
                f"UPDATE {table} SET {', '.join(f'{name} = ${n}' for n, name in enumerate(columns, 2))} WHERE id = $1",
                row["id"],
                *(vault.seal_anew(row[name], row["id"]) for name in columns),
            )
        counts[table] = len(rows)
    return counts
