"""Signing in by a passkey, and which ones a person has.

A passkey is bound to the public URL: its host is the relying party, and only pages of its origin may use one. What a
browser answers is checked by the library `webauthn`. Whatever is wrong with it, the answer is the same, and counts as a
wrong password does: for the passkey that it names, whether there is one or not, and for the address it comes from.
"""

import ipaddress
from collections.abc import Callable
from typing import Any, TypeVar
from urllib.parse import urlsplit
from uuid import UUID

import msgspec
import webauthn
from starlette.requests import Request
from webauthn.helpers import parse_authentication_credential_json, parse_registration_credential_json
from webauthn.helpers.exceptions import WebAuthnException
from webauthn.helpers.structs import (
    AuthenticatorSelectionCriteria,
    PublicKeyCredentialDescriptor,
    ResidentKeyRequirement,
    UserVerificationRequirement,
)

from gateway.api.callers.people import SignedIn
from gateway.people import account, by_password, challenges, entering
from gateway.people.challenges import LIFE_S, Challenge
from gateway.refusals import Conflict, DoesNotFit
from gateway.services import Services
from gateway.stores.people import passkeys
from gateway.stores.people.passkeys import Passkey

WRONG = "This passkey is not known here, or its answer came too late: try again, or sign in another way"
NOT_ADDED = "The passkey could not be added: try again"
NOT_HERE = "Passkeys need a public URL with a name, and with TLS"
RELYING_PARTY = "fleetgate"
_SIGN_IN = "sign-in"
_VERIFICATION = UserVerificationRequirement.PREFERRED
_Given = TypeVar("_Given")


def relying_party(services: Services) -> str | None:
    """The host that passkeys are bound to; None where browsers have none: on bare addresses, and without TLS."""
    parts = urlsplit(services.url)
    host = parts.hostname or ""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        local = host == "localhost" or host.endswith(".localhost")
        return host if parts.scheme == "https" or local else None
    return None


async def listed(services: Services, here: SignedIn) -> list[Passkey]:
    """The person's passkeys."""
    return await passkeys.listed(services.postgres, here.session.person_id)


async def ask_to_add(services: Services, request: Request, here: SignedIn, current: str) -> tuple[Challenge, str]:
    """What a browser needs to make a passkey.

    Where there is a password it must be known, as to change it: a passkey lets in for good, too. Raises Conflict,
    DoesNotFit, TooMany.
    """
    host = _host(services)
    person = await account.read(services, here)
    known = await listed(services, here)
    if len(known) >= passkeys.PASSKEYS_MAX:
        raise Conflict(passkeys.TOO_MANY)
    if person.has_password:
        await by_password.check(services, request, person.email, current)
    challenge = await challenges.issue(services, request, _adding(here))
    options = webauthn.generate_registration_options(
        rp_id=host,
        rp_name=RELYING_PARTY,
        user_id=person.id.bytes,
        user_name=person.email,
        user_display_name=person.name or person.email,
        challenge=challenge.bytes,
        timeout=LIFE_S * 1000,
        authenticator_selection=AuthenticatorSelectionCriteria(
            resident_key=ResidentKeyRequirement.REQUIRED, user_verification=_VERIFICATION
        ),
        exclude_credentials=[PublicKeyCredentialDescriptor(id=one.credential_id) for one in known],
    )
    return challenge, webauthn.options_to_json(options)


async def add(services: Services, request: Request, here: SignedIn, name: str, answer: str) -> None:
    """Keep the passkey that a browser made. Raises Conflict, DoesNotFit."""
    host = _host(services)
    challenge = await challenges.take(services, request, _adding(here))
    if challenge is None:
        raise DoesNotFit(NOT_ADDED)
    given = _parsed(parse_registration_credential_json, answer, NOT_ADDED)
    made = _checked(
        NOT_ADDED,
        lambda: webauthn.verify_registration_response(
            credential=given,
            expected_challenge=challenge,
            expected_rp_id=host,
            expected_origin=_origin(services),
        ),
    )
    async with services.postgres.acquire() as connection, connection.transaction():
        await passkeys.add(
            connection,
            here.session.person_id,
            name,
            made.credential_id,
            made.credential_public_key,
            made.sign_count,
            services.clock(),
        )


async def remove(services: Services, here: SignedIn, passkey_id: UUID) -> None:
    """Let one be good no more. Raises NotFound."""
    await passkeys.remove(services.postgres, here.session.person_id, passkey_id)


async def ask_to_sign_in(services: Services, request: Request) -> tuple[Challenge, str]:
    """What a browser needs to use a passkey; whose, it finds out by itself. Raises Conflict, TooMany."""
    host = _host(services)
    challenge = await challenges.issue(services, request, _SIGN_IN)
    options = webauthn.generate_authentication_options(
        rp_id=host, challenge=challenge.bytes, timeout=LIFE_S * 1000, user_verification=_VERIFICATION
    )
    return challenge, webauthn.options_to_json(options)


async def sign_in(services: Services, request: Request, answer: str) -> None:
    """Sign in whose passkey answered. Raises Conflict, DoesNotFit when it is not right, TooMany."""
    host = _host(services)
    given = _parsed(parse_authentication_credential_json, answer, WRONG)
    guesses = by_password.guesses(services, request, given.id)
    await guesses.begin()
    challenge = await challenges.take(services, request, _SIGN_IN)
    kept = await passkeys.of_credential(services.postgres, given.raw_id)
    if challenge is None or kept is None or given.response.user_handle not in (None, kept.person_id.bytes):
        raise DoesNotFit(WRONG)
    proved = _checked(
        WRONG,
        lambda: webauthn.verify_authentication_response(
            credential=given,
            expected_challenge=challenge,
            expected_rp_id=host,
            expected_origin=_origin(services),
            credential_public_key=kept.public_key,
            credential_current_sign_count=kept.sign_count,
        ),
    )
    async with services.postgres.acquire() as connection, connection.transaction():
        if not await passkeys.use(connection, kept.id, proved.new_sign_count, services.clock()):
            raise DoesNotFit(WRONG)
        await entering.begin(services, connection, request, kept.person_id, "sign_in_by_passkey")
    await guesses.right()


def _host(services: Services) -> str:
    host = relying_party(services)
    if host is None:
        raise Conflict(NOT_HERE)
    return host


def _origin(services: Services) -> str:
    """As browsers say it: without the port that is usual."""
    parts = urlsplit(services.url)
    usual = {"https": 443, "http": 80}[parts.scheme]
    port = "" if parts.port in (None, usual) else f":{parts.port}"
    return f"{parts.scheme}://{parts.hostname}{port}"


def _adding(here: SignedIn) -> str:
    return f"add {here.session.id}"


def _parsed(parse: Callable[[dict[str, Any]], _Given], answer: str, refusal: str) -> _Given:
    """What a browser answered. Raises DoesNotFit."""
    try:
        return parse(msgspec.json.decode(answer, type=dict))
    except (WebAuthnException, msgspec.MsgspecError, ValueError, RecursionError):
        raise DoesNotFit(refusal) from None


def _checked(refusal: str, check: Callable[[], _Given]) -> _Given:
    """What the library makes of it. Raises DoesNotFit."""
    try:
        return check()
    except (WebAuthnException, ValueError):
        raise DoesNotFit(refusal) from None
