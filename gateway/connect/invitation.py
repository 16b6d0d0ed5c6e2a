"""Where links lead that people come by: invitations to a membership, and ways in for a person.

    /invitations/<token>    a page with a button, since programs that look at links in messages open them too
    /sign-in/<token>        likewise, or at once where the link was printed for whoever started the gateway

Both work once. An invitation makes an account for its address where there is none; who has one signs in first.
"""

import logging
from collections.abc import Awaitable, Callable
from html import escape
from uuid import UUID

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from gateway.api import origins, session_cookie
from gateway.api.addresses import address_of
from gateway.api.callers import people
from gateway.api.dialects import PLAIN
from gateway.connect.pages import HEADERS, page_of
from gateway.permissions import ROLES
from gateway.refusals import Refusal
from gateway.services import Services
from gateway.stores.accounts import members
from gateway.stores.people import accounts, links, sessions
from schemas import logs
from schemas.postgres import Connection, PostgresAway

log = logging.getLogger(__name__)

INVITATIONS, WAYS_IN = "/invitations", "/sign-in"
ENDED = "This link has ended"


def url(services: Services, token: str) -> str:
    """The address of an invitation."""
    return f"{services.url}{INVITATIONS}/{token}"


async def invitation(services: Services, connection: Connection, request: Request) -> Response:
    """The page of an invitation."""
    found = await links.invitation(connection, request.path_params["token"], services.clock())
    if found is None:
        return page_of(ENDED, "It works once, within seven days. Ask whoever sent it for a new one.", 404)
    where = f" in {escape(found.project)}" if found.project else ""
    return page_of(
        f"You are invited to {escape(found.organization)}",
        f"<p>As {escape(ROLES[found.role].title.lower())}{where}, by the address <b>{escape(found.email)}</b>.</p>"
        "<form method=post><button>Accept</button></form>",
        200,
    )


async def accept(services: Services, connection: Connection, request: Request) -> Response:
    """Accept an invitation, and sign in who has no account yet."""
    token, now = request.path_params["token"], services.clock()
    found = await links.invitation(connection, token, now)
    if found is None:
        return await invitation(services, connection, request)
    here = await people.look(services, request)
    if found.person_id is not None and (here is None or here.session.person_id != found.person_id):
        return page_of(
            "Sign in first", f"<p>{escape(found.email)} has an account: sign in, and open the link again.</p>", 403
        )
    person = await accounts.find_or_create(connection, found.email)
    if not await links.use(connection, token, now):
        return await invitation(services, connection, request)
    await members.accept(connection, found.membership_id, person.id)
    return await _signed_in(services, connection, request, person.id)


async def way_in(services: Services, connection: Connection, request: Request) -> Response:
    """The page of a link that signs a person in; or signs in, where opening it is enough."""
    found = await links.opened(connection, request.path_params["token"], services.clock())
    if found is None:
        here = await people.look(services, request)
        if here is not None:
            return RedirectResponse(session_cookie.path_below(services, "/"), 303, HEADERS)
        return page_of(ENDED, "It works once, within seven days. Ask whoever sent it for a new one.", 404)
    if found.at_once:
        return await sign_in(services, connection, request)
    return page_of("Sign in", f"<form method=post><button>Sign in as {escape(found.email)}</button></form>", 200)


async def sign_in(services: Services, connection: Connection, request: Request) -> Response:
    """Sign a person in by a link."""
    token, now = request.path_params["token"], services.clock()
    found = await links.opened(connection, token, now)
    if found is None or not await links.use(connection, token, now):
        return page_of(ENDED, "It works once, within seven days. Ask whoever sent it for a new one.", 404)
    return await _signed_in(services, connection, request, found.person_id)


async def sign_out(services: Services, connection: Connection, request: Request) -> Response:
    """End the session that a request shows."""
    here = await people.look(services, request)
    if here is not None:
        await sessions.end(connection, here.session.person_id, here.session.id)
    response = page_of("You are signed out", "", 200)
    session_cookie.take(services, response)
    return response


async def _signed_in(services: Services, connection: Connection, request: Request, person_id: UUID) -> Response:
    """A new session, in place of the one that the browser had, if any; and on to the first page."""
    here = await people.look(services, request)
    if here is not None:
        await sessions.end(connection, here.session.person_id, here.session.id)
    secret = await sessions.begin(
        connection, person_id, services.clock(), address_of(request), request.headers.get("user-agent", "")
    )
    response = RedirectResponse(session_cookie.path_below(services, "/"), 303, HEADERS)
    session_cookie.give(services, response, secret)
    return response


def _route(path: str, method: str, page: Callable[[Services, Connection, Request], Awaitable[Response]]) -> Route:
    """A page that is made in one transaction; a form must come from a page of ours."""

    async def serve(request: Request) -> Response:
        services: Services = request.state.services
        try:
            if method == "POST":
                origins.check(services, request)
            async with services.postgres.acquire() as connection, connection.transaction():
                return await page(services, connection, request)
        except Refusal as refusal:
            return page_of("That did not work", escape(refusal.text), PLAIN.status(refusal))
        except PostgresAway as error:
            logs.event(log, logging.WARNING, "postgres_unavailable", path=path, cause=str(error))
            return page_of("That did not work", "The database is away. Try again in a minute.", 503)

    return Route(path, serve, methods=[method])


ROUTES = (
    _route(f"{INVITATIONS}/{{token}}", "GET", invitation),
    _route(f"{INVITATIONS}/{{token}}", "POST", accept),
    _route(f"{WAYS_IN}/{{token}}", "GET", way_in),
    _route(f"{WAYS_IN}/{{token}}", "POST", sign_in),
    _route("/sign-out", "POST", sign_out),
)
