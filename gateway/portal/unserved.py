"""What a person sees where there is no page, and where a bug of ours ended one. Programs are told as their API does."""

import contextlib

from starlette.requests import Request
from starlette.responses import Response

from gateway.api.callers.people import PERSON
from gateway.portal.page import problem
from gateway.refusals import Refusal
from schemas.postgres import PostgresAway
from schemas.redis import RedisAway

_OF_PROGRAMS = ("/v1/", "/v2/", "/core/", "/emulator/", "/oauth2/", "/.well-known/", "/metrics/", "/livez/", "/readyz/")
MISSING = "There is no page at this address"
FAILED = "Something went wrong on our side, and was noted; nothing was kept of what this should have done"


def is_for_a_person(request: Request) -> bool:
    """Whether a browser asks, outside the APIs."""
    path = f"{request.url.path}/"
    return "text/html" in request.headers.get("accept", "") and not path.startswith(_OF_PROGRAMS)


async def missing(request: Request, status: int) -> Response:
    """The page for an address that is not there (404), or not with this method (405)."""
    with contextlib.suppress(Refusal, PostgresAway, RedisAway):
        request.state.principal = await PERSON.prove(request.state.services, request)
    return await problem(request, status, MISSING)


async def failed(request: Request) -> Response:
    """The page for a call that a bug of ours ended."""
    return await problem(request, 500, FAILED)
