"""Keeps claims from being guessed: wrong ones count, for the organization and for the address, and both must wait.

The wait grows with persistence: after a few wrong claims to the end of the minute, after some more to the end of the
hour, then of the day. Right claims are free, so a lorry full of devices is claimed in one go.

    async with guarded(services, request, organization.id) as guesses:
        …                       # a NotFound from here counts as one
        guesses.wrong += 3      # of claims that come many in a call
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

from starlette.requests import Request

from gateway.api import fixed_window
from gateway.api.addresses import address_of
from gateway.refusals import NotFound
from gateway.services import Services
from schemas import keys

WINDOWS = ((60, 1, "a minute"), (3600, 4, "an hour"), (86_400, 16, "a day"))
"""Seconds, how many times the limit of a minute, and the words for it."""


class Guesses:
    """The wrong claims of one call: they count as no more than a minute's, so one wrong list is forgiven soon."""

    __slots__ = ("wrong",)

    def __init__(self) -> None:
        self.wrong = 0


@asynccontextmanager
async def guarded(services: Services, request: Request, organization_id: UUID) -> AsyncIterator[Guesses]:
    """Let a call claim, and count what was wrong. Raises TooMany when too much was."""
    limit = services.settings.wrong_claims_max
    whose = [f"{who}:{window_s}" for who in (organization_id, address_of(request)) for window_s, _, _ in WINDOWS]
    counters = [keys.of_caller(services.shards, "claims", who) for who in whose]
    windows = [*WINDOWS, *WINDOWS]
    for key, (_, times, window) in zip(counters, windows, strict=True):
        await fixed_window.look(services, key, calls_max=limit * times, window=window)
    guesses = Guesses()
    try:
        yield guesses
    except NotFound:
        guesses.wrong += 1
        raise
    finally:
        if guesses.wrong:
            await asyncio.gather(
                *(
                    fixed_window.add(services, key, window_s=window_s, calls=min(guesses.wrong, limit))
                    for key, (window_s, _, _) in zip(counters, windows, strict=True)
                )
            )
