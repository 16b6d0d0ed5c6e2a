"""Keeps claims from being guessed: wrong ones count, for the organization and for the address, and both must wait.

Right claims are free, so a lorry full of devices is claimed in one go (see `gateway.api.wrong_guesses`).

    async with guarded(services, request, organization.id) as claims:
        …                       # a NotFound from here counts as one
        claims.wrong += 3       # of claims that come many in a call
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

from starlette.requests import Request

from gateway.api.addresses import address_of
from gateway.api.wrong_guesses import Guesses
from gateway.refusals import NotFound
from gateway.services import Services


class Claims:
    """The claims of one call: how many were wrong."""

    __slots__ = ("wrong",)

    def __init__(self) -> None:
        self.wrong = 0


@asynccontextmanager
async def guarded(services: Services, request: Request, organization_id: UUID) -> AsyncIterator[Claims]:
    """Let a call claim, and count what was wrong. Raises TooMany when too much was."""
    limit = services.settings.wrong_claims_max
    guesses = Guesses(services, "claims", {str(organization_id): limit, address_of(request): limit})
    await guesses.check()
    claims = Claims()
    try:
        yield claims
    except NotFound:
        claims.wrong += 1
        raise
    finally:
        if claims.wrong:
            await guesses.wrong(claims.wrong)
