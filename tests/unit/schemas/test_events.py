"""Event types are listed once; every other list of them agrees."""

import re
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import msgspec
import pytest

from schemas import events, typed_events
from schemas.events import EventType, Kind
from schemas.life_cycle import (
    LIFE_CYCLE,
    CommandUpdated,
    DeviceDeleted,
    DeviceRegistered,
    LabelsChanged,
    LifeCycle,
)

ID = UUID("01234567-89ab-7def-8123-456789abcdef")
AT = datetime(2026, 2, 10, 12, 42, 13, tzinfo=UTC)


def test_every_event_type_has_one_struct_as_its_kind_asks_for() -> None:
    """What a sensor tells has a typed event, what is done to a device a life-cycle event; nothing has both."""
    assert set(typed_events.TYPES) == set(events.of_kind(Kind.REPORTED))
    assert set(LIFE_CYCLE) == set(events.of_kind(Kind.LIFE_CYCLE))
    assert events.of_kind(Kind.MESSAGE) == (EventType.TELEMETRY,)
    assert len(LIFE_CYCLE) == len(LifeCycle.__subclasses__())


def test_every_reported_type_is_one_that_some_device_emits_and_is_remembered() -> None:
    """And therefore synchronized: the newest of each reported type is what a receiver that begins anew lacks."""
    emitted = {event_type for types in typed_events.DEVICE_TYPES.values() for event_type in types}
    assert emitted == set(events.of_kind(Kind.REPORTED))
    assert all(event_type.synchronized for event_type in events.of_kind(Kind.REPORTED))


def test_what_is_remembered_beside_what_devices_report() -> None:
    """The changes that say how a device stands now; a message is remembered by its state. A new type has to decide."""
    assert events.REMEMBERED - set(events.of_kind(Kind.REPORTED)) == {
        "statusChanged",
        "configChanged",
        "deviceClaimed",
        "firmwareUpdated",
    }


@pytest.mark.parametrize(
    ("told", "data"),
    [
        (DeviceDeleted(), b'{"deviceDeleted":{"updateTime":"2026-02-10T12:42:13.000000Z"}}'),
        (
            CommandUpdated(command_id=ID, name="reboot", status="in_progress", message=None),
            b'{"commandUpdated":{"updateTime":"2026-02-10T12:42:13.000000Z","commandId":"%b","name":"reboot",'
            b'"status":"in_progress","message":null}}' % str(ID).encode(),
        ),
        (
            DeviceRegistered(parent_id=None, space_id=ID),
            b'{"deviceRegistered":{"updateTime":"2026-02-10T12:42:13.000000Z","parentId":null,"spaceId":"%b"}}'
            % str(ID).encode(),
        ),
        (DeviceRegistered(), b'{"deviceRegistered":{"updateTime":"2026-02-10T12:42:13.000000Z"}}'),
        (LabelsChanged(added={"a": "b"}, modified={}, removed=[]), b'{"added":{"a":"b"},"modified":{},"removed":[]}'),
    ],
)
def test_the_data_of_a_life_cycle_event(told: LifeCycle, data: bytes) -> None:
    """Under the name of its type with its time first, except labels, which stand alone."""
    assert told.data(AT) == data
    assert msgspec.json.decode(data)


def test_every_life_cycle_event_is_made_by_somebody() -> None:
    """A type with a struct that no change records would be promised and never come."""
    root = Path(__file__).parent.parent.parent.parent
    files = [path for room in ("gateway", "workers", "schemas") for path in (root / room).rglob("*.py")]
    sources = [path.read_text() for path in files if path.name != "life_cycle.py"]
    made = re.compile(r"\b(" + "|".join(struct.__name__ for struct in LIFE_CYCLE.values()) + r")(?:\.\w+)?\(")
    found = {name for source in sources for name in made.findall(source)}
    assert found == {struct.__name__ for struct in LIFE_CYCLE.values()}
