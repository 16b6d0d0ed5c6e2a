"""Coming in and going out: by password, at the identity provider, or by a link that works once."""

from typing import Annotated
from uuid import UUID

from msgspec import Meta, Struct
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from gateway.api.callers import people
from gateway.people import account, by_password, by_provider, entering, links, passkeys, returning
from gateway.portal.forms import EMPTY, Form
from gateway.portal.page import SIGN_IN, page
from gateway.portal.rendering import HEADERS, View, redirect
from gateway.refusals import NotFound
from gateway.services import Services
from gateway.stores.accounts.members import ADDRESS_CHARACTERS

HOME = "/"


class Next(Struct):
    """Where to go then."""

    next: str = HOME


class Credentials(Struct):
    """Who one is, and what proves it."""

    email: Annotated[str, Meta(max_length=ADDRESS_CHARACTERS[1])]
    password: str
    next: str = HOME


class Choice(Struct):
    """Which organization to look at."""

    organization_id: UUID


@page("GET", SIGN_IN, caller=None)
async def show_sign_in(services: Services, request: Request, query: Next, form: Form) -> View | Response:
    """Ask who it is; whoever is signed in already is led on."""
    if not form.name and await people.look(services, request) is not None:
        return redirect(services, returning.page_of_ours(query.next))
    values = {
        "form": form,
        "next": returning.page_of_ours(query.next),
        "provider": services.settings.oidc_name if services.identity else "",
        "passkeys_work": passkeys.relying_party(services) is not None,
    }
    return View("sign_in.html", values)


@page("POST", SIGN_IN, caller=None, shown_by=show_sign_in)
async def sign_in(services: Services, request: Request, body: Credentials) -> Response:
    """Sign in by password."""
    await by_password.sign_in(services, request, body.email.strip(), body.password)
    return redirect(services, returning.page_of_ours(body.next))


@page("GET", "/openid-connect", caller=None)
async def to_provider(services: Services, query: Next) -> Response:
    """Sign in at the identity provider; where none is set, otherwise."""
    if not services.identity:
        return redirect(services, SIGN_IN, said=by_provider.NOT_OFFERED)
    address, kept = await by_provider.begin(services, query.next)
    response = RedirectResponse(address, 303, HEADERS)
    by_provider.keep(services, response, kept)
    return response


@page("GET", by_provider.CALLBACK, caller=None)
async def from_provider(services: Services, request: Request, query: by_provider.Returned) -> Response:
    """Where the identity provider leads back to."""
    if not services.identity:
        return redirect(services, SIGN_IN, said=by_provider.NOT_OFFERED)
    response = redirect(services, await by_provider.finish(services, request, query))
    by_provider.forget(services, response)
    return response


@page("GET", SIGN_IN + "/{link}", caller=None)
async def show_way_in(services: Services, request: Request, link: str) -> View | Response:
    """What a link that signs in leads to: a button, since programs that look at links in messages open them too."""
    try:
        found = await links.way_in(services, link)
    except NotFound:
        if await people.look(services, request) is None:
            raise
        return redirect(services, HOME)
    if found.at_once:
        await links.sign_in(services, request, link)
        return redirect(services, HOME)
    return View("way_in.html", {"email": found.email, "link": link, "form": EMPTY})


@page("POST", SIGN_IN + "/{link}", caller=None)
async def take_way_in(services: Services, request: Request, link: str) -> Response:
    """Sign in by a link."""
    await links.sign_in(services, request, link)
    return redirect(services, HOME)


@page("POST", "/sign-out", caller=None)
async def sign_out(services: Services, request: Request) -> Response:
    """End the session."""
    async with services.postgres.acquire() as connection:
        await entering.sign_out(services, connection, request)
    return redirect(services, SIGN_IN, said="You are signed out")


@page("POST", "/organization")
async def choose_organization(services: Services, request: Request, body: Choice) -> Response:
    """Look at another organization."""
    await account.look_at(services, people.signed_in(request), body.organization_id)
    return redirect(services, HOME)


PAGES = (
    show_sign_in,
    sign_in,
    to_provider,
    from_provider,
    show_way_in,
    take_way_in,
    sign_out,
    choose_organization,
)
