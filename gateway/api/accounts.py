"""Who calls the `/v2` API: a service account, by its key and secret or by a token; and what it may do where.

    Authorization: Basic key:secret        only where the account allows it
    Authorization: Bearer <token>          from POST /oauth2/token, for an hour at most

The account and its key are looked up at every call, so one that is deleted is refused at once, whatever token it holds.
"""

import base64
import binascii
import hashlib
import hmac
import logging
from typing import Any
from uuid import UUID
from zlib import crc32

import jwt
from msgspec import Struct
from starlette.requests import Request

from gateway.api.permissions import GRANTED, Permission
from gateway.refusals import NotFound, NotPermitted, TooMany, Unauthenticated, Unavailable
from gateway.services import Services
from gateway.stores.accounts import service_accounts
from gateway.stores.accounts.service_accounts import AccountOfKey
from schemas import keys, logs
from schemas.redis import RedisAway
from schemas.secrets import derived_secret

log = logging.getLogger(__name__)

UNAUTHENTICATED = "Authenticate with the key of a service account, or with a token"
NOT_FOUND = "Not found"
FORBIDDEN = "The account's role does not permit this"
EXPIRED = "The token has expired. Connect again with a new one"
TOKEN_LIFE_S = 3600
CALLS_MAX, CALLS_WINDOW_S = 25, 5
AUDIENCE = "fleetgate"

_COUNT_CALL = """
local calls = redis.call('INCR', KEYS[1])
if calls == 1 then redis.call('EXPIRE', KEYS[1], ARGV[1]) end
return {calls, redis.call('TTL', KEYS[1])}
"""


class Grant(Struct, frozen=True):
    """A role, in one project or in a whole organisation."""

    organization_id: UUID
    project_id: UUID | None
    role: str


class AccountCaller(Struct, frozen=True):
    """A service account, proven."""

    id: str
    key_id: str
    grants: tuple[Grant, ...]

    def permissions(self, organization_id: UUID, project_id: UUID | None) -> frozenset[Permission]:
        """What it may do in a project, or with None in the organisation as a whole."""
        found: frozenset[Permission] = frozenset()
        for grant in self.grants:
            if grant.organization_id == organization_id and grant.project_id in (None, project_id):
                found |= GRANTED[grant.role]
        return found


class ProjectScope(Struct, frozen=True):
    """The project of the path, in which the caller has the permission that the endpoint names."""

    id: UUID
    organization_id: UUID
    caller: AccountCaller

    @property
    def permissions(self) -> frozenset[Permission]:
        """What the caller may do here."""
        return self.caller.permissions(self.organization_id, self.id)


class OrganizationScope(Struct, frozen=True):
    """The organisation of the path, in which the caller has the permission that the endpoint names."""

    id: UUID
    caller: AccountCaller


async def authenticate(services: Services, request: Request) -> AccountCaller:
    """The account behind a request. Raises Unauthenticated, or TooMany when it calls too often."""
    key_id, by_secret = _presented(services, request)
    account = None if key_id is None else await service_accounts.of_key(services.postgres, key_id)
    if account is None or (by_secret and not account.basic_auth_enabled):
        raise Unauthenticated(UNAUTHENTICATED)
    await _count(services, account.id)
    return _caller(account)


async def check_again(services: Services, request: Request, scope: ProjectScope, permission: Permission) -> None:
    """Whether the account behind a long request may still do what it was permitted.

    Raises Unauthenticated when its key is gone, NotPermitted or NotFound when its role is, Unavailable when its token
    has expired.
    """
    account = await service_accounts.of_key(services.postgres, scope.caller.key_id)
    key_id, by_secret = _presented(services, request)
    if account is None or (by_secret and not account.basic_auth_enabled):
        raise Unauthenticated(UNAUTHENTICATED)
    if key_id is None:
        raise Unavailable(EXPIRED)
    await project_scope(services, _caller(account), str(scope.id), permission)


