"""Reads a time as clients write it.

RFC 3339 is what most send, and the decoders of JSON take it in passing. This is for the rest: ISO 8601 without seconds
(how Java prints a whole minute), in basic format, with `+00`, with nanoseconds, with a zone's name in brackets or `UTC`
behind it, midnight as 24:00, a leap second, or a date alone; and numbers, also as text, which count from 1970 in
seconds, or in milliseconds, microseconds or nanoseconds when they are too large for that. A time without an offset is
UTC.
"""

import re
from datetime import UTC, datetime, timedelta

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MILLISECONDS_FROM = 10**11
"""A number this large counts milliseconds (from March 1973 on); as seconds it would be the year 5138."""
MICROSECONDS_FROM = 10**14
NANOSECONDS_FROM = 10**17
NUMBER_MAX = 10**20
_SECOND = timedelta(seconds=1)
_NUMBER = re.compile(r"[0-9]{9,19}(?:\.[0-9]*)?", re.ASCII)
"""Of fewer digits it may be a date."""
_ZONE = re.compile(r"(?P<offset>Z|[+-][0-9]{2}:?[0-9]{2})?\s*(?:UTC|GMT)$")
_MIDNIGHT = re.compile(r"(?P<before>.*[T ])24(?P<after>:?00(?::?00(?:[.,]0+)?)?\s*(?:Z|[+-].*)?)$")
_LEAP = re.compile(r"(?P<before>.*[T ][0-9]{2}:?[0-9]{2}:?)60(?P<after>(?:[.,][0-9]+)?\s*(?:Z|[+-].*)?)$")


def aware(moment: datetime) -> datetime:
    """The time, which is UTC where it names no offset."""
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment


def of_text(text: str) -> datetime:
    """The time that a text says. Raises ValueError."""
    text, bracket, _ = text.strip().partition("[")
    if _NUMBER.fullmatch(text):
        return of_number(float(text) if "." in text else int(text))
    if len(text) < len("20261127") or (bracket and ":" not in text):
        raise ValueError(text)
    text = _ZONE.sub(lambda zone: zone["offset"] or "Z", text.upper().replace("\N{MINUS SIGN}", "-"))
    if midnight := _MIDNIGHT.match(text):
        return _later(aware(datetime.fromisoformat(f"{midnight['before']}00{midnight['after']}")), timedelta(days=1))
    if leap := _LEAP.match(text):
        moment = aware(datetime.fromisoformat(f"{leap['before']}59{leap['after']}"))
        at = _later(moment.replace(tzinfo=UTC), -(moment.utcoffset() or timedelta()))
        if (at.hour, at.minute) != (23, 59):
            raise ValueError(text)
        return _later(moment, _SECOND)
    return aware(datetime.fromisoformat(text))


def of_number(number: float) -> datetime:
    """The time that many seconds, or smaller parts of one, after 1970. Raises ValueError."""
    size = abs(number)
    if not size < NUMBER_MAX:
        raise ValueError(number)
    if size < MILLISECONDS_FROM:
        return _later(EPOCH, number * _SECOND)
    if size < MICROSECONDS_FROM:
        return _later(EPOCH, timedelta(milliseconds=number))
    return _later(EPOCH, timedelta(microseconds=number if size < NANOSECONDS_FROM else number // 1000))


def _later(moment: datetime, by: timedelta) -> datetime:
    """Raises ValueError for a time that there is none of."""
    try:
        return moment + by
    except OverflowError:
        raise ValueError(moment) from None
