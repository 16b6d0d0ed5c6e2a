"""What a device may say in a telemetry message, and the sentence it gets when it says anything else.

The edge decodes to check; the flusher decodes the same bytes again to store. Both use this module, so what the one
accepts the other can store.

The usual message is decoded in one go. What that refuses is looked at once more: it may begin with a byte order mark,
or tell its time otherwise than RFC 3339 does; else its sentence is found.
"""

import json
import math
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal, TypeVar, get_args

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from schemas import nul, times

BODY_BYTES_MAX = 128 * 1024
STRING_BYTES_MAX = 1_000
KEY_CHARACTERS_MAX = 255
MESSAGE_CHARACTERS_MAX = 10_000
AHEAD_MAX = timedelta(hours=24)
EARLIEST = times.EPOCH
INTEGER_MIN, INTEGER_MAX = -(2**63), 2**63 - 1
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
TIME_UNKNOWN = "Timestamp must be a time such as 2026-11-27T03:10:00Z, or seconds or milliseconds since 1970"

_INT = Annotated[int, Meta(ge=INTEGER_MIN, le=INTEGER_MAX)]
_STRING = Annotated[str, Meta(max_length=STRING_BYTES_MAX)]
_KEY = Annotated[str, Meta(min_length=1, max_length=KEY_CHARACTERS_MAX)]

DeviceStatus = Literal["online", "offline", "error"]
Value = _INT | float | bool | _STRING | None
"""A telemetry value: 64-bit integer, 64-bit float, boolean, string of at most 1,000 bytes; null removes the key."""

_TIMES = "ISO 8601; a number counts seconds or milliseconds since 1970. Default: now."


class Telemetry(Struct, omit_defaults=True):
    """One telemetry message. At least one of `status` and `telemetries` is there."""

    status: DeviceStatus | None = None
    telemetries: dict[_KEY, Value] | UnsetType = UNSET
    timestamp: Annotated[datetime, Meta(description=_TIMES)] | None = None
    override: bool = False
    message: Annotated[str, Meta(max_length=MESSAGE_CHARACTERS_MAX)] | None = None


