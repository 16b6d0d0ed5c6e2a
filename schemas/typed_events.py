"""What sensors tell, as typed events: each type's data, checked on the way in, and which device types emit which.

    {"temperature": {"updateTime": "2026-…Z", "value": 21.5, "samples": [{"value": 21.5, "sampleTime": "2026-…Z"}], …}}

An event is made by an emulator (`read`) or from a telemetry message by its model's mapping (schemas.mappings). Either
way it goes through the structs below, so whoever reads the log finds every member that its type promises, times in UTC
with microseconds. Members that a type does not know are left out.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
from msgspec import Meta, Struct

from schemas.events import EventType, rfc3339
from schemas.sentences import complaint_of
from schemas.telemetry import AHEAD_MAX, EARLIEST
from schemas.times import aware

LIST_MAX = 1_000
COUNT_MAX = 2**53 - 1
"""Every JSON library holds it exactly."""

Number = (
    Annotated[int, Meta(ge=-(2**53) + 1, le=COUNT_MAX)]
    | Annotated[float, Meta(ge=-3.4028234663852886e38, le=3.4028234663852886e38)]
)
Positive = Annotated[int, Meta(ge=0, le=COUNT_MAX)] | Annotated[float, Meta(ge=0, le=3.4028234663852886e38)]
Percentage = Annotated[int, Meta(ge=0, le=100)] | Annotated[float, Meta(ge=0, le=100)]
Count = Annotated[int, Meta(ge=0, le=COUNT_MAX)]
_NO_NUL = r"^[^\x00]*$"
_CAPITALS = r"^[A-Z][A-Z0-9_]{0,63}\Z"
PATTERNS = {
    _NO_NUL: "a text must not hold U+0000",
    _CAPITALS: "must be at most 64 capital letters, digits and underscores, and begin with a letter",
}
"""What is told of a text that does not match."""
Text = Annotated[str, Meta(max_length=255, pattern=_NO_NUL)]
Word = Annotated[str, Meta(pattern=_CAPITALS, description="One of an open list, such as TWO_WIRE.")]


class EventError(Exception):
    """An event that is refused; the text is a sentence for its sender."""


class Moment:
    """A time as an event tells it: RFC 3339, in UTC and with microseconds once it is written."""

    __slots__ = ("at",)

    def __init__(self, at: datetime) -> None:
        self.at = at


class Typed(Struct, rename="camel", kw_only=True):
    """The data of a typed event. `updateTime` is when it happened; by default now."""

    update_time: Moment | None = None


class Touch(Typed):
    """Somebody touched the device."""


class TemperatureSample(Struct, rename="camel", kw_only=True):
    """One of several measurements that an event brings."""

    value: Number
    sample_time: Moment


class Temperature(Typed, kw_only=True):
    """Degrees Celsius."""

    value: Number
    samples: Annotated[list[TemperatureSample], Meta(max_length=LIST_MAX)] | None = None
    is_backfilled: bool = False


class HumiditySample(Struct, rename="camel", kw_only=True):
    """One of several measurements that an event brings."""

    temperature: Number
    relative_humidity: Percentage
    sample_time: Moment


class Humidity(Typed, kw_only=True):
    """Relative humidity in percent, and the temperature it was measured at."""

    temperature: Number
    relative_humidity: Percentage
    samples: Annotated[list[HumiditySample], Meta(max_length=LIST_MAX)] | None = None
    is_backfilled: bool = False


class Presence(Typed, kw_only=True):
    """Whether an object, or water, is there."""

    state: Literal["PRESENT", "NOT_PRESENT"]


class Motion(Typed, kw_only=True):
    """Whether something moves."""

    state: Literal["MOTION_DETECTED", "NO_MOTION_DETECTED"]


class Contact(Typed, kw_only=True):
    """Whether the contact is made."""

    state: Literal["OPEN", "CLOSED"]


class DeskOccupancy(Typed, kw_only=True):
    """Whether somebody uses the desk."""

    state: Literal["OCCUPIED", "NOT_OCCUPIED"]
    remarks: Annotated[list[Text], Meta(max_length=LIST_MAX)] = []


class ProbeWireStatus(Typed, kw_only=True):
    """How a probe is wired."""

    state: Word


class Total(Typed, kw_only=True):
    """A count that only grows."""

    total: Count


class Co2(Typed, kw_only=True):
    """Carbon dioxide in parts per million."""

    ppm: Positive


class Pressure(Typed, kw_only=True):
    """Air pressure in pascal."""

    pascal: Positive


class CloudConnectorSignal(Struct, rename="camel", kw_only=True):
    """How well one gateway in range hears the device."""

    id: Text
    signal_strength: Percentage
    rssi: Number | None = None


class NetworkStatus(Typed, kw_only=True):
    """How well the device is heard: signal strength in percent, RSSI in dBm."""

    signal_strength: Percentage
    rssi: Number | None = None
    cloud_connectors: Annotated[list[CloudConnectorSignal], Meta(max_length=LIST_MAX)] = []
    transmission_mode: Word = "LOW_POWER_STANDARD_MODE"


class BatteryStatus(Typed, kw_only=True):
    """What is left of the battery."""

    percentage: Percentage


class ConnectionStatus(Typed, kw_only=True):
    """By what a gateway is connected, and by what it could be."""

    connection: Word
    available: Annotated[list[Word], Meta(max_length=LIST_MAX)] = []


class Fault(Struct, kw_only=True):
    """What a gateway's network interface reports."""

    code: Annotated[int, Meta(ge=0, le=2**31 - 1)]
    message: Text


class EthernetStatus(Typed, kw_only=True):
    """A gateway's Ethernet."""

    mac_address: Text
    ip_address: Text
    errors: Annotated[list[Fault], Meta(max_length=LIST_MAX)] = []


