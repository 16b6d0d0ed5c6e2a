"""`Retry-After` in all the forms in which vendors send it: seconds, with a fraction, twice, a date of HTTP or ISO 8601,
or a number of seconds since 1970. A date is compared with the vendor's own `Date`, so its clock does not matter.
"""

import math
import re
from collections.abc import Sequence
from datetime import datetime
from email.utils import parsedate_to_datetime

from schemas import times

RETRY_AFTER_MAX_S = 86400.0
EPOCH_MIN = 1e9
"""A larger number is a moment, not a length of time; 1e12 and more are milliseconds."""
_NUMBER = re.compile(r"[+-]?[0-9]{1,400}(\.[0-9]{1,400})?s?")


def seconds(lines: Sequence[str], vendor_date: str | None, now: datetime) -> float | None:
    """How long to wait, a day at most; None when the lines say nothing. Of several the longest counts."""
    clock = _moment(vendor_date or "") or now
    waits = [wait for line in lines if (wait := _date(line, clock)) is not None]
    if not waits:
        waits = [wait for line in lines for text in line.split(",") if (wait := _wait(text, clock)) is not None]
    return min(max(waits, default=0.0), RETRY_AFTER_MAX_S) if waits else None


def _wait(text: str, clock: datetime) -> float | None:
    text = text.strip()
    if not (text.isascii() and _NUMBER.fullmatch(text)):
        return _date(text, clock)
    number = float(text.rstrip("s"))
    if not math.isfinite(number):
        return RETRY_AFTER_MAX_S
    if number >= EPOCH_MIN:
        number = number / (1000 if number >= EPOCH_MIN * 1000 else 1) - clock.timestamp()
    return max(number, 0.0)


def _date(text: str, clock: datetime) -> float | None:
    moment = _moment(text)
    return None if moment is None else max((moment - clock).total_seconds(), 0.0)


def _moment(text: str) -> datetime | None:
    text = text.strip()
    if text.isdigit():
        return None
    for parse in (datetime.fromisoformat, parsedate_to_datetime):
        try:
            moment = parse(text)
        except (ValueError, OverflowError):
            continue
        return times.aware(moment)
    return None
