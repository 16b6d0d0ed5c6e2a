"""Signing in by password.

Whether there is no such account, it has no password or this is a wrong one: the answer is the same, and so is the time
it takes. Wrong passwords count for the account, whether there is one or not, and for the address they come from.
"""

import hashlib

from starlette.requests import Request

from gateway.api.addresses import address_of
from gateway.api.wrong_guesses import Guesses
from gateway.people import entering
from gateway.refusals import DoesNotFit
from gateway.services import Services
from gateway.stores.people import accounts

WRONG = "Wrong email or password"
FROM_AN_ADDRESS = 5
"""How many times as many wrong passwords may come from one address as for one account: people share addresses."""


async def sign_in(services: Services, request: Request, email: str, password: str) -> None:
    """Sign a person in. Raises DoesNotFit when it is not right, TooMany when that was so too often."""
    counted = guesses(services, request, email)
    await counted.begin()
    found = await accounts.password_of(services.postgres, email)
    kept = None if found is None else found.password
    if not await services.passwords.is_right(kept, password) or found is None:
        raise DoesNotFit(WRONG)
    async with services.postgres.acquire() as connection, connection.transaction():
        await entering.begin(services, connection, request, found.id, "sign_in_by_password")
    await counted.right()


async def check(services: Services, request: Request, email: str, password: str) -> None:
    """Whether a person who is signed in knows the password, too; counted and refused as at signing in."""
    counted = guesses(services, request, email)
    await counted.begin()
    found = await accounts.password_of(services.postgres, email)
    if not await services.passwords.is_right(None if found is None else found.password, password):
        raise DoesNotFit("Current password is not right")
    await counted.right()


def guesses(services: Services, request: Request, whom: str) -> Guesses:
    """Wrong ones that are left: for whom somebody says to be, and for the address that this comes from."""
    limit = services.settings.wrong_passwords_max
    # What somebody typed is no part of a key: it may be long, or hold anything.
    account = hashlib.sha256(whom.lower().encode("utf-8", "replace")).hexdigest()[:32]
    return Guesses(services, "sign-ins", {account: limit, address_of(request): limit * FROM_AN_ADDRESS})
