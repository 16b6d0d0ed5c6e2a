"""What a telemetry message may say, and how its time may be written."""

from datetime import UTC, datetime
from typing import Any

import pytest
from msgspec import UNSET

from schemas import telemetry
from schemas.telemetry import TelemetryError

NOW = datetime(2026, 11, 27, 7, 0, tzinfo=UTC)
WHOLE_MINUTE = datetime(2026, 11, 27, 3, 10, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2147483647", 2**31 - 1),
        ("2147483648", 2**31),
        ("-2147483649", -(2**31) - 1),
        ("9223372036854775807", 2**63 - 1),
        ("-9223372036854775808", -(2**63)),
        ("3e9", 3e9),
        ("25276502016.0", 25276502016.0),
        ("1e39", 1e39),
        ("1.7976931348623157e308", 1.7976931348623157e308),
        ("9223372036854775808.0", 2.0**63),
    ],
)
def test_integers_and_floats_have_64_bits(text: str, value: float) -> None:
    """As counters of bytes need; a float stays a float."""
    message = telemetry.decode(b'{"telemetries":{"a":%b}}' % text.encode(), NOW)
    assert message.telemetries is not UNSET
    assert message.telemetries["a"] == value
    assert type(message.telemetries["a"]) is type(value)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("9223372036854775808", "Common telemetries.a must be a 64-bit signed integer"),
        ("-9223372036854775809", "Common telemetries.a must be a 64-bit signed integer"),
        ("18446744073709551616", "Common telemetries.a must be a 64-bit signed integer"),
        ("1e309", "Common telemetries.a must be a 64-bit float"),
        ("-1e309", "Common telemetries.a must be a 64-bit float"),
        ("9" * 5_000, "A number is out of range"),
    ],
)
def test_numbers_that_cannot_be_kept_are_refused(text: str, sentence: str) -> None:
    """JSON can say them; the sentence says which it was, unless it is too long to be read at all."""
    with pytest.raises(TelemetryError) as refused:
        telemetry.decode(b'{"telemetries":{"b":1,"a":%b}}' % text.encode(), NOW)
    assert (refused.value.status, str(refused.value)) == (422, sentence)


@pytest.mark.parametrize(
    "told",
    [
        '"2026-11-27T03:10Z"',
        '"2026-11-27T03:10:00Z"',
        '"2026-11-27T03:10"',
        '"2026-11-27 03:10:00"',
        '"2026-11-27t03:10z"',
        '"20261127T031000Z"',
        '"20261127T0310Z"',
        '"2026-11-27T03:10:00+00"',
        '"2026-11-27T03:10:00+0000"',
        '"2026-11-27T04:10+01:00[Europe/Berlin]"',
        '"2026-11-27T03:10Z[UTC]"',
        '"2026-11-26T21:40-0530"',
        '"2026-11-27T03:10:00.000000000Z"',
        '"2026-11-27T03:10:00,000Z"',
        '"2026-W48-5T03:10Z"',
        '" 2026-11-27T03:10:00Z "',
        "1795749000",
        "1795749000.0",
        "1795749000000",
        "1.795749e12",
        "1795749000000000",
        "1795749000000000000",
        '"1795749000"',
        '"1795749000.000"',
        '"1795749000000"',
        '"1795749000000000"',
        '"1795749000000000000"',
        '"2026-11-27 03:10:00 UTC"',
        '"2026-11-27T03:10:00 GMT"',
        '"2026-11-27 03:10:00 +0000 UTC"',
        '"2026-11-26T22:10:00\u221205:00"',
    ],
)
def test_a_time_is_read_as_clients_print_it(told: str) -> None:
    """ISO 8601 with and without its parts; numbers count seconds or milliseconds; without an offset it is UTC."""
    message = telemetry.decode(b'{"status":"online","timestamp":%b}' % told.encode(), NOW)
    assert message.timestamp == WHOLE_MINUTE
    assert message.timestamp.tzinfo is not None


@pytest.mark.parametrize(
    ("told", "moment"),
    [
        ("2026-11-26T24:00:00Z", datetime(2026, 11, 27, tzinfo=UTC)),
        ("2026-11-26T24:00", datetime(2026, 11, 27, tzinfo=UTC)),
        ("20261126T240000.000Z", datetime(2026, 11, 27, tzinfo=UTC)),
        ("2026-11-26T24:00+01:00", datetime(2026, 11, 26, 23, tzinfo=UTC)),
        ("2016-12-31T23:59:60Z", datetime(2017, 1, 1, tzinfo=UTC)),
        ("2017-01-01T05:29:60.5+05:30", datetime(2017, 1, 1, 0, 0, 0, 500000, UTC)),
        ("2025-10-26T02:30:00+02:00", datetime(2025, 10, 26, 0, 30, tzinfo=UTC)),
        ("2025-10-26T02:30:00+01:00", datetime(2025, 10, 26, 1, 30, tzinfo=UTC)),
    ],
)
def test_midnight_leap_seconds_and_the_hour_that_comes_twice(told: str, moment: datetime) -> None:
    """24:00 is the next day's midnight, a leap second the second after it, and an offset says which hour it is."""
    assert telemetry.decode(b'{"status":"online","timestamp":"%b"}' % told.encode(), NOW).timestamp == moment