class CellularStatus(Typed, kw_only=True):
    """A gateway's cellular network."""

    signal_strength: Percentage
    errors: Annotated[list[Fault], Meta(max_length=LIST_MAX)] = []


TYPES: dict[EventType, type[Typed]] = {
    EventType.TOUCH: Touch,
    EventType.TEMPERATURE: Temperature,
    EventType.HUMIDITY: Humidity,
    EventType.OBJECT_PRESENT: Presence,
    EventType.WATER_PRESENT: Presence,
    EventType.MOTION: Motion,
    EventType.CONTACT: Contact,
    EventType.DESK_OCCUPANCY: DeskOccupancy,
    EventType.PROBE_WIRE_STATUS: ProbeWireStatus,
    EventType.OBJECT_PRESENT_COUNT: Total,
    EventType.TOUCH_COUNT: Total,
    EventType.CO2: Co2,
    EventType.PRESSURE: Pressure,
    EventType.NETWORK_STATUS: NetworkStatus,
    EventType.BATTERY_STATUS: BatteryStatus,
    EventType.CONNECTION_STATUS: ConnectionStatus,
    EventType.ETHERNET_STATUS: EthernetStatus,
    EventType.CELLULAR_STATUS: CellularStatus,
}
"""The typed events: those a device's newest of is remembered, and an emulator may publish."""

_OF_SENSORS = (EventType.TOUCH, EventType.NETWORK_STATUS, EventType.BATTERY_STATUS)
DEVICE_TYPES: dict[str, tuple[EventType, ...]] = {
    "temperature": (EventType.TEMPERATURE, EventType.PROBE_WIRE_STATUS, *_OF_SENSORS),
    "proximity": (EventType.OBJECT_PRESENT, *_OF_SENSORS),
    "touch": _OF_SENSORS,
    "humidity": (EventType.HUMIDITY, *_OF_SENSORS),
    "proximityCounter": (EventType.OBJECT_PRESENT_COUNT, *_OF_SENSORS),
    "touchCounter": (EventType.TOUCH_COUNT, *_OF_SENSORS),
    "waterDetector": (EventType.WATER_PRESENT, *_OF_SENSORS),
    "co2": (EventType.CO2, EventType.HUMIDITY, EventType.PRESSURE, *_OF_SENSORS),
    "motion": (EventType.MOTION, *_OF_SENSORS),
    "deskOccupancy": (EventType.DESK_OCCUPANCY, EventType.MOTION, *_OF_SENSORS),
    "contact": (EventType.CONTACT, *_OF_SENSORS),
    "ccon": (
        EventType.CONNECTION_STATUS,
        EventType.ETHERNET_STATUS,
        EventType.CELLULAR_STATUS,
        EventType.TOUCH,
    ),
}
"""Device types whose events are known."""


def emits(device_type: str) -> tuple[EventType, ...] | None:
    """The typed events of a device type; None for one that may emit any (`generic`, and a vendor's own types)."""
    return DEVICE_TYPES.get(device_type)


def fits(device_type: str, event_type: EventType) -> bool:
    """Whether a device of this type may emit this typed event."""
    known = emits(device_type)
    return event_type in TYPES and (known is None or event_type in known)


class Made(NamedTuple):
    """A checked event: its data as JSON, and when it happened."""

    data: bytes
    ts: datetime


def read(event_type: EventType, value: Mapping[str, Any], now: datetime) -> Made:
    """Check the data of one typed event as its sender gave it. Raises EventError."""
    if "cloud_connectors" in value and "cloudConnectors" not in value:  # as the public client publishes it
        value = {**value, "cloudConnectors": value["cloud_connectors"]}
    try:
        event = msgspec.convert(value, TYPES[event_type], dec_hook=_read_moment)
    except msgspec.ValidationError as error:
        raise EventError(f"{event_type}: {_sentence(error)}") from None
    if event.update_time is None:
        event.update_time = Moment(now)
    _check_time(event.update_time, now)
    if isinstance(event, Temperature | Humidity):
        for sample in event.samples or ():
            _check_time(sample.sample_time, now)
    return make(event_type, event)


def make(event_type: EventType, event: Typed) -> Made:
    """The event's data, with what its type promises and its maker left out. It has an `update_time`."""
    assert event.update_time is not None
    if isinstance(event, Temperature) and not event.samples:
        event.samples = [TemperatureSample(value=event.value, sample_time=event.update_time)]
    elif isinstance(event, Humidity) and not event.samples:
        event.samples = [
            HumiditySample(
                temperature=event.temperature,
                relative_humidity=event.relative_humidity,
                sample_time=event.update_time,
            )
        ]
    return Made(b'{"%b":%b}' % (event_type.encode(), _encoder.encode(event)), event.update_time.at)


def reported(event_type: str, data: str) -> str:
    """What `data`, the JSON text of a typed event, says under its type."""
    return data[len(event_type) + 4 : -1]


def _read_moment(kind: type[Any], value: Any) -> Any:
    assert kind is Moment
    at = msgspec.convert(value, datetime)
    return Moment(aware(at))


def _write_moment(value: Any) -> str:
    assert isinstance(value, Moment)
    return rfc3339(value.at)


def _sentence(error: msgspec.ValidationError) -> str:
    text, at, path = str(error).partition(" - at `")
    return complaint_of(text, {repr(pattern): words for pattern, words in PATTERNS.items()}) + (at + path).replace(
        "`", ""
    )


def _check_time(moment: Moment, now: datetime) -> None:
    if moment.at > now + AHEAD_MAX:
        raise EventError("A time is more than 24 hours in the future")
    if moment.at < EARLIEST:
        raise EventError("A time is before 1970-01-01T00:00:00Z")


_encoder = msgspec.json.Encoder(enc_hook=_write_moment)
