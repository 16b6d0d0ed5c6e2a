"""A signed-in person calls, by the session whose id is in a cookie.

The session, the person and its roles are looked up at every call, so whoever is signed out, or loses a role, is refused
at once. What a page tells of who is signed in is beside the principal: `signed_in(request)`.
"""

from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response

from gateway.api import call_pace, session_cookie
from gateway.api.principals import CallerKind, Grant, Principal
from gateway.refusals import Unauthenticated
from gateway.services import Services
from gateway.stores.people import sessions
from gateway.stores.people.sessions import LiveSession
from schemas import keys

UNAUTHENTICATED = "Sign in first"
CALLS_WINDOW_S = 5


class SignedIn(Struct, frozen=True):
    """Who is signed in, as pages need it."""

    session: LiveSession
    form_token: str
    """What forms of this session bring along."""


async def look(services: Services, request: Request) -> SignedIn | None:
    """Who is signed in; None when nobody is. A session that must get another id has got it then."""
    secret = session_cookie.read(services, request)
    session = await sessions.living(services.postgres, secret, services.clock()) if secret else None
    if session is None:
        return None
    if session.renew and (fresh := await sessions.renewed(services.postgres, session.id, services.clock())):
        secret = fresh
        give(request, secret)
    return SignedIn(session, session_cookie.form_token(secret))


def give(request: Request, secret: str) -> None:
    """Have the response to this request tell the browser of a session's id; of none, to forget the one it has."""
    request.state.session_given = secret


def keep(services: Services, request: Request, response: Response) -> None:
    """Tell the browser what was given meanwhile, with the response to a request."""
    secret, request.state.session_given = getattr(request.state, "session_given", None), None
    if secret:
        session_cookie.give(services, response, secret)
    elif secret is not None:
        session_cookie.take(services, response)


async def authenticate(services: Services, request: Request) -> Principal:
    """The person behind a request. Raises Unauthenticated, or TooMany when it calls too often."""
    found = await look(services, request)
    if found is None:
        raise Unauthenticated(UNAUTHENTICATED)
    request.state.signed_in = found
    session = found.session
    await call_pace.take_turn(
        services,
        keys.of_caller(services.shards, "person", str(session.person_id)),
        calls_max=services.settings.account_calls_max,
        window_s=CALLS_WINDOW_S,
    )
    grants = tuple(Grant(*grant) for grant in session.grants)
    return Principal(f"person:{session.person_id}", str(session.id), session.organization_id, grants)


def signed_in(request: Request) -> SignedIn:
    """Who is behind a request that `PERSON` has proved."""
    found: SignedIn = request.state.signed_in
    return found


PERSON = CallerKind(
    principal=Principal,
    prove=authenticate,
    schemes={
        "session": {
            "type": "apiKey",
            "in": "cookie",
            "name": "fleetgate",
            "description": "A signed-in person's session.",
        }
    },
    limited=True,
    exact=False,
)
