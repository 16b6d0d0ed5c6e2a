"""`POST /oauth2/token`: a service account shows an assertion signed with its key's secret, and gets an access token.

The assertion is a JWT (HS256; `kid` = key id, `iss` = the account's email, `aud` = the token URL, at most an hour from
`iat` to `exp`). Whatever is wrong with it, the answer is 400 in the shape of OAuth 2.0, and does not say what.
"""

from typing import Any, Literal
from urllib.parse import parse_qs

import jwt
from msgspec import Struct
from starlette.requests import Request
from starlette.responses import JSONResponse

from gateway.api import bodies, dialects
from gateway.api.callers.access_tokens import TOKEN_LIFE_S, issue_token, read_claims
from gateway.api.endpoint import Endpoint, endpoint
from gateway.api.texts import is_text
from gateway.refusals import Malformed, UnknownCoding
from gateway.services import Services
from gateway.stores.accounts import key_use, service_accounts

GRANT_TYPE = "urn:ietf:params:oauth:grant-type:jwt-bearer"
PATH = "/oauth2/token"
FORM_BYTES_MAX = 16 * 1024
LEEWAY_S = 30


class Token(Struct):
    """An access token, for the header `Authorization: Bearer …`."""

    access_token: str
    token_type: str
    expires_in: int


class TokenRequest(Struct):
    """The form of an exchange: the assertion is a JWT signed with the key's secret (HS256)."""

    grant_type: Literal["urn:ietf:params:oauth:grant-type:jwt-bearer"]
    assertion: str


@endpoint(
    "POST",
    PATH,
    errors={400: "The body, the grant type or the assertion is not good.", 413: "The form is too large."},
    described_body=TokenRequest,
    body_media_type="application/x-www-form-urlencoded",
)
async def issue(services: Services, request: Request) -> Token:
    """Exchange an assertion for an access token."""
    try:
        body = await bodies.read(request, FORM_BYTES_MAX)
    except (Malformed, UnknownCoding) as refusal:
        return _refuse("invalid_request", refusal.text)  # type: ignore[no-any-return]
    form = parse_qs(body.decode("utf-8", "replace"))
    if form.get("grant_type") != [GRANT_TYPE]:
        return _refuse("unsupported_grant_type", f"grant_type must be {GRANT_TYPE}")  # type: ignore[no-any-return]
    assertion = form.get("assertion", [""])[0]
    try:
        key_id = jwt.get_unverified_header(assertion).get("kid")
    except jwt.PyJWTError:
        key_id = None
    account = await service_accounts.of_key(services.postgres, key_id) if is_text(key_id) else None
    if account is None or not await _is_signed(services, request, assertion, account):
        return _refuse("invalid_grant", "The assertion is not good")  # type: ignore[no-any-return]
    now = services.clock()
    await key_use.note(services.postgres, "service_account_keys", account.key_id, account.last_used_at, now)
    now_s = int(now.timestamp())
    token = issue_token(services.master_keys.of(account.generation), account.id, account.key_id, now_s)
    return Token(token, "Bearer", TOKEN_LIFE_S)


async def _is_signed(
    services: Services, request: Request, assertion: str, account: service_accounts.AccountOfKey
) -> bool:
    secret = services.account_secret(account.generation, account.key_id)
    home = await service_accounts.home(services.postgres, account.id)
    claims = read_claims(
        assertion,
        secret,
        audience=_audiences(services, request),
        required=("iss",),
        issuer=service_accounts.email_of(account.id, home),
        leeway_s=LEEWAY_S,
    )
    return claims is not None


def _audiences(services: Services, request: Request) -> list[str]:
    """The token URL as operators set it, or else as the caller reached it: one meant for another server is no good."""
    if services.settings.public_url:
        return [f"{services.settings.public_url}{PATH}"]
    return [f"{services.url}{PATH}", f"{request.url.scheme}://{request.headers.get('host', '')}{PATH}"]


def _refuse(error: str, text: str) -> Any:
    return JSONResponse({"error": error, "error_description": text}, 400, headers=dialects.UNCACHED)


ENDPOINTS: tuple[Endpoint, ...] = (issue,)
