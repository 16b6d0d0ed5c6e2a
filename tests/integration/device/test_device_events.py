"""Events that devices tell in their makers' words. Contract: "Device events" and POST `/v1/devices/{id}/events`."""

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from fleets import Fleet
from flushing import store_all
from owners import Owner, outbox
from projects import account_of
from webhooks import Project, Receiver, until

from schemas.events import EventType
from schemas.redis import Redis

WHOLE = {
    "name": "door_opened",
    "category": "access",
    "int_key_1": 7,
    "int_key_2": -(2**63),
    "string_key_1": "north",
    "string_key_2": "x" * 255,
}


async def test_an_event_is_kept_in_the_log_with_the_time_that_the_device_tells(
    edge: Any, fleet: Fleet, acme: Owner, redis_client: Redis
) -> None:
    """Kept in the event log as `deviceEvent`: shown in history, and a type that streams and webhooks may ask for."""
    unit = await fleet.unit(claimed=True)
    at = datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=5)
    assert await unit.ask("POST", "/events", WHOLE | {"timestamp": at.isoformat()}) == (200, {"status": True})
    assert await unit.call("POST", "/events", {"name": "n", "category": "c", "int_key_1": None}) == {"status": True}
    await store_all(edge, redis_client)
    account = await account_of(acme, "project.developer")
    project = f"/v2/projects/{acme.project_id}"
    _, found = await account.ask("GET", f"{project}/devices/{unit.id}/events?event_types=deviceEvent")
    newest, told = found["events"]
    stamp = at.strftime("%Y-%m-%dT%H:%M:%S.000000Z")
    assert told["timestamp"] == stamp
    assert told["data"]["deviceEvent"] == {
        "updateTime": stamp,
        "name": "door_opened",
        "category": "access",
        "intKey1": 7,
        "intKey2": -(2**63),
        "stringKey1": "north",
        "stringKey2": "x" * 255,
    }
    assert set(newest["data"]["deviceEvent"]) == {"updateTime", "name", "category"}
    connector = {"httpConfig": {"url": "https://receiver.example/"}, "events": ["deviceEvent"]}
    status, made = await account.ask("POST", f"{project}/dataconnectors", connector)
    assert (status, made["events"]) == (200, ["deviceEvent"])
    assert not EventType.DEVICE_EVENT.synchronized


async def test_an_event_goes_out_to_the_webhooks_that_ask_for_it(
    edge: Any, fleet: Fleet, acme: Owner, redis_client: Redis, dsn: str
) -> None:
    """In the device's own words and with its own time; another connector of the project hears nothing of it."""
    unit = await fleet.unit(claimed=True)
    await store_all(edge, redis_client)
    project = Project(acme.pool, acme.organization_id, acme.project_id, settings_dsn=dsn)
    at = datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=5)
    async with Receiver() as receiver, project.dispatcher():
        await project.connector(f"{receiver.url}/others", event_types=["touch"])
        asking = await project.connector(receiver.url, event_types=["deviceEvent"])
        await unit.call("POST", "/events", WHOLE | {"timestamp": at.isoformat()})
        await store_all(edge, redis_client)
        ledger = await until(lambda: project.settled(asking))
        assert (ledger.accepted, ledger.delivered) == (1, 1)
        [received] = receiver.received
        event = msgspec.json.decode(received.body)["event"]
        assert (received.path, event["eventType"]) == ("/hook", "deviceEvent")
        stamp = at.strftime("%Y-%m-%dT%H:%M:%S.000000Z")
        told = {"updateTime": stamp, "name": "door_opened", "category": "access", "intKey1": 7, "intKey2": -(2**63)}
        told |= {"stringKey1": "north", "stringKey2": "x" * 255}
        assert (event["timestamp"], event["data"]) == (stamp, {"deviceEvent": told})


async def test_of_an_unclaimed_device_events_are_accepted_dropped_and_counted(
    edge: Any, fleet: Fleet, acme: Owner
) -> None:
    """Of an unclaimed device accepted and dropped, and counted so."""
    unit = await fleet.unit()
    taken = edge.services.metrics.device_events
    assert await unit.call("POST", "/events", WHOLE) == {"status": True}
    assert await outbox(acme.pool) == []
    assert (taken.labels("dropped")._value.get(), taken.labels("stored")._value.get()) == (1, 0)
    await unit.claim()
    await unit.call("POST", "/events", WHOLE)
    assert (taken.labels("dropped")._value.get(), taken.labels("stored")._value.get()) == (1, 1)


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"name": None}, "Name"),
        ({"name": ""}, "Name"),
        ({"category": "x" * 256}, "Category"),
        ({"int_key_1": 2**63}, "Int key 1"),
        ({"int_key_2": "7"}, "Int key 2"),
        ({"int_key_2": True}, "Int key 2"),
        ({"string_key_1": "x" * 256}, "String key 1"),
        ({"string_key_2": "a\0"}, "String key 2"),
        ({"timestamp": "yesterday"}, "Timestamp"),
        ({"timestamp": True}, "Timestamp"),
        ({"timestamp": {"a": 1}}, "Timestamp"),
        ({"timestamp": 1e300}, "Timestamp"),
        ({"timestamp": "2999-01-01T00:00:00Z"}, "Timestamp is more than 24 hours in the future"),
    ],
)
async def test_what_is_no_event_is_refused_by_its_member(fleet: Fleet, wrong: dict[str, Any], text: str) -> None:
    """`name` and `category` are required, texts have at most 255 characters, integers 64 bits; 422 names the member."""
    unit = await fleet.unit()
    status, answer = await unit.ask("POST", "/events", WHOLE | wrong)
    assert status == 422
    assert answer["error"].replace("_", " ").startswith(text), answer


async def test_times_come_as_clients_write_them_and_unknown_members_are_ignored(fleet: Fleet, acme: Owner) -> None:
    """As those of telemetry: basic ISO 8601, seconds, milliseconds."""
    unit = await fleet.unit(claimed=True)
    await acme.pool.execute("DELETE FROM event_outbox")
    for stamp in ("20260504T120000Z", "2026-05-04T12:00+00", 1777896000, 1777896000000):
        assert await unit.call("POST", "/events", WHOLE | {"timestamp": stamp, "colour": "red"}) == {"status": True}
    moments = {row["ts"] for row in await acme.pool.fetch("SELECT ts FROM event_outbox")}
    assert moments == {datetime(2026, 5, 4, 12, tzinfo=UTC)}
