"""Values of telemetry that become typed events."""

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from schemas import mappings
from schemas.events import EventType
from schemas.mappings import MappingError

AT = datetime(2026, 2, 10, 12, 42, 13, tzinfo=UTC)
STAMP = "2026-02-10T12:42:13.000000Z"


def told(mapping: dict[str, str], values: dict[str, Any], state: dict[str, Any] | None = None) -> Any:
    """The data of the events that a message makes, or how many it failed to make."""
    made, unfit = mappings.parse("generic", mapping).events(values, state or values, AT, late=False)
    found = {event.event_type: msgspec.json.decode(event.data)[event.event_type] for event in made}
    assert all(data.pop("updateTime") == STAMP for data in found.values())
    return unfit or found


@pytest.mark.parametrize(
    ("target", "value", "data"),
    [
        ("temperature.value", 3, {"value": 3, "samples": [{"value": 3, "sampleTime": STAMP}], "isBackfilled": False}),
        ("objectPresent", True, {"state": "PRESENT"}),
        ("waterPresent", 0, {"state": "NOT_PRESENT"}),
        ("motion", 1.0, {"state": "MOTION_DETECTED"}),
        ("contact", "open", {"state": "OPEN"}),
        ("contact", True, {"state": "CLOSED"}),
        ("deskOccupancy", False, {"state": "NOT_OCCUPIED", "remarks": []}),
        ("probeWireStatus", 3, {"state": "THREE_WIRE"}),
        ("touchCount", 12.0, {"total": 12}),
        ("co2", 570, {"ppm": 570}),
        ("batteryStatus", 99.5, {"percentage": 99.5}),
        ("touch", 1, {}),
        ("connectionStatus", "ethernet", {"connection": "ETHERNET", "available": []}),
    ],
)
def test_a_value_becomes_the_main_member_of_its_type(target: str, value: Any, data: dict[str, Any]) -> None:
    """Booleans, 0 and 1 are states where a type has two; names of states count in any case."""
    assert told({"key": target}, {"key": value, "other": 1}) == {target.partition(".")[0]: data}


@pytest.mark.parametrize(
    ("target", "value"),
    [
        ("temperature", "warm"),
        ("temperature", True),
        ("objectPresent", 2),
        ("objectPresent", "maybe"),
        ("probeWireStatus", 7),
        ("touchCount", 1.5),
        ("touchCount", -1),
        ("batteryStatus", 101),
        ("touch", "yes"),
        ("connectionStatus", 1),
    ],
)
def test_a_value_that_does_not_fit_is_counted(target: str, value: Any) -> None:
    """It makes no event; the telemetry event has it all the same."""
    assert told({"key": target}, {"key": value}) == 1


def test_messages_without_mapped_values_make_no_events() -> None:
    """Neither does a value that is removed, nor a touch that was none."""
    assert told({"key": "temperature"}, {"other": 1}) == {}
    assert told({"key": "temperature"}, {"key": None}) == {}
    assert told({"key": "touch"}, {"key": False}) == {}


def test_an_event_of_several_members_takes_from_the_state_what_the_message_lacks() -> None:
    """A sensor that sends only what changed still tells humidity and temperature together; without either, nothing."""
    mapping = {"rh": "humidity.relativeHumidity", "t": "humidity.temperature"}
    assert told(mapping, {"rh": 40}, {"rh": 40, "t": 20})["humidity"]["temperature"] == 20
    assert told(mapping, {"rh": 40}, {"rh": 40}) == 1


def test_a_late_measurement_is_marked_as_backfilled() -> None:
    """So that who draws curves knows it belongs into the past."""
    mapping = mappings.parse("generic", {"key": "temperature"})
    [event], _ = mapping.events({"key": 1}, {}, AT, late=True)
    assert msgspec.json.decode(event.data)["temperature"]["isBackfilled"] is True


@pytest.mark.parametrize(
    ("device_type", "mapping", "sentence"),
    [
        ("generic", {"a": "x"}, "there is no event type x"),
        ("generic", {"a": "telemetry"}, "telemetry events are not made from telemetry"),
        ("generic", {"a": "labelsChanged"}, "labelsChanged events are not made from telemetry"),
        ("co2", {"a": "temperature"}, "a device of type co2 emits no temperature events"),
        ("generic", {"a": "humidity"}, "humidity is made from humidity.relativeHumidity, humidity.temperature"),
        ("generic", {"a": "humidity.temperature"}, "humidity also needs humidity.relativeHumidity"),
        ("generic", {"a": "touch", "b": "touch"}, "two keys are mapped to touch"),
        ("generic", {"a": "temperature.unit"}, "temperature is made from temperature.value"),
        ("generic", {f"k{n}": "touch" for n in range(101)}, "at most 100 keys can be mapped"),
    ],
    ids=str,
)
def test_a_mapping_that_makes_no_sense_is_refused(device_type: str, mapping: dict[str, str], sentence: str) -> None:
    """With a sentence that says what to change."""
    with pytest.raises(MappingError, match=f"^{sentence}$"):
        mappings.parse(device_type, mapping)


def test_every_typed_event_can_be_made_from_telemetry() -> None:
    """No type is forgotten among the mappings."""
    whole = {
        "h": "humidity.temperature",
        "r": "humidity.relativeHumidity",
        "m": "ethernetStatus.macAddress",
        "i": "ethernetStatus.ipAddress",
    }
    made = {EventType(target.partition(".")[0]) for target in whole.values()} | set(mappings.MAIN)
    assert made == set(mappings.typed_events.TYPES)
    mappings.parse("generic", whole | {event_type: str(event_type) for event_type in mappings.MAIN})
