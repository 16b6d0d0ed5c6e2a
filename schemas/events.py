"""Event types: what can happen to a device, and who wants to know of it.

Each type says its kind and whether a receiver that begins anew is sent the newest of it. Nothing else lists the types
by hand: what is listed elsewhere is derived from here, or a test compares it with this list.
"""

from collections.abc import Iterable
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any


class Kind(StrEnum):
    """Where an event of a type comes from."""

    REPORTED = "reported"
    """Told by a sensor; its data has a struct in `schemas.typed_events`, and a device's newest is remembered."""
    MESSAGE = "message"
    """A telemetry message as the device sent it."""
    LIFE_CYCLE = "life cycle"
    """A change made to the device; its data has a struct in `schemas.life_cycle`."""


class EventType(StrEnum):
    """What can happen to a device: what its sensors tell, and what becomes of it."""

    kind: Kind
    synchronized: bool
    """Whether `synchronize` sends a receiver the newest of it."""

    def __new__(cls, name: str, *facts: Any) -> "EventType":
        """A type by its name on the wire, with its kind and whether it is synchronized: none may be left out."""
        made = str.__new__(cls, name)
        made._value_ = name
        made.kind, made.synchronized = facts
        return made

    TOUCH = "touch", Kind.REPORTED, True
    TEMPERATURE = "temperature", Kind.REPORTED, True
    HUMIDITY = "humidity", Kind.REPORTED, True
    OBJECT_PRESENT = "objectPresent", Kind.REPORTED, True
    WATER_PRESENT = "waterPresent", Kind.REPORTED, True
    MOTION = "motion", Kind.REPORTED, True
    CONTACT = "contact", Kind.REPORTED, True
    DESK_OCCUPANCY = "deskOccupancy", Kind.REPORTED, True
    PROBE_WIRE_STATUS = "probeWireStatus", Kind.REPORTED, True
    OBJECT_PRESENT_COUNT = "objectPresentCount", Kind.REPORTED, True
    TOUCH_COUNT = "touchCount", Kind.REPORTED, True
    CO2 = "co2", Kind.REPORTED, True
    PRESSURE = "pressure", Kind.REPORTED, True
    NETWORK_STATUS = "networkStatus", Kind.REPORTED, True
    BATTERY_STATUS = "batteryStatus", Kind.REPORTED, True
    CONNECTION_STATUS = "connectionStatus", Kind.REPORTED, True
    ETHERNET_STATUS = "ethernetStatus", Kind.REPORTED, True
    CELLULAR_STATUS = "cellularStatus", Kind.REPORTED, True
    LABELS_CHANGED = "labelsChanged", Kind.LIFE_CYCLE, False
    TELEMETRY = "telemetry", Kind.MESSAGE, True
    DEVICE_REGISTERED = "deviceRegistered", Kind.LIFE_CYCLE, False
    DEVICE_CLAIMED = "deviceClaimed", Kind.LIFE_CYCLE, True
    DEVICE_MOVED = "deviceMoved", Kind.LIFE_CYCLE, False
    DEVICE_DELETED = "deviceDeleted", Kind.LIFE_CYCLE, False
    DEVICE_EXCLUDED = "deviceExcluded", Kind.LIFE_CYCLE, False
    DEVICE_RESTORED = "deviceRestored", Kind.LIFE_CYCLE, False
    STATUS_CHANGED = "statusChanged", Kind.LIFE_CYCLE, True
    COMMAND_UPDATED = "commandUpdated", Kind.LIFE_CYCLE, False
    CONFIG_CHANGED = "configChanged", Kind.LIFE_CYCLE, True
    DEVICE_REPLACED = "deviceReplaced", Kind.LIFE_CYCLE, False
    LICENSE_UPDATED = "licenseUpdated", Kind.LIFE_CYCLE, False
    INCIDENT_OPENED = "incidentOpened", Kind.LIFE_CYCLE, False
    INCIDENT_CLOSED = "incidentClosed", Kind.LIFE_CYCLE, False
    DEVICE_EVENT = "deviceEvent", Kind.LIFE_CYCLE, False
    FIRMWARE_UPDATED = "firmwareUpdated", Kind.LIFE_CYCLE, True
    ROLLOUT_UPDATED = "rolloutUpdated", Kind.LIFE_CYCLE, False


def of_kind(kind: Kind) -> tuple[EventType, ...]:
    """The types of a kind."""
    return tuple(event_type for event_type in EventType if event_type.kind is kind)


REMEMBERED: frozenset[str] = frozenset(
    str(event_type) for event_type in EventType if event_type.synchronized and event_type.kind is not Kind.MESSAGE
)
"""Types whose newest event of a device is kept beside the log (`device_reported`). Of messages the state is kept, and
with it the place of the newest in the log (`device_state`)."""


def unknown(names: Iterable[str]) -> list[str]:
    """Those of these names that no event type has, sorted."""
    return sorted(set(names) - {str(event_type) for event_type in EventType})


def rfc3339(moment: datetime) -> str:
    """UTC with microseconds: 2026-02-10T12:42:13.313949Z."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds")[:26] + "Z"
