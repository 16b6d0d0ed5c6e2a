"""Signing in at the identity provider: out to it with what binds the way back to this browser, and in again.

What the way back must know (state, nonce, PKCE verifier, the page that was asked for) is sealed into a cookie, so
nothing is kept for those who never come back. Each attempt is good once, for ten minutes.

Who may come in: whoever has an address that the provider has verified, of a domain that is allowed, and then a role
here, by their groups or because somebody gave them one. By that address people are found the first time; from then on
they are known by the provider's subject, whatever address they get, and whoever gets theirs.
"""

import base64
import hashlib
import secrets
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any, cast
from uuid import UUID

import msgspec
from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response

from gateway.api import session_cookie
from gateway.api.addresses import address_of
from gateway.api.texts import is_text
from gateway.identity.provider import Attempt
from gateway.people import entering, returning
from gateway.permissions import Role, RoleIn
from gateway.refusals import DoesNotFit, NotPermitted
from gateway.services import Services
from gateway.stores import audit
from gateway.stores.accounts.members import check_address
from gateway.stores.people import accounts, provider_identities, provider_roles
from schemas import keys
from schemas.constant_time import same_text
from schemas.postgres import Connection
from schemas.secrets import SIGN_INS, SecretError

CALLBACK = "/openid-connect/callback"
NOT_OFFERED = "Signing in at an identity provider is not set up here"
OTHER_ATTEMPT = "This sign-in was begun in another browser, more than ten minutes ago, or is done already: begin again"
DECLINED = "The identity provider did not sign you in ({})"
UNVERIFIED = "The identity provider has not verified your email address, so you cannot sign in by it"
FOREIGN = "People with an email address of this domain cannot sign in here"
NO_ROLE = (
    "You have no role here: whoever administers your organization invites you, or adds you to a group that has one"
)
LIFE = timedelta(minutes=10)
BACK_BYTES_MAX = 1_500
"""Of the address to lead back to: a cookie holds 4 KiB."""
NAME_CHARACTERS_MAX, SUBJECT_CHARACTERS_MAX = 255, 255
_COOKIE, _SEALED_FOR = "-attempt", "sign-in"


class _Begun(Struct):
    attempt: Attempt
    back: str
    until: datetime


class Returned(Struct):
    """What the provider sends a browser back with."""

    code: str = ""
    state: str = ""
    error: str = ""
    iss: str = ""


async def begin(services: Services, back: str) -> tuple[str, str]:
    """Where to send a browser, and what it must keep meanwhile. Raises Unavailable."""
    attempt = Attempt(secrets.token_urlsafe(24), secrets.token_urlsafe(24), secrets.token_urlsafe(48))
    digest = hashlib.sha256(attempt.verifier.encode()).digest()
    challenge = base64.urlsafe_b64encode(digest).decode().rstrip("=")
    address = await services.identity.address(attempt, challenge, services.url + CALLBACK)
    page = returning.page_of_ours(back)
    begun = _Begun(attempt, page if len(page.encode()) <= BACK_BYTES_MAX else "/", services.clock() + LIFE)
    sealed = services.settings.vault(SIGN_INS).seal(msgspec.json.encode(begun), _SEALED_FOR)
    return address, base64.urlsafe_b64encode(sealed).decode()


def keep(services: Services, response: Response, kept: str) -> None:
    """Let the browser keep that."""
    session_cookie.give_beside(services, response, _COOKIE, kept, int(LIFE.total_seconds()))


def forget(services: Services, response: Response) -> None:
    """Let it forget that again."""
    session_cookie.give_beside(services, response, _COOKIE, "", 0)


async def finish(services: Services, request: Request, returned: Returned) -> str:
    """Sign in whom the provider sent back; returns the page to lead to. Raises NotPermitted, Unavailable."""
    begun = await _begun(services, request, returned.state)
    if not returned.code:
        raise NotPermitted(DECLINED.format(returned.error[:100] or "it sent no code"))
    if returned.iss not in ("", services.settings.oidc_issuer):
        raise NotPermitted(OTHER_ATTEMPT)
    claims = await services.identity.claims(returned.code, begun.attempt, services.url + CALLBACK)
    email = _email(services, claims)
    async with services.postgres.acquire() as connection, connection.transaction():
        admitted = await _admitted(services, connection, request, email, claims)
        if admitted is not None:
            await entering.begin(
                services, connection, request, admitted, "sign_in_by_provider", vouched_at=services.clock()
            )
    if admitted is None:
        raise NotPermitted(NO_ROLE)
    return begun.back


