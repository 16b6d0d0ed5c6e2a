"""Service accounts of a project, and their keys. The secret of a key is shown once, when the key is made."""

import contextlib
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

from msgspec import UNSET, Struct, UnsetType

from gateway.api import page_tokens
from gateway.api.callers.service_accounts import SERVICE_ACCOUNT
from gateway.api.endpoint import Endpoint, endpoint
from gateway.api.page_tokens import PageQuery
from gateway.api.scopes import ProjectScope
from gateway.api.validation import Label
from gateway.permissions import Permission
from gateway.services import Services
from gateway.stores.accounts import service_accounts as accounts
from gateway.v2 import update_masks
from gateway.v2.update_masks import UpdateQuery
from schemas.events import rfc3339
from schemas.postgres import Connection


class ServiceAccount(Struct, rename="camel"):
    """An account of a program."""

    name: str
    email: str
    display_name: str
    enable_basic_auth: bool
    create_time: str
    update_time: str


class NewAccount(Struct, rename="camel", kw_only=True):
    """What an account is made with, or changed to; absent members stay."""

    display_name: Label | UnsetType = UNSET
    enable_basic_auth: bool | UnsetType = UNSET


class ServiceAccounts(Struct, rename="camel"):
    """Part of a list."""

    service_accounts: list[ServiceAccount]
    next_page_token: str


class Key(Struct, rename="camel"):
    """A key, without its secret. `lastUseTime` is to the minute, absent when it never was."""

    name: str
    id: str
    create_time: str
    last_use_time: str | UnsetType = UNSET


class KeyWithSecret(Struct):
    """A new key. `secret` is shown this once."""

    key: Key
    secret: str


class Keys(Struct, rename="camel"):
    """All keys of an account."""

    keys: list[Key]
    next_page_token: str


ACCOUNTS = "/v2/projects/{project}/serviceaccounts"
ACCOUNT = ACCOUNTS + "/{account}"


def _shown(account: accounts.ServiceAccount) -> ServiceAccount:
    return ServiceAccount(
        name=f"projects/{account.project_id}/serviceaccounts/{account.id}",
        email=accounts.email_of(account.id, account.project_id),
        display_name=account.display_name,
        enable_basic_auth=account.basic_auth_enabled,
        create_time=rfc3339(account.created_at),
        update_time=rfc3339(account.updated_at),
    )


def _key(project_id: UUID, account_id: str, key: accounts.AccountKey) -> Key:
    name = f"projects/{project_id}/serviceaccounts/{account_id}/keys/{key.id}"
    used = UNSET if key.last_used_at is None else rfc3339(key.last_used_at)
    return Key(name, key.id, rfc3339(key.created_at), used)


@contextlib.asynccontextmanager
async def _managing(
    services: Services, project: ProjectScope, account: str
) -> AsyncIterator[tuple[Connection, accounts.ServiceAccount]]:
    """A transaction in which the caller changes an account. Raises NotFound, or NotPermitted when it may do more."""
    async with services.postgres.acquire() as connection, connection.transaction():
        yield connection, await accounts.manage(connection, project.id, account, project.principal)


@endpoint("GET", ACCOUNTS, caller=SERVICE_ACCOUNT, permission=Permission.READ)
async def list_accounts(services: Services, project: ProjectScope, query: PageQuery) -> ServiceAccounts:
    """List the accounts of a project."""
    after = page_tokens.last_id(query, page_tokens.XID)
    found = await accounts.listed(services.postgres, project.id, after, query.page_size + 1)
    page, token = page_tokens.cut(found, query.page_size, lambda account: account.id)
    return ServiceAccounts([_shown(account) for account in page], token)


@endpoint(
    "POST",
    ACCOUNTS,
    caller=SERVICE_ACCOUNT,
    permission=Permission.ADMINISTER,
    errors={409: "The project has too many."},
)
async def create_account(services: Services, project: ProjectScope, body: NewAccount) -> ServiceAccount:
    """Make an account. It may do nothing until it is made a member."""
    made = await accounts.create(
        services.postgres,
        project.id,
        body.display_name or "",
        basic_auth_enabled=body.enable_basic_auth is True,
    )
    return _shown(made)


