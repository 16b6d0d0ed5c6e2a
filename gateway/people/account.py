"""What a person does with its own account: its name and password, its sessions, the organization that it looks at."""

from uuid import UUID

from starlette.requests import Request

from gateway.api.callers.people import SignedIn
from gateway.people import by_password, entering
from gateway.refusals import NotFound
from gateway.services import Services
from gateway.stores.people import accounts, sessions
from gateway.stores.people.accounts import Person
from gateway.stores.people.sessions import Session
from gateway.stores.tenants import organizations


async def read(services: Services, here: SignedIn) -> Person:
    """Who it is."""
    return await accounts.read(services.postgres, here.session.person_id)


async def rename(services: Services, here: SignedIn, name: str) -> None:
    """Another name."""
    await accounts.rename(services.postgres, here.session.person_id, name)


async def change_password(services: Services, request: Request, here: SignedIn, current: str, password: str) -> None:
    """A new password, which ends all other sessions, and gives this one a new id.

    Where there is a password it must be known, also to whoever sits before somebody's open browser. Raises DoesNotFit,
    TooMany.
    """
    person = await read(services, here)
    if person.has_password:
        await by_password.check(services, request, person.email, current)
    digest = await services.passwords.digest(password, [person.email, person.name])
    async with services.postgres.acquire() as connection, connection.transaction():
        await accounts.set_password(connection, person.id, digest)
        await sessions.end_all(connection, person.id)
        await entering.begin(
            services, connection, request, person.id, "sign_in_anew", vouched_at=here.session.vouched_at
        )


async def list_sessions(services: Services, here: SignedIn) -> list[Session]:
    """The person's sessions, the one that was seen last first."""
    return await sessions.listed(services.postgres, here.session.person_id, services.clock())


async def end_session(services: Services, here: SignedIn, session_id: UUID) -> None:
    """End one. Raises NotFound."""
    await sessions.end(services.postgres, here.session.person_id, session_id)


async def end_other_sessions(services: Services, here: SignedIn) -> int:
    """End all but this one; returns how many."""
    return await sessions.end_all(services.postgres, here.session.person_id, but=here.session.id)


async def look_at(services: Services, here: SignedIn, organization_id: UUID) -> None:
    """Look at another organization from now on. Raises NotFound for one in which the person has no role."""
    if organization_id not in {where for where, _, _ in here.session.grants}:
        raise NotFound(organizations.UNKNOWN)
    await sessions.look_at(services.postgres, here.session.id, organization_id)