async def _begun(services: Services, request: Request, state: str) -> _Begun:
    """The attempt of this browser that a state is of, once. Raises NotPermitted."""
    try:
        sealed = base64.urlsafe_b64decode(session_cookie.read_beside(services, request, _COOKIE))
        begun = msgspec.json.decode(services.settings.vault(SIGN_INS).open(sealed, _SEALED_FOR), type=_Begun)
    except (SecretError, ValueError, msgspec.MsgspecError):
        raise NotPermitted(OTHER_ATTEMPT) from None
    fits = same_text(state, begun.attempt.state)
    if not fits or begun.until <= services.clock():
        raise NotPermitted(OTHER_ATTEMPT)
    used = keys.of_caller(services.shards, "signed-in", begun.attempt.state)
    if not await services.redis.set(used, b"", nx=True, ex=int(LIFE.total_seconds()) * 2):
        raise NotPermitted(OTHER_ATTEMPT)
    return begun


def _email(services: Services, claims: dict[str, Any]) -> str:
    """The address that the provider has verified. Raises NotPermitted."""
    email = claims.get("email")
    if not is_text(subject := claims.get("sub")) or not 1 <= len(subject) <= SUBJECT_CHARACTERS_MAX:
        raise NotPermitted(UNVERIFIED)
    if claims.get("email_verified") is not True or not is_text(email):
        raise NotPermitted(UNVERIFIED)
    try:
        check_address(email)
    except DoesNotFit:
        raise NotPermitted(UNVERIFIED) from None
    domains = [one.lower() for one in services.settings.oidc_domains.split(",") if one]
    if domains and email.rpartition("@")[2].lower() not in domains:
        raise NotPermitted(FOREIGN)
    return email


async def _admitted(
    services: Services, connection: Connection, request: Request, email: str, claims: dict[str, Any]
) -> UUID | None:
    """Who comes in, with the roles of the provider's groups; None for who has none, who loses those of before."""
    found = [await provider_roles.placed(connection, role, place) for role, place in _roles(services, claims)]
    roles: list[RoleIn] = [one for one in found if one is not None]
    issuer, subject = services.settings.oidc_issuer, claims["sub"]
    known = await provider_identities.person_of(connection, issuer, subject)
    person = await accounts.by_email(connection, email) if known is None else await accounts.read(connection, known)
    if person is None:
        if not roles:
            return None
        person = await accounts.find_or_create(connection, email)
    if known is None:
        await provider_identities.link(connection, issuer, subject, person.id, services.clock())
    if not person.name and is_text(name := claims.get("name")):
        await accounts.rename(connection, person.id, name[:NAME_CHARACTERS_MAX])
    for change in await provider_roles.settle(connection, person, roles):
        await audit.note(
            connection,
            at=services.clock(),
            organization_id=change.organization_id,
            actor=f"person:{person.id}",
            action="role_by_provider",
            target="/sign-in" if change.project_id is None else f"/sign-in ({change.project_id})",
            address=address_of(request),
            before=change.before and {"role": change.before},
            after=change.after and {"role": change.after},
        )
    return person.id if await accounts.organizations_of(connection, person.id) else None


def _roles(services: Services, claims: dict[str, Any]) -> Iterator[tuple[Role, UUID]]:
    """The roles that the settings have for a person's groups, each with the id of where."""
    told = claims.get(services.settings.oidc_groups_claim)
    groups = [told] if isinstance(told, str) else told if isinstance(told, list) else []
    for line in filter(None, services.settings.oidc_roles.split(",")):
        group, _, what = line.rpartition("=")
        role, _, place = what.partition("@")
        if group in groups:
            yield cast(Role, role), UUID(place)
