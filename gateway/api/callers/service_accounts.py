"""A service account calls, by its key and secret or by a token.

    Authorization: Basic key:secret        only where the account allows it
    Authorization: Bearer <token>          from POST /oauth2/token, for an hour at most

The account and its key are looked up at every call, so one that is deleted is refused at once, whatever token it holds.
"""

import base64
import binascii
import hmac
from zlib import crc32

from starlette.requests import Request

from gateway.api import call_pace
from gateway.api.callers.access_tokens import read_token
from gateway.api.principals import CallerKind, Grant, Principal
from gateway.api.scopes import ProjectScope
from gateway.permissions import Permission
from gateway.refusals import Unauthenticated, Unavailable
from gateway.services import Services
from gateway.stores.accounts import service_accounts
from schemas import keys
from schemas.secrets import derived_secret

UNAUTHENTICATED = "Authenticate with the key of a service account, or with a token"
EXPIRED = "The token has expired. Connect again with a new one"
CALLS_WINDOW_S = 5


async def authenticate(services: Services, request: Request) -> Principal:
    """The account behind a request. Raises Unauthenticated, or TooMany when it calls too often."""
    key_id, by_secret = _presented(services, request)
    principal = None if key_id is None else await _principal(services, key_id, by_secret=by_secret)
    if principal is None:
        raise Unauthenticated(UNAUTHENTICATED)
    await call_pace.take_turn(
        services,
        keys.account(crc32(principal.id.encode()) % services.shards, principal.id),
        calls_max=services.settings.account_calls_max,
        window_s=CALLS_WINDOW_S,
    )
    return principal


async def check_again(services: Services, request: Request, scope: ProjectScope, permission: Permission) -> None:
    """Whether the account behind a long request may still do what it was permitted.

    Raises Unauthenticated when its key is gone, NotPermitted or NotFound when its role is, Unavailable when its token
    has expired.
    """
    key_id, by_secret = _presented(services, request)
    principal = await _principal(services, scope.principal.key_id, by_secret=by_secret)
    if principal is None:
        raise Unauthenticated(UNAUTHENTICATED)
    if key_id is None:
        raise Unavailable(EXPIRED)
    await ProjectScope.of(services, principal, scope.id, permission)


async def _principal(services: Services, key_id: str, *, by_secret: bool) -> Principal | None:
    """The account of a key; None when either is gone, or the account does not allow the secret itself."""
    account = await service_accounts.of_key(services.postgres, key_id)
    if account is None or (by_secret and not account.basic_auth_enabled):
        return None
    return Principal(account.id, account.key_id, None, tuple(Grant(*grant) for grant in account.grants))


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
