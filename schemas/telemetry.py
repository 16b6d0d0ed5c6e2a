"""What a device may say in a telemetry message, and the sentence it gets when it says anything else.

The edge decodes to check; the flusher decodes the same bytes again to store. Both use this module, so what the one
accepts the other can store.
"""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

BODY_BYTES_MAX = 128 * 1024
STRING_BYTES_MAX = 1_000
KEY_CHARACTERS_MAX = 255
MESSAGE_CHARACTERS_MAX = 10_000
AHEAD_MAX = timedelta(hours=24)
EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)

_INT = Annotated[int, Meta(ge=-(2**31), le=2**31 - 1)]
_FLOAT = Annotated[float, Meta(ge=-3.4028234663852886e38, le=3.4028234663852886e38)]
_STRING = Annotated[str, Meta(max_length=STRING_BYTES_MAX)]
_KEY = Annotated[str, Meta(min_length=1, max_length=KEY_CHARACTERS_MAX)]

Value = _INT | _FLOAT | bool | _STRING | None
"""A telemetry value: 32-bit integer, 32-bit float, boolean, string of at most 1,000 bytes; null removes the key."""


class Telemetry(Struct, omit_defaults=True):
    """One telemetry message. At least one of `status` and `telemetries` is there."""

    status: Literal["online", "offline", "error"] | None = None
    telemetries: dict[_KEY, Value] | UnsetType = UNSET
    timestamp: datetime | None = None
    override: bool = False
    message: Annotated[str, Meta(max_length=MESSAGE_CHARACTERS_MAX)] | None = None


class TelemetryError(Exception):
    """A message that is refused: an HTTP status (400, 413 or 422) and a sentence for the device maker."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


_decoder = msgspec.json.Decoder(Telemetry)


def parse(body: bytes) -> Telemetry:
    """Decode one message. Raises TelemetryError."""
    if len(body) > BODY_BYTES_MAX:
        raise TelemetryError(413, f"A telemetry message is at most {BODY_BYTES_MAX} bytes")
    try:
        return _decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _explain(body, error) from None


def decode(body: bytes, now: datetime) -> Telemetry:
    """Decode and check one message. Raises TelemetryError; a message that comes back can be stored."""
    message = parse(body)
    check(message, len(body), now)
    return message


def check(message: Telemetry, size: int, now: datetime) -> None:
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


def _checked_time(timestamp: datetime, now: datetime) -> datetime:
    if timestamp.tzinfo is None:
        timestamp = timestamp.replace(tzinfo=UTC)
    if timestamp > now + AHEAD_MAX:
        raise TelemetryError(422, "Timestamp is more than 24 hours in the future")
    if timestamp < EARLIEST:
        raise TelemetryError(422, "Timestamp is before 1970-01-01T00:00:00Z")
    return timestamp


def _too_long(key: str) -> str:
    return f"Common telemetries.{key} must be at most {STRING_BYTES_MAX} bytes"


def _explain(body: bytes, error: Exception) -> TelemetryError:
    """Find the sentence for a body that did not decode (the cold path: cost does not matter here)."""
    try:
        loose: Any = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as malformed:
        if "out of range" in str(malformed):
            return TelemetryError(422, "A number is out of range")
        return TelemetryError(400, "Body is not valid JSON")
    except RecursionError:
        return TelemetryError(400, "Body is nested too deeply")
    if not isinstance(loose, dict):
        return TelemetryError(422, "Body must be a JSON object")
    values = loose.get("telemetries", {})
    if not isinstance(values, dict):
        return TelemetryError(422, "Telemetries must be a map")
    for key, value in values.items():
        if not 1 <= len(key) <= KEY_CHARACTERS_MAX:
            return TelemetryError(422, f"A telemetry key must have 1 to {KEY_CHARACTERS_MAX} characters")
        if isinstance(value, dict | list):
            return TelemetryError(422, f"Common telemetries.{key} must be string, number or boolean")
        if isinstance(value, str) and len(value.encode()) > STRING_BYTES_MAX:
            return TelemetryError(422, _too_long(key))
        if isinstance(value, int) and not -(2**31) <= value < 2**31:
            return TelemetryError(422, f"Common telemetries.{key} must be a 32-bit signed integer")
        if isinstance(value, float) and not abs(value) <= 3.4028234663852886e38:
            return TelemetryError(422, f"Common telemetries.{key} must be a 32-bit float")
    if "status" in loose and loose["status"] not in ("online", "offline", "error", None):
        return TelemetryError(422, "Status must be one of online, offline, error")
    return TelemetryError(422, f"Body is not a telemetry message: {error}")
