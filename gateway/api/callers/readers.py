"""Somebody reads the developer centre: a signed-in person, or where a setting makes it public, anybody."""

from starlette.requests import Request

from gateway.api import session_cookie
from gateway.api.callers import people
from gateway.api.principals import CallerKind, Principal
from gateway.refusals import Unauthenticated
from gateway.services import Services

NOBODY = Principal("nobody", "", None, ())


async def prove(services: Services, request: Request) -> Principal:
    """Who reads. Raises Unauthenticated for whoever is not signed in, unless anybody may read."""
    if not services.settings.docs_public:
        return await people.authenticate(services, request)
    if not session_cookie.read(services, request):
        return NOBODY
    try:
        return await people.authenticate(services, request)
    except Unauthenticated:
        return NOBODY


READER = CallerKind(principal=Principal, prove=prove, schemes={}, limited=True, exact=False)
