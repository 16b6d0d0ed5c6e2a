"""Why a call is refused, by meaning: whoever refuses says what is wrong, and no status of any protocol.

`gateway.api.dialects` makes of it the status, JSON and headers that the clients of each API expect.
"""

import random

RETRY_AFTER_S = (1, 5)
"""Least and most seconds a caller is asked to wait when the gateway cannot take its call; jitter spreads a fleet."""
UNKNOWN_MASTER_KEY = "This edge was not given the newest master key yet, try again"


class Refusal(Exception):
    """A call is refused, with a sentence for a person that says what to change. Raised as one of the kinds below."""

    retry_after_s: int | None = None
    """When trying again makes sense; None when that is not known."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text


class Malformed(Refusal):
    """It cannot be read: no JSON, cut off, an unknown member."""


class Unauthenticated(Refusal):
    """The caller has no valid credential, or one that was revoked."""

    def __init__(self, text: str = "Unauthorized") -> None:
        super().__init__(text)


class NotPermitted(Refusal):
    """The caller may know of it, but not do it."""


class NotFound(Refusal):
    """It does not exist, or the caller may not see it."""


class Gone(Refusal):
    """It was there for the caller, and is not any more, for good."""


class Conflict(Refusal):
    """It contradicts what exists already, or the state that this is in."""


class TooLarge(Refusal):
    """A body is longer than its limit."""


class UnknownCoding(Refusal):
    """The body's Content-Encoding is not supported."""


class DoesNotFit(Refusal):
    """A value can be read but not accepted: out of range, taken by another, contradicting a second."""


class TooMany(Refusal):
    """A limit by time or number is reached."""

    def __init__(self, text: str, *, retry_after_s: int) -> None:
        super().__init__(text)
        self.retry_after_s = retry_after_s


class Unavailable(Refusal):
    """Not possible at the moment, through no fault of the caller's."""

    def __init__(self, text: str, *, retry_after_s: int | None = None) -> None:
        super().__init__(text)
        self.retry_after_s = retry_after_s


class TimedOut(Refusal):
    """What was waited for did not happen in time."""


def retry_after_s() -> int:
    """How long to ask a caller to wait, with jitter."""
    return random.randint(*RETRY_AFTER_S)  # noqa: S311


def away(what: str) -> Unavailable:
    """A store is not there for the moment."""
    return Unavailable(f"{what} is not available, try again", retry_after_s=retry_after_s())


def full(what: str) -> Unavailable:
    """A store takes no more for the moment; what lies in it can be had."""
    return Unavailable(f"{what} is full, try again later", retry_after_s=retry_after_s())
