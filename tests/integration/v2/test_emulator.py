"""Emulated devices: by the public client library, in both APIs, and every event it can publish."""

from datetime import UTC, datetime, timedelta
from typing import Any

import disruptive as dt
import pytest
from disruptive import errors
from disruptive.events import events as sdk_events
from flushing import store_all
from owners import Owner
from projects import account_of
from webhooks import Receiver, make_project, until

from gateway.stores.change import Change
from gateway.stores.devices import emulation
from schemas import ids, typed_events
from schemas.postgres import Pool
from schemas.redis import Redis

NOW = datetime.now(UTC).replace(microsecond=0)

PUBLISHED: dict[str, list[Any]] = {
    dt.Device.TOUCH: [dt.events.Touch(timestamp=NOW)],
    dt.Device.TEMPERATURE: [
        dt.events.Temperature(
            celsius=22.5,
            samples=[dt.events.TemperatureSample(celsius=22.5, timestamp=NOW)],
            is_backfilled=False,
            timestamp=NOW,
        ),
        dt.events.Temperature(celsius=-40),
        dt.events.ProbeWireStatus(state="THREE_WIRE"),
        dt.events.NetworkStatus(
            signal_strength=54,
            rssi=-77,
            transmission_mode="HIGH_POWER_BOOST_MODE",
            cloud_connectors=[dt.events.NetworkStatusCloudConnector("emulated", 54, -77)],
        ),
        dt.events.BatteryStatus(percentage=100),
    ],
    dt.Device.PROXIMITY: [dt.events.ObjectPresent(state="PRESENT")],
    dt.Device.HUMIDITY: [dt.events.Humidity(celsius=23, relative_humidity=76)],
    dt.Device.PROXIMITY_COUNTER: [dt.events.ObjectPresentCount(total=176)],
    dt.Device.TOUCH_COUNTER: [dt.events.TouchCount(total=469)],
    dt.Device.WATER_DETECTOR: [dt.events.WaterPresent(state="PRESENT")],
    dt.Device.CO2: [dt.events.Co2(ppm=568), dt.events.Pressure(pascal=98321)],
    dt.Device.MOTION: [dt.events.Motion(state="MOTION_DETECTED")],
    dt.Device.DESK_OCCUPANCY: [dt.events.DeskOccupancy(state="OCCUPIED", remarks=["SENSOR_BLOCKED"])],
    dt.Device.CONTACT: [dt.events.Contact(state="OPEN")],
    dt.Device.CLOUD_CONNECTOR: [
        dt.events.ConnectionStatus(connection="ETHERNET", available=["CELLULAR", "ETHERNET"]),
        dt.events.EthernetStatus(mac_address="f0:b5:b7:00:0a:08", ip_address="10.0.0.1"),
        dt.events.CellularStatus(signal_strength=80),
    ],
}


async def test_the_client_creates_reads_and_deletes_an_emulated_device(
    edge: Any, acme: Owner, redis_client: Redis
) -> None:
    """As its documentation shows; the organization API has it too, and its whole life is in the history."""
    developer, project = await account_of(acme, "project.developer"), str(acme.project_id)
    made = await developer.client(
        dt.Emulator.create_device,
        project,
        dt.Device.HUMIDITY,
        display_name="new-humidity-sensor",
        labels={"room-number": "99"},
    )
    assert (made.is_emulated, made.device_type, made.display_name) == (True, "humidity", "new-humidity-sensor")
    assert made.labels == {"room-number": "99", "name": "new-humidity-sensor"}
    assert made.raw["reported"] == dict.fromkeys(("humidity", "touch", "networkStatus", "batteryStatus"))
    again = await developer.client(dt.Device.get_device, made.device_id, project)
    assert again.raw == made.raw
    assert [device.device_id for device in await developer.client(dt.Device.list_devices, project)] == [made.device_id]
    assert (await developer.client(dt.Device.list_devices, project, query=made.device_id[3:12]))[0].raw == made.raw
    shown = (await acme.call("GET", "/devices"))["items"][0]
    assert ids.device_name(ids.UUID(shown["id"])) == made.device_id
    assert (shown["name"], shown["space"]["full_path"]) == ("new-humidity-sensor", "Unsorted")
    await developer.client(dt.Emulator.delete_device, made.device_id, project)
    for call in (dt.Device.get_device, dt.Emulator.delete_device):
        with pytest.raises(errors.NotFound):
            await developer.client(call, made.device_id, project)
    await store_all(edge, redis_client)
    history = await developer.client(dt.EventHistory.list_events, made.device_id, project)
    assert [event.event_type for event in history] == ["deviceDeleted", "deviceRegistered"]


