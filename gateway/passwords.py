"""Passwords of people: how good they must be, and how they are kept and checked.

Kept as argon2id. A check costs some hundredths of a second and 19 MiB, so no more than a few happen at once, in threads
of their own; with too many waiting the next ones are refused. One for whom there is no password costs the same as any
other, so that nobody learns by the time it takes who has an account here.
"""

import asyncio
from collections.abc import Callable, Iterable
from typing import TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from zxcvbn import zxcvbn

from gateway.refusals import DoesNotFit, Unavailable, retry_after_s

CHARACTERS_MIN, CHARACTERS_MAX = 12, 256
STRENGTH_MIN = 3
"""Of 4: more than some hundred million guesses, by words, names, dates, keyboards and passwords that are common."""
JUDGED_CHARACTERS = 72
"""Judging takes longer than linear; what follows can only make it better."""
AT_ONCE, WAITING_MAX = 2, 64
TIME_COST, MEMORY_KIB, PARALLELISM = 2, 19_456, 1
"""The first choice of the OWASP for servers that do other things too."""
_NOBODYS = "$argon2id$v=19$m=19456,t=2,p=1$u0498lmbM4mvlG1rbCBU7g$il6FIDt+i75KEkQ2ibL2STeujZw+t4E2D25L9S+pRz4"
"""Of a password that nobody knows, made with the parameters above."""
_OURS = ("fleetgate", "device", "gateway")

T = TypeVar("T")


class Passwords:
    """Keeps and checks passwords, a few at a time."""

    def __init__(self) -> None:
        self._hasher = PasswordHasher(TIME_COST, MEMORY_KIB, PARALLELISM)
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._waiting = 0

    def __repr__(self) -> str:
        return f"<Passwords waiting={self._waiting}>"

    async def digest(self, password: str, about: Iterable[str]) -> str:
        """What is kept of a new password. Raises DoesNotFit for one that would be guessed.

        `about` is what others know of the person.
        """
        if len(password) < CHARACTERS_MIN:
            raise DoesNotFit(f"Password must have at least {CHARACTERS_MIN} characters: several words will do")
        if len(password) > CHARACTERS_MAX:
            raise DoesNotFit(f"Password must have at most {CHARACTERS_MAX} characters")
        known = [*_OURS, *about]
        return await self._in_turn(lambda: self._digest(password, known))

    def _digest(self, password: str, known: list[str]) -> str:
        found = zxcvbn(password[:JUDGED_CHARACTERS], user_inputs=known)
        if found["score"] < STRENGTH_MIN:
            why = found["feedback"]["warning"] or "It is easy to guess."
            raise DoesNotFit(f"Password is too common: {why[:1].lower()}{why[1:-1]}. Several unrelated words will do")
        return self._hasher.hash(password)

    async def is_right(self, kept: str | None, password: str) -> bool:
        """Whether this is the password that is kept; where none is, it never is, at the same cost."""
        shown = password[:CHARACTERS_MAX]
        return await self._in_turn(lambda: self._verify(kept or _NOBODYS, shown)) and kept is not None

    def _verify(self, kept: str, password: str) -> bool:
        try:
            return self._hasher.verify(kept, password)
        except (VerificationError, InvalidHashError):
            return False

    async def _in_turn(self, work: Callable[[], T]) -> T:
        if self._waiting >= WAITING_MAX:
            raise Unavailable("Too many people sign in just now, try again", retry_after_s=retry_after_s())
        self._waiting += 1
        try:
            async with self._slots:
                return await asyncio.to_thread(work)
        finally:
            self._waiting -= 1
