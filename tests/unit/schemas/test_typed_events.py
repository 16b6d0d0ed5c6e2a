"""What sensors tell is checked on the way in, and comes out whole."""

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import typed_events
from schemas.events import EventType
from schemas.typed_events import EventError

NOW = datetime(2026, 2, 10, 12, 42, 13, 313949, tzinfo=UTC)
STAMP = "2026-02-10T12:42:13.313949Z"

GOOD: list[tuple[EventType, dict[str, Any], dict[str, Any]]] = [
    (EventType.TOUCH, {}, {}),
    (
        EventType.TEMPERATURE,
        {"value": 21.5},
        {"value": 21.5, "samples": [{"value": 21.5, "sampleTime": STAMP}], "isBackfilled": False},
    ),
    (
        EventType.HUMIDITY,
        {"temperature": 20, "relativeHumidity": 55},
        {
            "temperature": 20,
            "relativeHumidity": 55,
            "samples": [{"temperature": 20, "relativeHumidity": 55, "sampleTime": STAMP}],
            "isBackfilled": False,
        },
    ),
    (EventType.OBJECT_PRESENT, {"state": "PRESENT"}, {"state": "PRESENT"}),
    (EventType.WATER_PRESENT, {"state": "NOT_PRESENT"}, {"state": "NOT_PRESENT"}),
    (EventType.MOTION, {"state": "NO_MOTION_DETECTED"}, {"state": "NO_MOTION_DETECTED"}),
    (EventType.CONTACT, {"state": "OPEN"}, {"state": "OPEN"}),
    (EventType.DESK_OCCUPANCY, {"state": "OCCUPIED"}, {"state": "OCCUPIED", "remarks": []}),
    (EventType.PROBE_WIRE_STATUS, {"state": "THREE_WIRE"}, {"state": "THREE_WIRE"}),
    (EventType.OBJECT_PRESENT_COUNT, {"total": 7}, {"total": 7}),
    (EventType.TOUCH_COUNT, {"total": 0}, {"total": 0}),
    (EventType.CO2, {"ppm": 570}, {"ppm": 570}),
    (EventType.PRESSURE, {"pascal": 101325.5}, {"pascal": 101325.5}),
    (
        EventType.NETWORK_STATUS,
        {
            "signalStrength": 50,
            "rssi": -70,
            "cloudConnectors": [{"id": "c", "signalStrength": 50, "rssi": -70}],
            "transmissionMode": "HIGH_POWER_BOOST_MODE",
        },
        {
            "signalStrength": 50,
            "rssi": -70,
            "cloudConnectors": [{"id": "c", "signalStrength": 50, "rssi": -70}],
            "transmissionMode": "HIGH_POWER_BOOST_MODE",
        },
    ),
    (EventType.BATTERY_STATUS, {"percentage": 100}, {"percentage": 100}),
    (
        EventType.CONNECTION_STATUS,
        {"connection": "ETHERNET", "available": ["CELLULAR"]},
        {"connection": "ETHERNET", "available": ["CELLULAR"]},
    ),
    (
        EventType.ETHERNET_STATUS,
        {"macAddress": "aa", "ipAddress": "::1", "errors": [{"code": 407, "message": "proxy"}]},
        {"macAddress": "aa", "ipAddress": "::1", "errors": [{"code": 407, "message": "proxy"}]},
    ),
    (EventType.CELLULAR_STATUS, {"signalStrength": 80}, {"signalStrength": 80, "errors": []}),
]


@pytest.mark.parametrize(("event_type", "given_data", "stored"), GOOD, ids=lambda value: str(value)[:20])
def test_every_type_is_stored_with_all_its_members(
    event_type: EventType, given_data: dict[str, Any], stored: dict[str, Any]
) -> None:
    """What a type promises is there, update time first, whatever its sender left out; the rest is as it was sent."""
    made = typed_events.read(event_type, given_data, NOW)
    assert msgspec.json.decode(made.data) == {event_type: {"updateTime": STAMP, **stored}}
    assert list(msgspec.json.decode(made.data)[event_type]) == ["updateTime", *stored]
    assert made.ts == NOW
    assert typed_events.reported(event_type, made.data.decode()).encode() == msgspec.json.encode(
        {"updateTime": STAMP, **stored}
    )


def test_the_cases_above_know_every_type() -> None:
    """A type that is added is tested."""
    assert {case[0] for case in GOOD} == set(typed_events.TYPES)


