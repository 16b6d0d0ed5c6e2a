"""A service account calls, by its key and secret or by a token.

    Authorization: Basic key:secret        only where the account allows it
    Authorization: Bearer <token>          from POST /oauth2/token, for an hour at most

The account and its key are looked up at every call, so one that is deleted is refused at once, whatever token it holds.
"""

import base64
import binascii
from typing import NamedTuple
from zlib import crc32

from starlette.requests import Request

from gateway.api import call_pace
from gateway.api.callers.access_tokens import read_token
from gateway.api.principals import CallerKind, Grant, Principal
from gateway.api.scopes import ProjectScope
from gateway.permissions import Permission
from gateway.refusals import Unauthenticated, Unavailable
from gateway.services import Services
from gateway.stores.accounts import key_use, service_accounts
from gateway.stores.accounts.service_accounts import AccountOfKey
from schemas import keys

UNAUTHENTICATED = "Authenticate with the key of a service account, or with a token"
EXPIRED = "The token has expired. Connect again with a new one"
CALLS_WINDOW_S = 5


async def authenticate(services: Services, request: Request) -> Principal:
    """The account behind a request. Raises Unauthenticated, or TooMany when it calls too often."""
    presented = _presented(services, request)
    account = None if presented is None else await _account(services, presented)
    if account is None:
        raise Unauthenticated(UNAUTHENTICATED)
    principal = _principal(account)
    await call_pace.take_turn(
        services,
        keys.account(crc32(principal.id.encode()) % services.shards, principal.id),
        calls_max=services.settings.account_calls_max,
        window_s=CALLS_WINDOW_S,
    )
    await key_use.note(
        services.postgres, "service_account_keys", account.key_id, account.last_used_at, services.clock()
    )
    return principal


async def check_again(services: Services, request: Request, scope: ProjectScope, permission: Permission) -> None:
    """Whether the account behind a long request may still do what it was permitted.

    Raises Unauthenticated when its key is gone, NotPermitted or NotFound when its role is, Unavailable when its token
    has expired.
    """
    presented = _presented(services, request)
    if presented is None:
        if await service_accounts.of_key(services.postgres, scope.principal.key_id) is None:
            raise Unauthenticated(UNAUTHENTICATED)
        raise Unavailable(EXPIRED)
    account = await _account(services, presented)
    if account is None:
        raise Unauthenticated(UNAUTHENTICATED)
    await ProjectScope.of(services, _principal(account), scope.id, permission)


class _Presented(NamedTuple):
    """The key that a request proves to have: under which generation's master key, and whether by the secret itself."""

    key_id: str
    generation: int
    by_secret: bool


async def _account(services: Services, presented: _Presented) -> AccountOfKey | None:
    """The account of a key; None when either is gone, or the account does not allow the secret itself.

    A proof under another generation's master key than the key is of is none: that may be the one that was stolen.
    """
    account = await service_accounts.of_key(services.postgres, presented.key_id)
    if account is None or account.generation != presented.generation:
        return None
    if presented.by_secret and not account.basic_auth_enabled:
        return None
    return account


def _principal(account: AccountOfKey) -> Principal:
    return Principal(account.id, account.key_id, None, tuple(Grant(*grant) for grant in account.grants))


def _presented(services: Services, request: Request) -> _Presented | None:
    scheme, _, value = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "basic":
        try:
            key_id, _, secret = base64.b64decode(value, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            return None
        generation = services.master_keys.generation_of(key_id, secret)
        return None if generation is None else _Presented(key_id, generation, True)
    if scheme.lower() == "bearer":
        for generation, master_key in services.master_keys.items():
            token_of = read_token(master_key, value.strip())
            if token_of is not None:
                return _Presented(token_of, generation, False)
    return None


SERVICE_ACCOUNT = CallerKind(
    principal=Principal,
    prove=authenticate,
    schemes={
        "account": {"type": "http", "scheme": "basic", "description": "Id and secret of a service account's key."},
        "token": {"type": "http", "scheme": "bearer", "description": "A service account's token of `/oauth2/token`."},
    },
    limited=True,
    exact=True,
)