class TelemetryError(Exception):
    """A message that is refused: an HTTP status (400, 413 or 422) and a sentence for the device maker."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


T = TypeVar("T", bound=Telemetry)
_decoder = msgspec.json.Decoder(Telemetry)
_loose = msgspec.json.Decoder(float_hook=float)
"""Takes any JSON; a float that is too large becomes infinite, so that its key can be named."""
_BACKSLASH = b"\\"[0]
_UNDECODABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def parse(body: bytes) -> Telemetry:
    """Decode one message. Raises TelemetryError."""
    return parse_as(body, _decoder, Telemetry)


def parse_as(body: bytes, decoder: "msgspec.json.Decoder[T]", kind: type[T]) -> T:
    """Decode one message that has more members. Raises TelemetryError."""
    if len(body) > BODY_BYTES_MAX:
        raise TelemetryError(413, f"A telemetry message is at most {BODY_BYTES_MAX} bytes")
    try:
        return decoder.decode(body)
    except _UNDECODABLE:
        return _second_look(body.removeprefix(BYTE_ORDER_MARK), kind)


def decode(body: bytes, now: datetime) -> Telemetry:
    """Decode and check one message. Raises TelemetryError; a message that comes back can be stored."""
    message = parse(body)
    if message.timestamp is not None or message.telemetries is UNSET or len(body) > STRING_BYTES_MAX:
        _check(message, len(body), now)
    return message


def admit(body: bytes, now: datetime) -> Telemetry:
    """As `decode`, at the door, where U+0000 is refused: earlier versions took it, and what they took is stored."""
    message = decode(body, now)
    # Most bodies have no backslash at all, and looking for a number costs a seventh of looking for bytes.
    if _BACKSLASH in body and nul.says_nul(body):
        raise TelemetryError(422, nul.sentence(body.removeprefix(BYTE_ORDER_MARK)))
    return message


def _check(message: Telemetry, size: int, now: datetime) -> None:
    """Check what decoding alone does not, of a message of `size` bytes. Raises TelemetryError."""
    if message.timestamp is not None:
        message.timestamp = _checked_time(message.timestamp, now)
    if message.telemetries is UNSET:
        if message.status is None:
            raise TelemetryError(422, "One of status and telemetries is required")
    elif size > STRING_BYTES_MAX:
        for key, value in message.telemetries.items():
            if isinstance(value, str) and len(value.encode()) > STRING_BYTES_MAX:
                raise TelemetryError(422, _too_long(key))


def stated_time(value: Any, now: datetime) -> datetime | None:
    """The time that a device states, as JSON that a client may make of it; None for null, and one that counts as none.

    Raises TelemetryError.
    """
    stated = _time(value)
    return None if stated is None else _checked_time(stated, now)


def _checked_time(timestamp: datetime, now: datetime) -> datetime | None:
    """The time that a message tells. One before 1970 is that of a clock which was never set: it counts as none."""
    timestamp = times.aware(timestamp)
    if timestamp > now + AHEAD_MAX:
        raise TelemetryError(422, "Timestamp is more than 24 hours in the future")
    return timestamp if timestamp >= EARLIEST else None


def _too_long(key: str) -> str:
    return f"Common telemetries.{key} must be at most {STRING_BYTES_MAX} bytes"


def _second_look(body: bytes, kind: type[T]) -> T:
    """Decode what the strict decoder did not, or find the sentence for it: cost does not matter much here."""
    try:
        loose: Any = _loose.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as malformed:
        if "out of range" in str(malformed):
            raise TelemetryError(422, "A number is out of range") from None
        if _has_half_a_pair(body):
            raise TelemetryError(422, "A string has half of a surrogate pair, which is no character") from None
        raise TelemetryError(400, "Body is not valid JSON") from None
    except RecursionError:
        raise TelemetryError(400, "Body is nested too deeply") from None
    _check_members(loose)
    if "timestamp" in loose:
        loose["timestamp"] = _time(loose["timestamp"])
    try:
        return msgspec.convert(loose, kind)
    except msgspec.ValidationError as error:
        raise TelemetryError(422, f"Body is not a telemetry message: {error}") from None


def _has_half_a_pair(body: bytes) -> bool:
    """Whether all that is wrong with a body is an escape such as `\\ud800`, which JSON can say and UTF-8 cannot."""
    if b"\\u" not in body:
        return False
    try:
        json.loads(body, parse_constant=int)
    except (ValueError, RecursionError):
        return False
    return True


def _check_members(loose: Any) -> None:
    if not isinstance(loose, dict):
        raise TelemetryError(422, "Body must be a JSON object")
    values = loose.get("telemetries", {})
    if not isinstance(values, dict):
        raise TelemetryError(422, "Telemetries must be a map")
    for key, value in values.items():
        if not 1 <= len(key) <= KEY_CHARACTERS_MAX:
            raise TelemetryError(422, f"A telemetry key must have 1 to {KEY_CHARACTERS_MAX} characters")
        if isinstance(value, dict | list):
            raise TelemetryError(422, f"Common telemetries.{key} must be string, number or boolean")
        if isinstance(value, str) and len(value.encode()) > STRING_BYTES_MAX:
            raise TelemetryError(422, _too_long(key))
        if isinstance(value, int) and not INTEGER_MIN <= value <= INTEGER_MAX:
            raise TelemetryError(422, f"Common telemetries.{key} must be a 64-bit signed integer")
        if isinstance(value, float) and math.isinf(value):
            raise TelemetryError(422, f"Common telemetries.{key} must be a 64-bit float")
    if loose.get("status") not in (*get_args(DeviceStatus), None):
        raise TelemetryError(422, "Status must be one of online, offline, error")


def _time(value: Any) -> datetime | None:
    try:
        if value is None:
            return None
        if isinstance(value, str):
            return times.of_text(value)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return times.of_number(value)
    except ValueError:
        pass
    raise TelemetryError(422, TIME_UNKNOWN)
