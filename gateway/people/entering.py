"""A person comes in: a new session in place of the one that the browser had, whoever's that was.

So an id that somebody planted in the browser is never the one that is signed in.
"""

from uuid import UUID

from starlette.requests import Request

from gateway.api import session_cookie
from gateway.api.addresses import address_of
from gateway.api.callers import people
from gateway.services import Services
from gateway.stores.people import sessions
from schemas.postgres import Connection


async def begin(services: Services, connection: Connection, request: Request, person_id: UUID) -> None:
    """Begin a session; the response to this request tells the browser of it."""
    await leave(services, connection, request)
    secret = await sessions.begin(
        connection, person_id, services.clock(), address_of(request), request.headers.get("user-agent", "")
    )
    people.give(request, secret)


async def leave(services: Services, connection: Connection, request: Request) -> None:
    """End the session that a request shows, if it does; the response tells the browser to forget it."""
    secret = session_cookie.read(services, request)
    if secret:
        await sessions.end_shown(connection, secret)
    people.give(request, "")