def _caller(account: AccountOfKey) -> AccountCaller:
    return AccountCaller(account.id, account.key_id, tuple(Grant(*grant) for grant in account.grants))


def _presented(services: Services, request: Request) -> tuple[str | None, bool]:
    """The id of the key that a request proves to have, and whether it did so by the secret itself."""
    scheme, _, value = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "basic":
        try:
            key_id, _, secret = base64.b64decode(value, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            return None, True
        expected = derived_secret(services.settings.master_key, key_id)
        return (key_id if hmac.compare_digest(secret.encode(), expected.encode()) else None), True
    if scheme.lower() == "bearer":
        return read_token(services.settings.master_key, value.strip()), False
    return None, False


async def _count(services: Services, account_id: str) -> None:
    """With Redis away or full a call passes uncounted: an operator must be able to look at a gateway in trouble."""
    shard = crc32(account_id.encode()) % services.shards
    try:
        counted: Any = await services.redis.eval(_COUNT_CALL, 1, keys.account(shard, account_id), str(CALLS_WINDOW_S))
    except RedisAway as error:
        logs.event(log, logging.WARNING, "call_uncounted", account=account_id, cause=str(error))
        return
    calls, left_s = counted
    if calls > CALLS_MAX:
        text = f"More than {CALLS_MAX} calls in {CALLS_WINDOW_S} seconds"
        raise TooMany(text, retry_after_s=max(1, left_s))


async def project_scope(
    services: Services, caller: AccountCaller, project: str, permission: Permission
) -> ProjectScope:
    """Raises NotFound for a project where the caller has no role at all, NotPermitted where its role is not enough."""
    project_id = _uuid(project)
    organization_id = await service_accounts.organization_of_project(services.postgres, project_id)
    if organization_id is None:
        raise NotFound(NOT_FOUND)
    _demand(caller.permissions(organization_id, project_id), permission)
    return ProjectScope(project_id, organization_id, caller)


def organization_scope(caller: AccountCaller, organization: str, permission: Permission) -> OrganizationScope:
    """Raises Refusal likewise. A member of any of its projects may read an organisation."""
    organization_id = _uuid(organization)
    permissions = caller.permissions(organization_id, None)
    if any(grant.organization_id == organization_id for grant in caller.grants):
        permissions |= {Permission.READ}
    _demand(permissions, permission)
    return OrganizationScope(organization_id, caller)


def _demand(permissions: frozenset[Permission], permission: Permission) -> None:
    if not permissions:
        raise NotFound(NOT_FOUND)
    if permission not in permissions:
        raise NotPermitted(FORBIDDEN)


def _uuid(text: str) -> UUID:
    try:
        if len(text) == 36:
            return UUID(text)
    except ValueError:
        pass
    raise NotFound(NOT_FOUND)


# Tokens ------------------------------------------------------------------------------------------------------


def issue_token(master_key: str, account_id: str, key_id: str, now_s: int) -> str:
    """An access token for `TOKEN_LIFE_S` seconds."""
    claims = {"sub": account_id, "key": key_id, "aud": AUDIENCE, "iat": now_s, "exp": now_s + TOKEN_LIFE_S}
    return jwt.encode(claims, _token_key(master_key), "HS256")


def read_token(master_key: str, token: str) -> str | None:
    """The key id of a good access token; None for any other."""
    try:
        claims = jwt.decode(
            token,
            _token_key(master_key),
            algorithms=["HS256"],
            audience=AUDIENCE,
            options={"require": ["sub", "key", "aud", "iat", "exp"]},
        )
    except jwt.PyJWTError:
        return None
    if claims["exp"] - claims["iat"] > TOKEN_LIFE_S or not isinstance(claims["key"], str):
        return None
    return str(claims["key"])


def _token_key(master_key: str) -> bytes:
    return hashlib.blake2b(key=bytes.fromhex(master_key), digest_size=32, person=b"fg access token").digest()
