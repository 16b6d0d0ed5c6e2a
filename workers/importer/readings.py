"""What an item of a vendor's list tells of a device's state, as telemetry messages.

A vendor repeats what it knows at every call. So a reading that is the same as the last one makes no message: neither a
row nor a sign of life. Only a vendor that says that a device is online gives one, and that once in a while.
"""

import hashlib
import math
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import msgspec

from schemas import times
from schemas.manifests.manifest import Manifest, Telemetry
from schemas.nul import NUL
from schemas.telemetry import INTEGER_MAX, INTEGER_MIN, STRING_BYTES_MAX, TelemetryError, admit
from workers.importer.devices import Mapper
from workers.importer.expressions import getter

SIGN_OF_LIFE = timedelta(minutes=15)
"""Imported devices count as offline after 30 min of silence."""
_DIGEST_BYTES = 8
_encoder = msgspec.json.Encoder()


class Reading(NamedTuple):
    """The messages to store for a device, and what to remember."""

    messages: list[bytes]
    digest: bytes


class Reader:
    """Reads messages out of items."""

    def __init__(self, manifest: Manifest, telemetry: Telemetry) -> None:
        self._id = getter(telemetry.id) if telemetry.id else None
        self._mapper = Mapper(manifest.device)
        self._values = {name: getter(expression) for name, expression in telemetry.values.items()}
        self._online = getter(telemetry.online) if telemetry.online else None
        self._words = {word.lower() for word in telemetry.online_words}
        self._time = getter(telemetry.time) if telemetry.time else None

    def vendor_id(self, item: Any) -> str | None:
        """Whose values these are."""
        if self._id is None:
            return self._mapper.vendor_id(item)
        found = self._id(item)
        return str(found) if isinstance(found, str | int) and not isinstance(found, bool) else None

    def message(self, item: Any) -> dict[str, Any]:
        """What the item tells: `telemetries` with their `timestamp`, and `status`."""
        values = {name: value for name, get in self._values.items() if (value := _value(get(item))) is not None}
        message: dict[str, Any] = {"telemetries": values} if values else {}
        if values and self._time is not None and (moment := _moment(self._time(item))) is not None:
            message["timestamp"] = moment.isoformat()
        online = None if self._online is None else self._online(item)
        if isinstance(online, bool):
            message["status"] = "online" if online else "offline"
        elif isinstance(online, str):
            message["status"] = "online" if online.lower() in self._words else "offline"
        return message

    def read(self, item: Any, known: bytes | None, known_at: datetime | None, now: datetime) -> Reading | None:
        """What to store, given the digest of what was stored before; None when nothing is new."""
        message = self.message(item)
        status = {"status": message.pop("status")} if "status" in message else {}
        digest = _digest(message) + _digest(status)
        messages = []
        if message and (known is None or known[:_DIGEST_BYTES] != digest[:_DIGEST_BYTES]):
            # A time of its own belongs to the values; what the vendor says of the connection is of now.
            messages = [message, status] if "timestamp" in message and status else [message | status]
        elif status:
            changed = known is None or known[_DIGEST_BYTES:] != digest[_DIGEST_BYTES:]
            silent = status["status"] == "online" and (known_at is None or now - known_at >= SIGN_OF_LIFE)
            messages = [status] if changed or silent else []
        good = [body for message in messages if (body := _checked(message, now)) is not None]
        return Reading(good, digest) if good else None


def _checked(message: dict[str, Any], now: datetime) -> bytes | None:
    """The message as a device would send it; None when it is none that a device could."""
    body = _encoder.encode(message)
    try:
        admit(body, now)
    except TelemetryError:
        return None
    return body


def _digest(message: dict[str, Any]) -> bytes:
    return hashlib.blake2b(_encoder.encode(message), digest_size=_DIGEST_BYTES).digest()


def _value(value: Any) -> Any:
    """A value that a device could send; None for any other, which costs the device's other values nothing."""
    if isinstance(value, str):
        text = value.replace(NUL, "").encode("utf-8", "replace")
        return text.decode() if len(text) <= STRING_BYTES_MAX else None
    if isinstance(value, bool):
        return value
    if isinstance(value, int):
        return value if INTEGER_MIN <= value <= INTEGER_MAX else None
    return value if isinstance(value, float) and math.isfinite(value) else None


def _moment(value: Any) -> datetime | None:
    """A time in ISO 8601, or seconds or milliseconds since 1970."""
    try:
        if isinstance(value, str):
            text = value.strip()
            number = text.isascii() and text.replace(".", "", 1).isdecimal()
            return times.of_number(float(text)) if number else times.of_text(text)
        return times.of_number(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
    except ValueError:
        return None
