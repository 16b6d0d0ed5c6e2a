"""What a caller is told when a call is refused, and how trouble in the world becomes "try again later"."""

import random

RETRY_AFTER_S = (1, 5)
"""Least and most seconds a caller is asked to wait when the gateway cannot take its call; jitter spreads a fleet."""


class Refusal(Exception):
    """An answer other than success: an HTTP status and a sentence that says what to change.

    `retry_after_s` becomes the `Retry-After` header.
    """

    def __init__(self, status: int, text: str, *, retry_after_s: int | None = None) -> None:
        super().__init__(text)
        self.status = status
        self.text = text
        self.retry_after_s = retry_after_s


def retry_after_s() -> int:
    """How long to ask a caller to wait, with jitter."""
    return random.randint(*RETRY_AFTER_S)  # noqa: S311


def away(what: str) -> Refusal:
    """A store is not there for the moment."""
    return Refusal(503, f"{what} is not available, try again", retry_after_s=retry_after_s())