async def test_the_client_publishes_every_event_it_knows(edge: Any, acme: Owner, redis_client: Redis) -> None:
    """From a device that emits it; it comes back in history and as reported, with what was published."""
    developer, project = await account_of(acme, "project.developer"), str(acme.project_id)
    known = {event.event_type for events in PUBLISHED.values() for event in events}
    assert known == set(typed_events.TYPES) == set(sdk_events.EVENT_TYPES) - {"labelsChanged"}
    for device_type, published in PUBLISHED.items():
        await redis_client.delete("-", *await redis_client.keys("{*}:account:*"))
        device = await developer.client(dt.Emulator.create_device, project, device_type, labels={})
        for event in published:
            await developer.client(dt.Emulator.publish_event, device.device_id, project, event)
        await store_all(edge, redis_client)
        history = await developer.client(
            dt.EventHistory.list_events, device.device_id, project, event_types=sdk_events.EVENT_TYPES
        )
        assert sorted(event.event_type for event in history) == sorted(event.event_type for event in published)
        newest = {event.event_type: event for event in reversed(history)}
        shown = await developer.client(dt.Device.get_device, device.device_id, project)
        for event_type, event in newest.items():
            assert shown.raw["reported"][event_type] == event.data.raw
        for event in published:
            back = [past.data for past in history if past.event_type == event.event_type]
            rewritten = ("cloud_connectors", "updateTime", "samples")
            given = {key: value for key, value in event.raw.items() if key not in rewritten}
            assert any(given.items() <= data.raw.items() for data in back), (event, back)
            assert event.timestamp is None or event.timestamp in [data.timestamp for data in back]


async def test_published_events_reach_receivers(
    edge: Any, acme: Owner, redis_client: Redis, pool: Pool, dsn: str
) -> None:
    """The same way as all others: an emulated touch is delivered, its body names device, labels and type."""
    receiver = Receiver()
    await receiver.start()
    project = await make_project(pool, dsn, devices=0)
    made_id = await _emulated(pool, project.organization_id, project.project_id)
    await project.connector(receiver.url, labels=["name"])
    async with pool.acquire() as connection, connection.transaction():
        changed = Change(connection, datetime.now(UTC))
        emulated = await emulation.lock(connection, project.project_id, made_id)
        assert emulated is not None
        event_type = typed_events.EventType.TOUCH
        emulation.publish(changed, emulated, event_type, typed_events.read(event_type, {}, changed.moment))
        await changed.append_events()
    async with project.dispatcher():
        await store_all(edge, redis_client)
        await until(lambda: any(b'"touch"' in one.body for one in receiver.received))
    bodies = [one.body.decode() for one in receiver.received]
    name = ids.device_name(made_id)
    [touch] = [body for body in bodies if '"eventType":"touch"' in body]
    assert f'"targetName":"projects/{project.project_id}/devices/{name}"' in touch
    assert f'"labels":{{"name":"Lab"}},"metadata":{{"deviceId":"{name}"' in touch
    assert touch.endswith('"deviceType":"touch","productNumber":""}}')
    await receiver.stop()


async def _emulated(pool: Pool, organization_id: Any, project_id: Any) -> Any:
    async with pool.acquire() as connection, connection.transaction():
        changed = Change(connection, datetime.now(UTC))
        made_id = await emulation.create(changed, organization_id, project_id, "touch", {"name": "Lab"}, 4)
        await changed.append_events()
        return made_id


def base(owner: Owner, rest: str = "") -> str:
    return f"/emulator/v2/projects/{owner.project_id}/devices{rest}"


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"touch": {}, "temperature": {"value": 1}},
        {"labelsChanged": {"added": {}, "modified": {}, "removed": []}},
        {"telemetry": {"status": "online"}},
        {"deviceDeleted": {}},
        {"ping": {}},
        {"x" * 5000: {}},
        {"\0": {}},
        {"co2": {"ppm": 1}},
        {"temperature": {}},
        {"temperature": {"value": "1"}},
        {"temperature": []},
        {"temperature": None},
        {"touch": {"updateTime": (NOW + timedelta(hours=25)).isoformat()}},
        [],
    ],
    ids=lambda body: str(body)[:40],
)
async def test_what_cannot_be_published_is_refused(acme: Owner, body: Any) -> None:
    """Types that do not fit the device or that nobody publishes, data that does not fit its type: 400, and no event."""
    developer = await account_of(acme, "project.developer")
    _, device = await developer.ask("POST", base(acme), {"type": "temperature"})
    name = device["name"].rpartition("/")[2]
    await acme.pool.execute("DELETE FROM event_outbox")
    status, answer = await developer.ask("POST", base(acme, f"/{name}:publish"), body)
    assert (status, answer["code"]) == (400, 400)
    assert await acme.pool.fetchval("SELECT count(*) FROM event_outbox") == 0