@pytest.mark.parametrize(
    ("event_type", "data"),
    [
        (EventType.TEMPERATURE, {}),
        (EventType.TEMPERATURE, {"value": "21"}),
        (EventType.TEMPERATURE, {"value": True}),
        (EventType.TEMPERATURE, {"value": None}),
        (EventType.TEMPERATURE, {"value": 10**30}),
        (EventType.TEMPERATURE, {"value": 1, "samples": [{"value": 1}]}),
        (EventType.TEMPERATURE, {"value": 1, "samples": [{"value": 1, "sampleTime": "2030-01-01T00:00:00Z"}]}),
        (EventType.HUMIDITY, {"relativeHumidity": 1}),
        (EventType.HUMIDITY, {"temperature": 1, "relativeHumidity": 101}),
        (EventType.CONTACT, {"state": "AJAR"}),
        (EventType.OBJECT_PRESENT, {"state": "present"}),
        (EventType.PROBE_WIRE_STATUS, {"state": "two wire"}),
        (EventType.TOUCH_COUNT, {"total": -1}),
        (EventType.TOUCH_COUNT, {"total": 1.5}),
        (EventType.CO2, {"ppm": -1}),
        (EventType.BATTERY_STATUS, {"percentage": 101}),
        (EventType.NETWORK_STATUS, {"signalStrength": 1, "cloudConnectors": [{}]}),
        (EventType.ETHERNET_STATUS, {"macAddress": "a\0", "ipAddress": ""}),
        (EventType.DESK_OCCUPANCY, {"state": "OCCUPIED", "remarks": ["x" * 256]}),
        (EventType.TOUCH, {"updateTime": "yesterday"}),
        (EventType.TOUCH, {"updateTime": 7}),
        (EventType.TOUCH, {"updateTime": "2026-02-11T12:42:14Z"}),
        (EventType.TOUCH, {"updateTime": "1969-12-31T23:59:59Z"}),
        (EventType.TOUCH, {"updateTime": "0001-01-01T00:00:00+10:00"}),
    ],
    ids=str,
)
def test_what_does_not_fit_its_type_is_refused(event_type: EventType, data: dict[str, Any]) -> None:
    """Missing members, wrong types, values out of range, times that cannot be."""
    with pytest.raises(EventError):
        typed_events.read(event_type, data, NOW)


def test_what_the_public_client_publishes_is_understood() -> None:
    """It sends gateways in snake case and without their RSSI, and reads them back with it."""
    sent = {"signalStrength": 9, "cloud_connectors": [{"id": "c", "signalStrength": 9}]}
    made = typed_events.read(EventType.NETWORK_STATUS, sent, NOW)
    gateways = msgspec.json.decode(made.data)["networkStatus"]["cloudConnectors"]
    assert gateways == [{"id": "c", "signalStrength": 9, "rssi": None}]


@given(
    st.datetimes(min_value=datetime(1971, 1, 1), max_value=datetime(2026, 2, 10), timezones=st.just(UTC)),
    st.timedeltas(min_value=timedelta(hours=-14), max_value=timedelta(hours=14)),
)
def test_times_are_written_in_utc_with_microseconds(at: datetime, offset: timedelta) -> None:
    """Whatever zone they were told in, and also when they have none."""
    minutes = int(offset.total_seconds() // 60)
    local = at + timedelta(minutes=minutes)
    zone = f"{'-' if minutes < 0 else '+'}{abs(minutes) // 60:02}:{abs(minutes) % 60:02}"
    told = local.strftime("%Y-%m-%dT%H:%M:%S.%f") + zone
    made = typed_events.read(EventType.TOUCH, {"updateTime": told}, NOW)
    assert made.ts == at
    assert typed_events.reported("touch", made.data.decode()) == at.strftime('{"updateTime":"%Y-%m-%dT%H:%M:%S.%fZ"}')


@given(
    st.sampled_from(list(typed_events.TYPES)),
    st.dictionaries(
        st.sampled_from(["value", "state", "total", "samples", "updateTime", "signalStrength", "remarks", "errors"]),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=40),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
            max_leaves=6,
        ),
    ),
)
def test_anything_is_either_refused_or_read_again_as_it_was_stored(event_type: EventType, data: dict[str, Any]) -> None:
    """Nothing breaks the reader, and what it makes it would take again and make the same of."""
    try:
        made = typed_events.read(event_type, data, NOW)
    except EventError:
        return
    again = typed_events.read(event_type, msgspec.json.decode(made.data)[event_type], NOW)
    assert again == made


def test_device_types_emit_their_own_events_and_unknown_ones_any() -> None:
    """A temperature sensor tells no CO2; a vendor's own type may tell what it wants, but only what sensors tell."""
    assert typed_events.fits("temperature", EventType.TEMPERATURE)
    assert typed_events.fits("temperature", EventType.TOUCH)
    assert not typed_events.fits("temperature", EventType.CO2)
    assert not typed_events.fits("ccon", EventType.BATTERY_STATUS)
    assert typed_events.fits("generic", EventType.CO2)
    assert typed_events.fits("thermostat", EventType.TEMPERATURE)
    for event_type in (EventType.TELEMETRY, EventType.LABELS_CHANGED, EventType.DEVICE_CLAIMED):
        assert not typed_events.fits("generic", event_type)
