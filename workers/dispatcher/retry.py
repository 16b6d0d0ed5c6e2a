"""When a failed delivery is tried again: full-jitter exponential back-off, and what the receiver asked for.

Full jitter (a random part of a doubling delay) spreads the retries of many events that failed together evenly.
"""

from collections.abc import Callable
from email.utils import parsedate_to_datetime

FIRST_S = 2.0
CAP_S = 600.0
"""The longest time between two tries, also when the receiver asked for more by `Retry-After`."""

Random = Callable[[], float]
"""A random number from 0 up to 1."""


def ceiling_s(failures: int) -> float:
    """The longest delay after so many failures (1 or more)."""
    return float(min(CAP_S, FIRST_S * 2 ** min(failures - 1, 20)))


def delay_s(failures: int, retry_after_s: float | None, random: Random, cap_s: float = CAP_S) -> float:
    """Seconds until the next try."""
    return max(random() * min(cap_s, ceiling_s(failures)), retry_after_s or 0.0)


def parse_retry_after(value: str | None, now_s: float) -> float | None:
    """Seconds that a `Retry-After` header asks for, at most the cap; None when there is none, or it says nothing."""
    if value is None:
        return None
    text = value.strip()
    if text.isascii() and text.isdigit():
        return min(CAP_S, float(text[:9]))
    try:
        moment = parsedate_to_datetime(text)
        return min(CAP_S, max(0.0, moment.timestamp() - now_s))
    except (ValueError, OverflowError, TypeError):
        return None