async def test_only_emulated_devices_of_the_project_are_emulated(acme: Owner, globex: Owner) -> None:
    """A real device tells for itself; another's is not found. Readers may look, not touch."""
    real = await acme.device()
    developer, user = await account_of(acme, "project.developer"), await account_of(acme, "project.user")
    _, device = await developer.ask("POST", base(acme), {"type": "touch"})
    name = device["name"].rpartition("/")[2]
    other = await account_of(globex, "project.developer")
    _, theirs = await other.ask("POST", base(globex), {"type": "touch"})
    for unknown in (real, theirs["name"].rpartition("/")[2], "x", "emu" + "0" * 20):
        assert (await developer.ask("GET", base(acme, f"/{unknown}")))[0] == 404
        assert (await developer.ask("POST", base(acme, f"/{unknown}:publish"), {"touch": {}}))[0] == 404
        assert (await developer.ask("DELETE", base(acme, f"/{unknown}")))[0] == 404
    assert (await user.ask("GET", base(acme, f"/{name}"))) == (200, device)
    assert (await user.ask("GET", base(acme))) == (200, {"devices": [device], "nextPageToken": ""})
    assert (await user.ask("POST", base(acme, f"/{name}:publish"), {"touch": {}}))[0] == 403
    assert (await user.ask("POST", base(acme), {"type": "touch"}))[0] == 403
    assert (await user.ask("DELETE", base(acme, f"/{name}")))[0] == 403
    assert (await developer.ask("POST", base(acme, f"/{name}:publish"), {"touch": {}})) == (200, {})
    assert await acme.call("DELETE", f"/devices/{ids.device_of_name(name)}") == {"success": True}
    assert (await developer.ask("POST", base(acme, f"/{name}:publish"), {"touch": {}}))[0] == 404


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"type": "generic"},
        {"type": "x\0"},
        {"type": "touch", "labels": {"a": 1}},
        {"type": "touch", "labels": {"": ""}},
        {"type": "touch", "labels": {"a": "\0"}},
        {"type": "touch", "labels": {str(n): "" for n in range(101)}},
    ],
    ids=lambda body: str(body)[:40],
)
async def test_a_device_that_makes_no_sense_is_not_created(acme: Owner, body: Any) -> None:
    """400, and nothing is left of it."""
    developer = await account_of(acme, "project.developer")
    assert (await developer.ask("POST", base(acme), body))[0] == 400
    assert await acme.pool.fetchval("SELECT count(*) FROM devices") == 0


async def test_emulated_devices_are_bounded_and_paged(acme: Owner, monkeypatch: pytest.MonkeyPatch) -> None:
    """A project has so many of them; a list comes page by page."""
    monkeypatch.setattr(emulation, "DEVICES_MAX", 3)
    developer = await account_of(acme, "project.developer")
    for _ in range(3):
        assert (await developer.ask("POST", base(acme), {"type": "touch"}))[0] == 200
    assert (await developer.ask("POST", base(acme), {"type": "motion"}))[0] == 409
    await acme.device()
    _, first = await developer.ask("GET", base(acme, "?page_size=2"))
    _, second = await developer.ask("GET", base(acme, f"?page_size=2&page_token={first['nextPageToken']}"))
    assert (len(first["devices"]), len(second["devices"]), second["nextPageToken"]) == (2, 1, "")


async def test_the_name_of_the_emulated_model_may_be_taken(acme: Owner) -> None:
    """By a model of the tenant's own, which is not made into something else."""
    await acme.pool.execute("UPDATE device_models SET name = 'Emulated touch' WHERE id = $1", acme.model_id)
    developer = await account_of(acme, "project.developer")
    status, answer = await developer.ask("POST", base(acme), {"type": "touch"})
    assert (status, "Emulated touch" in answer["error"]) == (409, True)
