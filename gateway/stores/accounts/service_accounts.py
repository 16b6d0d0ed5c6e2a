"""Service accounts of projects, their keys, and the roles that accounts have.

An account may have roles elsewhere than in the project that it belongs to, up to all in the organization. Whoever has
its key has its roles; so keys for it are made, and it is changed or deleted, only by callers with at least its
permissions.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import Protocol
from uuid import UUID

from msgspec import Struct

from gateway.permissions import RoleIn
from gateway.refusals import Conflict, NotFound, NotPermitted
from schemas import ids
from schemas.postgres import Connection, Executor

DOMAIN = "serviceaccount.fleetgate"
KEYS_MAX = 10
ACCOUNTS_MAX = 1_000
ACCOUNT_UNKNOWN = "Service account not found"
MAY_DO_MORE = "The service account {email} may do more than the caller, who therefore cannot change it"


def email_of(account_id: str, project_id: UUID) -> str:
    """The address that an account is known by."""
    return f"{account_id}@{project_id}.{DOMAIN}"


class AccountOfKey(Struct):
    """An account as its key proves it, with its roles."""

    id: str
    key_id: str
    generation: int
    """Of the master key that the key's secret is derived from."""
    basic_auth_enabled: bool
    last_used_at: datetime | None
    grants: list[RoleIn]


class ServiceAccount(Struct):
    """A program's account in a project."""

    id: str
    project_id: UUID
    display_name: str
    basic_auth_enabled: bool
    created_at: datetime
    updated_at: datetime


async def of_key(connection: Executor, key_id: str) -> AccountOfKey | None:
    """The account of a living key."""
    rows = await connection.fetch(
        """SELECT a.id, k.id AS key_id, k.generation, a.basic_auth_enabled, k.last_used_at,
                  m.organization_id, m.project_id, m.role
             FROM service_account_keys k JOIN service_accounts a ON a.id = k.service_account_id
             LEFT JOIN memberships m ON m.service_account_id = a.id WHERE k.id = $1""",
        key_id,
    )
    if not rows:
        return None
    grants = [(row["organization_id"], row["project_id"], row["role"]) for row in rows if row["role"]]
    found = rows[0]
    columns = ("id", "key_id", "generation", "basic_auth_enabled", "last_used_at")
    return AccountOfKey(**{name: found[name] for name in columns}, grants=grants)


async def home(connection: Executor, account_id: str) -> UUID:
    """The project that an account belongs to."""
    project_id: UUID = await connection.fetchval("SELECT project_id FROM service_accounts WHERE id = $1", account_id)
    return project_id


_ACCOUNT = "id, project_id, display_name, basic_auth_enabled, created_at, updated_at"


async def create(
    connection: Executor, project_id: UUID, display_name: str = "", *, basic_auth_enabled: bool = False
) -> ServiceAccount:
    """A new account; it may do nothing until it is made a member somewhere. Raises Conflict beyond the most."""
    row = await connection.fetchrow(
        f"""INSERT INTO service_accounts (id, project_id, display_name, basic_auth_enabled)
            SELECT $1, $2, $3, $4
             WHERE (SELECT count(*) FROM service_accounts WHERE project_id = $2) < $5 RETURNING {_ACCOUNT}""",
        ids.new_xid(),
        project_id,
        display_name,
        basic_auth_enabled,
        ACCOUNTS_MAX,
    )
    if row is None:
        raise Conflict(f"A project has at most {ACCOUNTS_MAX} service accounts")
    return ServiceAccount(**row)


async def listed(connection: Executor, project_id: UUID, after: str, limit: int) -> list[ServiceAccount]:
    """The accounts of a project behind `after`, by id."""
    rows = await connection.fetch(
        f"SELECT {_ACCOUNT} FROM service_accounts WHERE project_id = $1 AND id > $2 ORDER BY id LIMIT $3",
        project_id,
        after,
        limit,
    )
    return [ServiceAccount(**row) for row in rows]


async def read(connection: Executor, project_id: UUID, account_id: str) -> ServiceAccount:
    """Raises NotFound."""
    row = await connection.fetchrow(
        f"SELECT {_ACCOUNT} FROM service_accounts WHERE project_id = $1 AND id = $2", project_id, account_id
    )
    if row is None:
        raise NotFound(ACCOUNT_UNKNOWN)
    return ServiceAccount(**row)


