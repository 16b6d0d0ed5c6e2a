"""Reads a time as clients write it.

RFC 3339 is what most send, and the decoders of JSON take it in passing. This is for the rest: ISO 8601 without seconds
(how Java prints a whole minute), in basic format, with `+00`, with nanoseconds, with a zone's name in brackets behind
it, or a date alone; and numbers, which count from 1970 in seconds, or in milliseconds when they are too large for that.
A time without an offset is UTC.
"""

from datetime import UTC, datetime, timedelta

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MILLISECONDS_FROM = 10**11
"""A number this large counts milliseconds (from March 1973 on); as seconds it would be the year 5138."""
NUMBER_MAX = 10**14


def aware(moment: datetime) -> datetime:
    """The time, which is UTC where it names no offset."""
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment


def of_text(text: str) -> datetime:
    """The time that a text says. Raises ValueError."""
    text, bracket, _ = text.strip().partition("[")
    if len(text) < len("20261127") or (bracket and ":" not in text):
        raise ValueError(text)
    return aware(datetime.fromisoformat(text.upper()))


def of_number(number: float) -> datetime:
    """The time that many seconds, or milliseconds, after 1970. Raises ValueError."""
    if not abs(number) < NUMBER_MAX:
        raise ValueError(number)
    if abs(number) < MILLISECONDS_FROM:
        return EPOCH + timedelta(seconds=number)
    return EPOCH + timedelta(milliseconds=number)
