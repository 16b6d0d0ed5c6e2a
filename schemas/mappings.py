"""Which values of a model's telemetry become typed events beside the `telemetry` event.

    {"temp": "temperature", "rh": "humidity.relativeHumidity", "t": "humidity.temperature", "door": "contact"}

A telemetry key names an event type, or a member of one. A message that brings any key of a type makes one event of that
type; members that this message lacks are taken from the device's state. A value that does not fit its type makes no
event: it stays in the telemetry event, and is counted.
"""

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any, NamedTuple

import msgspec

from schemas import typed_events
from schemas.events import EventType
from schemas.typed_events import Moment, Typed

KEYS_MAX = 100

MAIN: dict[EventType, str] = {
    EventType.TEMPERATURE: "value",
    EventType.CO2: "ppm",
    EventType.PRESSURE: "pascal",
    EventType.BATTERY_STATUS: "percentage",
    EventType.OBJECT_PRESENT_COUNT: "total",
    EventType.TOUCH_COUNT: "total",
    EventType.NETWORK_STATUS: "signalStrength",
    EventType.CELLULAR_STATUS: "signalStrength",
    EventType.CONNECTION_STATUS: "connection",
    **dict.fromkeys(
        (
            EventType.OBJECT_PRESENT,
            EventType.WATER_PRESENT,
            EventType.MOTION,
            EventType.CONTACT,
            EventType.DESK_OCCUPANCY,
            EventType.PROBE_WIRE_STATUS,
        ),
        "state",
    ),
    EventType.TOUCH: "",
}
"""The member that a mapping to the bare type means; a touch has none, it just happens."""

STATES: dict[EventType, tuple[str, str]] = {
    EventType.OBJECT_PRESENT: ("NOT_PRESENT", "PRESENT"),
    EventType.WATER_PRESENT: ("NOT_PRESENT", "PRESENT"),
    EventType.MOTION: ("NO_MOTION_DETECTED", "MOTION_DETECTED"),
    EventType.CONTACT: ("OPEN", "CLOSED"),
    EventType.DESK_OCCUPANCY: ("NOT_OCCUPIED", "OCCUPIED"),
}
"""What false (0) and true (1) mean where a type has two states."""

_MEMBERS: dict[EventType, frozenset[str]] = {
    EventType.HUMIDITY: frozenset({"temperature", "relativeHumidity"}),
    EventType.NETWORK_STATUS: frozenset({"signalStrength", "rssi", "transmissionMode"}),
    EventType.ETHERNET_STATUS: frozenset({"macAddress", "ipAddress"}),
}
_REQUIRED = {
    EventType.HUMIDITY: {"temperature", "relativeHumidity"},
    EventType.NETWORK_STATUS: {"signalStrength"},
    EventType.ETHERNET_STATUS: {"macAddress", "ipAddress"},
}
"""The members of types that several keys make."""


class MappingError(Exception):
    """A mapping that makes no sense; the text is a sentence for its author."""


class Mapped(NamedTuple):
    """A typed event made from a message."""

    event_type: EventType
    data: bytes


