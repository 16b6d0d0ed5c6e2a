"""Where links lead by which people come: invitations to a membership, and ways in for a person. Both work once."""

from uuid import UUID

from starlette.requests import Request

from gateway.api.callers import people
from gateway.people import entering
from gateway.refusals import Conflict, NotFound
from gateway.services import Services
from gateway.stores.accounts import members
from gateway.stores.people import accounts, links
from gateway.stores.people.links import Invitation, WayIn

INVITATIONS, WAYS_IN = "/invitations", "/sign-in"
ENDED = "This link has ended: it works once, within seven days. Ask whoever sent it for a new one"
HAS_ACCOUNT = "There is an account for {} already: sign in first, and open the link again"


def url(services: Services, token: str) -> str:
    """The address of an invitation."""
    return f"{services.url}{INVITATIONS}/{token}"


async def invitation(services: Services, token: str) -> Invitation:
    """What a link invites to. Raises NotFound when it has ended."""
    found = await links.invitation(services.postgres, token, services.clock())
    if found is None:
        raise NotFound(ENDED)
    return found


async def accept(services: Services, request: Request, token: str, name: str, password: str) -> None:
    """Accept an invitation: as who is signed in and has its address, or with a new account, which is signed in then.

    Raises NotFound when it has ended, Conflict when the address has an account and nobody is signed in by it,
    DoesNotFit for a password that is too weak.
    """
    found = await invitation(services, token)
    here = await people.look(services, request)
    mine = here is not None and here.session.person_id == found.person_id
    if found.person_id is not None and not mine:
        raise Conflict(HAS_ACCOUNT.format(found.email))
    digest = "" if mine else await services.passwords.digest(password, [found.email, name, found.organization])
    async with services.postgres.acquire() as connection, connection.transaction():
        if not await links.use(connection, token, services.clock()):
            raise NotFound(ENDED)
        person_id = found.person_id
        if person_id is None:
            person_id = await accounts.create(connection, found.email, name, digest)
        await members.accept(connection, found.membership_id, person_id)
        if not mine:
            await entering.begin(services, connection, request, person_id, "accept_invitation")


async def way_in(services: Services, token: str) -> WayIn:
    """Whom a link signs in. Raises NotFound when it has ended."""
    found = await links.opened(services.postgres, token, services.clock())
    if found is None:
        raise NotFound(ENDED)
    return found


async def sign_in(services: Services, request: Request, token: str) -> UUID:
    """Sign a person in by a link; returns who it is. Raises NotFound when it has ended."""
    found = await way_in(services, token)
    async with services.postgres.acquire() as connection, connection.transaction():
        if not await links.use(connection, token, services.clock()):
            raise NotFound(ENDED)
        await entering.begin(services, connection, request, found.person_id, "sign_in_by_link")
    return found.person_id
