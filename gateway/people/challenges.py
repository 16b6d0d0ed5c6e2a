"""Challenges that passkeys sign: each is good once, for some minutes, in the browser that asked for it.

The browser has a secret in a cookie; Redis keeps the challenge under the digest of that secret, and gives it out once.
So an answer that somebody overheard, or made elsewhere and planted here, is worth nothing.
"""

import secrets

from starlette.requests import Request
from starlette.responses import Response

from gateway.api import fixed_window, session_cookie
from gateway.api.addresses import address_of
from gateway.people.by_password import FROM_AN_ADDRESS
from gateway.services import Services
from gateway.stores.people.sessions import digest_of
from schemas import keys

LIFE_S = 300
CHALLENGE_BYTES = 32
_ENDING = "-passkey"
_WINDOW_S, _WINDOW = 60, "a minute"


class Challenge:
    """One that was just made: what is to be signed, and what the browser keeps meanwhile."""

    def __init__(self, services: Services) -> None:
        self.bytes = secrets.token_bytes(CHALLENGE_BYTES)
        self.secret = secrets.token_urlsafe(32)
        self._services = services

    def give(self, response: Response) -> None:
        """Let the browser keep the secret."""
        session_cookie.give_beside(self._services, response, _ENDING, self.secret, LIFE_S)


async def issue(services: Services, request: Request, purpose: str) -> Challenge:
    """A new challenge, for one purpose. Raises TooMany when its address asks too often."""
    calls_max = services.settings.wrong_passwords_max * FROM_AN_ADDRESS
    asked = keys.of_caller(services.shards, "challenges", address_of(request))
    await fixed_window.count(services, asked, calls_max=calls_max, window_s=_WINDOW_S, window=_WINDOW)
    made = Challenge(services)
    await services.redis.set(_key(services, made.secret), purpose.encode() + b"\n" + made.bytes, ex=LIFE_S)
    return made


async def take(services: Services, request: Request, purpose: str) -> bytes | None:
    """The challenge of this browser, which has ended with that; None when there is none for this purpose."""
    secret = session_cookie.read_beside(services, request, _ENDING)
    kept = await services.redis.getdel(_key(services, secret)) if secret else None
    if kept is None:
        return None
    assert isinstance(kept, bytes)
    made_for, _, challenge = kept.partition(b"\n")
    return challenge if made_for == purpose.encode() else None


def _key(services: Services, secret: str) -> str:
    return keys.of_caller(services.shards, "challenge", digest_of(secret).hex())
