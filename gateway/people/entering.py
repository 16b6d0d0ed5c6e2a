"""A person comes in: a new session in place of the one that the browser had, whoever's that was.

So an id that somebody planted in the browser is never the one that is signed in.
"""

from datetime import datetime
from uuid import UUID

from starlette.requests import Request

from gateway.api import session_cookie
from gateway.api.addresses import address_of
from gateway.api.callers import people
from gateway.services import Services
from gateway.stores import audit
from gateway.stores.people import accounts, sessions
from schemas.postgres import Connection


async def begin(
    services: Services,
    connection: Connection,
    request: Request,
    person_id: UUID,
    how: str,
    *,
    vouched_at: datetime | None = None,
) -> None:
    """Begin a session; the response to this request tells the browser of it.

    It is written into the audit logs of the person's organizations, as the action `how`. `vouched_at` is when the
    identity provider said who it is.
    """
    await leave(services, connection, request)
    secret = await sessions.begin(
        connection,
        person_id,
        services.clock(),
        address_of(request),
        request.headers.get("user-agent", ""),
        vouched_at=vouched_at,
    )
    people.give(request, secret)
    await _note(services, connection, request, person_id, how)


async def leave(services: Services, connection: Connection, request: Request) -> UUID | None:
    """End the session that a request shows, if it does, and return whose it was; the response tells the browser to
    forget it.
    """
    secret = session_cookie.read(services, request)
    people.give(request, "")
    return await sessions.end_shown(connection, secret) if secret else None


async def sign_out(services: Services, connection: Connection, request: Request) -> None:
    """Go out; the audit logs of the person's organizations tell it, as they tell its coming in."""
    person_id = await leave(services, connection, request)
    if person_id is not None:
        await _note(services, connection, request, person_id, "sign_out")


async def _note(services: Services, connection: Connection, request: Request, person_id: UUID, action: str) -> None:
    for organization_id in await accounts.organizations_of(connection, person_id):
        await audit.note(
            connection,
            at=services.clock(),
            organization_id=organization_id,
            actor=f"person:{person_id}",
            action=action,
            # Not the path, which may hold what a link is known by.
            target="/sign-in",
            address=address_of(request),
        )