@endpoint("GET", ACCOUNT, caller=SERVICE_ACCOUNT, permission=Permission.READ)
async def read_account(services: Services, project: ProjectScope, account: str) -> ServiceAccount:
    """Read one account."""
    return _shown(await accounts.read(services.postgres, project.id, account))


@endpoint("PATCH", ACCOUNT, caller=SERVICE_ACCOUNT, permission=Permission.ADMINISTER)
async def update_account(
    services: Services, project: ProjectScope, account: str, query: UpdateQuery, body: NewAccount
) -> ServiceAccount:
    """Change an account; absent members stay, unless `update_mask` names them."""
    async with _managing(services, project, account) as (connection, was):
        name, basic = was.display_name, was.basic_auth_enabled
        given = [field for field in body.__struct_fields__ if getattr(body, field) is not UNSET]
        changes = update_masks.chosen(query.update_mask, body.__struct_fields__, given)
        if "display_name" in changes:
            name = body.display_name or ""
        if "enable_basic_auth" in changes:
            basic = body.enable_basic_auth is True
        return _shown(await accounts.update(connection, was, name, basic))


@endpoint("DELETE", ACCOUNT, caller=SERVICE_ACCOUNT, permission=Permission.ADMINISTER)
async def delete_account(services: Services, project: ProjectScope, account: str) -> dict[str, Any]:
    """Delete an account, its keys and its roles; its tokens end with it."""
    async with _managing(services, project, account) as (connection, ending):
        await accounts.delete(connection, ending.id)
    return {}


@endpoint("GET", ACCOUNT + "/keys", caller=SERVICE_ACCOUNT, permission=Permission.READ)
async def list_keys(services: Services, project: ProjectScope, account: str, query: PageQuery) -> Keys:
    """List the keys of an account."""
    owner = await accounts.read(services.postgres, project.id, account)
    found = await accounts.keys(services.postgres, owner.id)
    listed = [_key(project.id, owner.id, key) for key in found]
    return Keys(*page_tokens.part(listed, query, lambda key: key.id))


@endpoint(
    "POST",
    ACCOUNT + "/keys",
    caller=SERVICE_ACCOUNT,
    permission=Permission.ADMINISTER,
    errors={409: "The account has too many."},
)
async def create_key(services: Services, project: ProjectScope, account: str) -> KeyWithSecret:
    """Make a key; keep the secret, it is not shown again."""
    async with _managing(services, project, account) as (connection, owner):
        key = await accounts.create_key(connection, owner.id)
        secret = services.account_secret(await accounts.generation(connection, key.id), key.id)
    return KeyWithSecret(_key(project.id, owner.id, key), secret)


@endpoint(
    "GET",
    ACCOUNT + "/keys/{key}",
    caller=SERVICE_ACCOUNT,
    permission=Permission.READ,
    errors={404: "There is no such key."},
)
async def read_key(services: Services, project: ProjectScope, account: str, key: str) -> Key:
    """Read one key, without its secret."""
    owner = await accounts.read(services.postgres, project.id, account)
    found = await accounts.key(services.postgres, owner.id, key)
    return _key(project.id, owner.id, found)


@endpoint("DELETE", ACCOUNT + "/keys/{key}", caller=SERVICE_ACCOUNT, permission=Permission.ADMINISTER)
async def delete_key(services: Services, project: ProjectScope, account: str, key: str) -> dict[str, Any]:
    """End a key, and the tokens that were had with it."""
    async with _managing(services, project, account) as (connection, owner):
        await accounts.delete_key(connection, owner.id, key)
    return {}


ENDPOINTS: tuple[Endpoint, ...] = (
    list_accounts,
    create_account,
    list_keys,
    create_key,
    read_key,
    delete_key,
    read_account,
    update_account,
    delete_account,
)