class Manager(Protocol):
    """Whoever wants to manage an account."""

    def has(self, roles: Iterable[RoleIn]) -> bool: ...


async def manage(connection: Connection, project_id: UUID, account_id: str, manager: Manager) -> ServiceAccount:
    """An account of the project that the manager is about to change, give a key or delete, in this transaction.

    It gets no further role meanwhile. Raises NotFound, or NotPermitted when it may do more than the manager.
    """
    account = await read(connection, project_id, account_id)
    await _permit(connection, [account.id], manager)
    return account


async def manage_all(connection: Connection, project_id: UUID, manager: Manager) -> None:
    """As `manage`, for all accounts of a project, which end with it."""
    rows = await connection.fetch("SELECT id FROM service_accounts WHERE project_id = $1 ORDER BY id", project_id)
    await _permit(connection, [row["id"] for row in rows], manager)


async def _permit(connection: Connection, account_ids: list[str], manager: Manager) -> None:
    await connection.execute(
        "SELECT FROM service_accounts WHERE id = ANY($1::text[]) ORDER BY id FOR UPDATE", account_ids
    )
    rows = await connection.fetch(
        """SELECT a.id, a.project_id AS home, m.organization_id, m.project_id, m.role
             FROM service_accounts a JOIN memberships m ON m.service_account_id = a.id
            WHERE a.id = ANY($1::text[]) FOR SHARE OF m""",
        account_ids,
    )
    for row in rows:
        if not manager.has([(row["organization_id"], row["project_id"], row["role"])]):
            raise NotPermitted(MAY_DO_MORE.format(email=email_of(row["id"], row["home"])))


async def update(
    connection: Executor, was: ServiceAccount, display_name: str, basic_auth_enabled: bool
) -> ServiceAccount:
    """Raises NotFound when it was deleted just now."""
    row = await connection.fetchrow(
        f"""UPDATE service_accounts SET display_name = $2, basic_auth_enabled = $3, updated_at = now()
             WHERE id = $1 RETURNING {_ACCOUNT}""",
        was.id,
        display_name,
        basic_auth_enabled,
    )
    if row is None:
        raise NotFound(ACCOUNT_UNKNOWN)
    return ServiceAccount(**row)


async def delete(connection: Executor, account_id: str) -> None:
    """End an account, its keys and its roles."""
    await connection.execute("DELETE FROM service_accounts WHERE id = $1", account_id)


# Keys --------------------------------------------------------------------------------------------------------


class AccountKey(Struct):
    """A key of an account. `last_used_at` is to the minute, None when it never was."""

    id: str
    created_at: datetime
    last_used_at: datetime | None


_KEY = "id, created_at, last_used_at"


async def create_key(connection: Executor, account_id: str) -> AccountKey:
    """A new key: its id, from which its secret follows. Raises Conflict beyond the most."""
    row = await connection.fetchrow(
        f"""INSERT INTO service_account_keys (id, service_account_id)
           SELECT $1, $2 WHERE (SELECT count(*) FROM service_account_keys WHERE service_account_id = $2) < $3
           RETURNING {_KEY}""",
        ids.new_xid(),
        account_id,
        KEYS_MAX,
    )
    if row is None:
        raise Conflict(f"A service account has at most {KEYS_MAX} keys")
    return AccountKey(**row)


async def generation(connection: Executor, key_id: str) -> int:
    """The generation of the master key that a key's secret is derived from."""
    found: int = await connection.fetchval("SELECT generation FROM service_account_keys WHERE id = $1", key_id)
    return found


async def keys(connection: Executor, account_id: str) -> list[AccountKey]:
    """The keys of an account, oldest first."""
    rows = await connection.fetch(
        f"SELECT {_KEY} FROM service_account_keys WHERE service_account_id = $1 ORDER BY id", account_id
    )
    return [AccountKey(**row) for row in rows]


async def key(connection: Executor, account_id: str, key_id: str) -> AccountKey:
    """One key. Raises NotFound."""
    found = [key for key in await keys(connection, account_id) if key.id == key_id]
    if not found:
        raise NotFound("Key not found")
    return found[0]


async def delete_key(connection: Executor, account_id: str, key_id: str) -> None:
    """Raises NotFound."""
    gone = await connection.fetchval(
        "DELETE FROM service_account_keys WHERE service_account_id = $1 AND id = $2 RETURNING id", account_id, key_id
    )
    if gone is None:
        raise NotFound("Key not found")
