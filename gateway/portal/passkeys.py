"""Passkeys in the portal: adding and removing them in My account, and signing in by one.

Each takes two calls: a challenge as JSON, for the page's script, and then the form with what the browser made of it.
"""

from typing import Annotated
from uuid import UUID

from msgspec import Meta, Struct
from starlette.requests import Request
from starlette.responses import Response

from gateway.api.callers.people import signed_in
from gateway.people import passkeys, returning
from gateway.people.challenges import Challenge
from gateway.portal.account import PATH, show_account
from gateway.portal.page import SIGN_IN, page
from gateway.portal.rendering import HEADERS, redirect
from gateway.portal.sign_in import HOME, Next, show_sign_in
from gateway.services import Services

Name = Annotated[str, Meta(min_length=1, max_length=100)]


class Wanted(Struct):
    """A passkey to be added; the current password where there is one."""

    name: Name
    current_password: str = ""


class Made(Struct):
    """A passkey that the browser made."""

    name: Name
    credential: str


class Answered(Struct):
    """What a passkey answered."""

    credential: str
    next: str = HOME


@page("POST", PATH + "/passkeys/challenge", shown_by=show_account, audited=False)
async def ask_for_passkey(services: Services, request: Request, body: Wanted) -> Response:
    """What a browser needs to make a passkey."""
    challenge, options = await passkeys.ask_to_add(services, request, signed_in(request), body.current_password)
    return _to_script(challenge, options)


@page("POST", PATH + "/passkeys", shown_by=show_account)
async def add_passkey(services: Services, request: Request, body: Made) -> Response:
    """Add a passkey."""
    await passkeys.add(services, request, signed_in(request), body.name, body.credential)
    return redirect(services, PATH, said="The passkey is added: you can sign in with it")


@page("POST", PATH + "/passkeys/{passkey_id}/remove")
async def remove_passkey(services: Services, request: Request, passkey_id: UUID) -> Response:
    """Remove a passkey."""
    await passkeys.remove(services, signed_in(request), passkey_id)
    return redirect(services, PATH, said="The passkey is removed: it signs in nobody any more")


@page("POST", SIGN_IN + "/passkey/challenge", caller=None, shown_by=show_sign_in)
async def ask_to_sign_in(services: Services, request: Request, body: Next) -> Response:
    """What a browser needs to use a passkey."""
    challenge, options = await passkeys.ask_to_sign_in(services, request)
    return _to_script(challenge, options)


@page("POST", SIGN_IN + "/passkey", caller=None, shown_by=show_sign_in)
async def sign_in_by_passkey(services: Services, request: Request, body: Answered) -> Response:
    """Sign in by a passkey."""
    await passkeys.sign_in(services, request, body.credential)
    return redirect(services, returning.page_of_ours(body.next))


def _to_script(challenge: Challenge, options: str) -> Response:
    response = Response(options, media_type="application/json", headers=HEADERS)
    challenge.give(response)
    return response


PAGES = (ask_for_passkey, add_passkey, remove_passkey, ask_to_sign_in, sign_in_by_passkey)