class EventMapping:
    """The mapping of one model."""

    def __init__(self, targets: dict[EventType, dict[str, str]]) -> None:
        self._targets = targets
        self._keys = frozenset(key for members in targets.values() for key in members.values())

    def __repr__(self) -> str:
        return f"<EventMapping {', '.join(self._targets)}>"

    def read_with(self, values: Mapping[str, Any]) -> set[str]:
        """The keys that the events of a message with these values may take from the state."""
        if self._keys.isdisjoint(values):
            return set()
        return {
            key
            for members in self._targets.values()
            if len(members) > 1 and not values.keys().isdisjoint(members.values())
            for key in members.values()
        }

    def events(
        self, values: Mapping[str, Any], state: Mapping[str, Any], at: datetime, *, late: bool
    ) -> tuple[list[Mapped], int]:
        """The events of one message, and how many could not be made because their values do not fit.

        `state` is the device's with the message merged in, `late` a message that is older than others before it.
        """
        if self._keys.isdisjoint(values):
            return [], 0
        made: list[Mapped] = []
        unfit = 0
        for event_type, members in self._targets.items():
            given = {member: values.get(key) for member, key in members.items()}
            if all(value is None for value in given.values()):
                continue
            if len(members) > 1:
                given = {m: state.get(members[m]) if value is None else value for m, value in given.items()}
            try:
                event = _event(event_type, given)
            except msgspec.ValidationError:
                unfit += 1
                continue
            if event is None:
                continue
            event.update_time = Moment(at)
            if late and isinstance(event, typed_events.Temperature | typed_events.Humidity):
                event.is_backfilled = True
            made.append(Mapped(event_type, typed_events.make(event_type, event).data))
        return made, unfit


def parse(device_type: str, mappings: Mapping[str, str]) -> EventMapping:
    """Check a model's mapping. Raises MappingError."""
    targets: dict[EventType, dict[str, str]] = {}
    if len(mappings) > KEYS_MAX:
        raise MappingError(f"at most {KEYS_MAX} keys can be mapped")
    for key, target in mappings.items():
        name, _, member = target.partition(".")
        try:
            event_type = EventType(name)
        except ValueError:
            raise MappingError(f"there is no event type {name}") from None
        if event_type not in typed_events.TYPES:
            raise MappingError(f"{name} events are not made from telemetry")
        if not typed_events.fits(device_type, event_type):
            raise MappingError(f"a device of type {device_type} emits no {name} events")
        known = _MEMBERS.get(event_type, frozenset({MAIN.get(event_type, "")}))
        member = member or MAIN.get(event_type, "")
        if member not in known:
            raise MappingError(f"{name} is made from {_listed(event_type, known)}")
        if member in targets.setdefault(event_type, {}):
            raise MappingError(f"two keys are mapped to {target}")
        targets[event_type][member] = key
    for event_type, members in targets.items():
        missing = _REQUIRED.get(event_type, set()) - members.keys()
        if missing:
            raise MappingError(f"{event_type} also needs {_listed(event_type, missing)}")
    return EventMapping(targets)


def _listed(event_type: EventType, members: Iterable[str]) -> str:
    return ", ".join(f"{event_type}.{member}".rstrip(".") for member in sorted(members))


def _event(event_type: EventType, given: dict[str, Any]) -> Typed | None:
    """The event that these values make; None for a touch that was none. Raises msgspec.ValidationError."""
    if event_type is EventType.TOUCH:
        happened = given[""]
        if isinstance(happened, str):
            raise msgspec.ValidationError("a touch is true, or a number other than 0")
        return typed_events.Touch() if happened else None
    members = {m: _READERS.get(m, _as_is)(event_type, value) for m, value in given.items() if value is not None}
    made: Typed = msgspec.convert(members, typed_events.TYPES[event_type])
    return made


def _as_is(_event_type: EventType, value: Any) -> Any:
    return value


def _state(event_type: EventType, value: Any) -> Any:
    if event_type is EventType.PROBE_WIRE_STATUS:
        wires = {2: "TWO_WIRE", 3: "THREE_WIRE", 4: "FOUR_WIRE"}
        return value.upper() if isinstance(value, str) else None if isinstance(value, bool) else wires.get(value)
    if isinstance(value, str):
        return value.upper()
    return STATES[event_type][int(value)] if value in (0, 1) else None


def _word(_event_type: EventType, value: Any) -> Any:
    return value.upper() if isinstance(value, str) else None


def _whole(_event_type: EventType, value: Any) -> Any:
    """A float that is a whole number counts as one: many devices know no other numbers."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


_READERS: dict[str, Callable[[EventType, Any], Any]] = {
    "state": _state,
    "connection": _word,
    "transmissionMode": _word,
    "total": _whole,
}