@pytest.mark.parametrize(
    "told",
    ["-1", '"1969-12-31T23:59:59Z"', '"1970-01-01T00:00:00+01:00"', '"0001-01-01T00:00:00+14:00"'],
)
def test_a_clock_that_was_never_set_counts_as_none(told: str) -> None:
    """Its messages are stored as of their arrival, as those before the registration are ordered."""
    assert telemetry.decode(b'{"status":"online","timestamp":%b}' % told.encode(), NOW).timestamp is None


@pytest.mark.parametrize(
    ("told", "microsecond"),
    [
        ('"2026-11-27T03:10:00.123456789Z"', 123457),
        ('"2026-11-27T03:10:00.1234567+00"', 123456),
        ("1795749000.5", 500000),
        ("1795749000250", 250000),
    ],
)
def test_fractions_of_a_second_are_kept_to_the_microsecond(told: str, microsecond: int) -> None:
    """Nanoseconds are more than the log can hold."""
    message = telemetry.decode(b'{"status":"online","timestamp":%b}' % told.encode(), NOW)
    assert message.timestamp == WHOLE_MINUTE.replace(microsecond=microsecond)


@pytest.mark.parametrize(
    ("told", "sentence"),
    [
        ('"yesterday"', telemetry.TIME_UNKNOWN),
        ('""', telemetry.TIME_UNKNOWN),
        ('"2026"', telemetry.TIME_UNKNOWN),
        ('"2026-13-01T00:00Z"', telemetry.TIME_UNKNOWN),
        ("true", telemetry.TIME_UNKNOWN),
        ("[]", telemetry.TIME_UNKNOWN),
        ("1e300", telemetry.TIME_UNKNOWN),
        ("1e999", telemetry.TIME_UNKNOWN),
        ("1" * 400, telemetry.TIME_UNKNOWN),
        ("-99999999999", telemetry.TIME_UNKNOWN),
        ('"2026-11-26T24:00:01Z"', telemetry.TIME_UNKNOWN),
        ('"2026-11-27T03:10:60Z"', telemetry.TIME_UNKNOWN),
        ('"9999-12-31T24:00:00Z"', telemetry.TIME_UNKNOWN),
        ('"0001-01-01T23:59:60+14:00"', telemetry.TIME_UNKNOWN),
        ('"2026-11-27T03:10:00 CET"', telemetry.TIME_UNKNOWN),
        ('"12345678"', telemetry.TIME_UNKNOWN),
        ("1795921800", "Timestamp is more than 24 hours in the future"),
        ('"9999-12-31T23:59Z"', "Timestamp is more than 24 hours in the future"),
    ],
)
def test_a_time_that_makes_no_sense_is_refused(told: str, sentence: str) -> None:
    """422, and the sentence shows how a time may be written."""
    with pytest.raises(TelemetryError) as refused:
        telemetry.decode(b'{"status":"online","timestamp":%b}' % told.encode(), NOW)
    assert (refused.value.status, str(refused.value)) == (422, sentence)


@pytest.mark.parametrize(
    "body",
    [b'{"status":"online"}', b'{"status":"online","timestamp":1795749000}', b'{"status":"online","timestamp":null}'],
)
def test_a_byte_order_mark_is_ignored(body: bytes) -> None:
    """Some libraries write one before every text."""
    assert telemetry.decode(b"\xef\xbb\xbf" + body, NOW) == telemetry.decode(body, NOW)


def test_a_member_that_is_not_known_may_hold_anything() -> None:
    """It is ignored, also where the time makes the message be looked at twice."""
    odd: Any = b'{"status":"online","x":1e999,"timestamp":"2026-11-27T03:10Z"}'
    assert telemetry.decode(odd, NOW).timestamp == WHOLE_MINUTE


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b'{"telemetries":{"a":"\\ud800"}}', 422),
        (b'{"telemetries":{"\\udc00 a":1}}', 422),
        (b'{"message":"\\ud83d \\ude00","status":"online"}', 422),
        (b'{"telemetries":{"a":"\\ud83d\\ude00"}', 400),
        (b'{"telemetries":{"a":"\\ud800","b":NaN}}', 400),
        (b'{"telemetries":{"a":"\xed\xa0\x80"}}', 400),
    ],
)
def test_half_a_surrogate_pair_is_json_that_cannot_be_kept(body: bytes, status: int) -> None:
    """422 as for all such; what is no JSON, or no UTF-8, stays 400."""
    with pytest.raises(TelemetryError) as refused:
        telemetry.decode(body, NOW)
    assert refused.value.status == status
