"""The importer as it runs: schedule, leases, previews, telemetry, and processes that die."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from aiohttp import web
from flushing import store_all
from imports import Imports
from owners import owner
from webhooks import until

from schemas import ids
from schemas.redis import Redis
from schemas.settings import WorkerSettings
from tests.conftest import MASTER_KEY, SHARDS
from workers.importer import importer as importers
from workers.importer import leases
from workers.importer.importer import Importer


def importer(imports: Imports, redis_client: Redis, dsn: str) -> Importer:
    """One worker's importer."""
    settings = WorkerSettings(
        postgres_dsn=dsn,
        redis_url="",
        master_key=MASTER_KEY,
        egress_allow="127.0.0.0/8",
        egress_http=True,
        manifests=str(imports.cloud.folder),
    )
    return Importer(settings, imports.pool, redis_client, SHARDS)


@pytest.fixture
async def running(imports: Imports, redis_client: Redis, dsn: str) -> Any:
    """Two importers beside each other."""
    stop = asyncio.Event()
    tasks = [asyncio.create_task(importer(imports, redis_client, dsn).run(stop)) for _ in range(2)]
    yield tasks
    stop.set()
    await asyncio.gather(*tasks)


async def test_the_first_sync_is_at_once_and_the_next_in_about_a_quarter_of_an_hour(
    imports: Imports, running: Any
) -> None:
    """With a jitter of a fifth; sync now does not wait. Of two workers one runs it."""
    imports.cloud.has("one")
    connector = await imports.connector()

    async def synced(count: int) -> Any:
        found = await imports.acme.call("GET", f"/connectors/{connector}/runs")
        done = [run for run in found["items"] if run["kind"] == "inventory" and run["finished_at"]]
        return len(done) >= count and done

    assert len(await until(lambda: synced(1))) == 1
    shown = await imports.shown(connector)
    wait = datetime.fromisoformat(shown["next_sync_at"]) - datetime.now(UTC)
    assert timedelta(minutes=11.9) < wait < timedelta(minutes=18.1)
    await imports.acme.call("POST", f"/connectors/{connector}/sync")
    assert len(await until(lambda: synced(2))) == 2


async def test_a_preview_shows_what_a_sync_would_do_and_changes_nothing(imports: Imports, running: Any) -> None:
    imports.cloud.has("a", "b", "c")
    connector = await imports.connector()
    await until(lambda: _active(imports, connector, 3))
    was = await imports.devices(connector)
    imports.cloud.devices = [{"id": "a", "name": "Renamed"}, {"id": "new", "name": "New"}, {"id": "b", "name": "B"}]
    run = await imports.acme.call("GET", f"/connectors/{connector}/preview")
    assert (run["kind"], run["created"], run["renamed"], run["excluded"]) == ("preview", 1, 1, 1)
    assert run["details"]["created"] == [{"vendor_id": "new", "name": "New"}]
    assert run["details"]["renamed"] == [{"vendor_id": "a", "was": "A", "name": "Renamed"}]
    assert run["details"]["excluded"] == [{"vendor_id": "c", "name": "C"}]
    assert await imports.devices(connector) == was


async def test_a_preview_is_asked_for_and_read_when_it_is_done(imports: Imports, running: Any) -> None:
    """Nobody waits for it, two who ask get one, and it is found among its kind."""
    imports.cloud.has("a")
    connector = await imports.connector()
    await until(lambda: _active(imports, connector, 1))
    imports.cloud.has("a", "b")
    begun = await imports.acme.call("POST", f"/connectors/{connector}/preview")
    assert (begun["kind"], begun["finished_at"]) == ("preview", None)
    path = f"/connectors/{connector}/runs"

    async def done() -> Any:
        return (await imports.acme.call("GET", f"{path}/{begun['id']}"))["finished_at"]

    await until(done)
    assert (await imports.acme.call("GET", f"{path}/{begun['id']}"))["created"] == 1
    found = await imports.acme.call("GET", path, kind="preview")
    assert [run["id"] for run in found["items"]] == [begun["id"]]
    assert {run["kind"] for run in (await imports.acme.call("GET", path, kind="inventory"))["items"]} == {"inventory"}
    for unknown in ("0", "x", "9" * 30, "%00"):
        assert (await imports.acme.call("GET", f"{path}/{unknown}"))[0] == 404


async def test_a_preview_that_waits_for_a_worker_serves_all_who_ask(imports: Imports) -> None:
    """However often somebody asks, a vendor is asked once."""
    connector = await imports.connector()
    first, second = [await imports.acme.call("POST", f"/connectors/{connector}/preview") for _ in range(2)]
    assert first["id"] == second["id"]
    assert first["started_at"] is None


async def _active(imports: Imports, connector: str, count: int) -> bool:
    return bool((await imports.shown(connector))["active_devices"] == count)


async def test_telemetry_takes_the_path_of_any_devices_telemetry(
    imports: Imports, running: Any, redis_client: Redis
) -> None:
    """Through the log into state and history."""
    imports.cloud.devices = [
        {"id": "warm", "name": "Warm", "online": True, "temperature": 21.5},
        {"id": "off", "name": "Off", "online": "Offline"},
        {"id": "odd", "name": "Odd", "online": None, "temperature": {"a": 1}},
        {"id": "mute", "name": "Mute"},
    ]
    connector = await imports.connector()
    await until(lambda: _ran(imports, connector, "telemetry"))
    run = next(run for run in (await _runs(imports, connector)) if run["kind"] == "telemetry")
    assert (run["found"], run["error"]) == (2, None)
    await store_all(imports.edge, redis_client)
    devices = await imports.devices(connector)
    warm = await imports.acme.call("GET", f"/devices/{devices['warm']['device_id']}")
    assert (warm["state"], warm["effective_status"]) == ({"temperature": 21.5, "status": "online"}, "ok")
    off = await imports.acme.call("GET", f"/devices/{devices['off']['device_id']}")
    assert off["effective_status"] == "offline"
    mute = await imports.acme.call("GET", f"/devices/{devices['mute']['device_id']}")
    assert mute["effective_status"] == "never_seen"


async def _runs(imports: Imports, connector: str) -> list[dict[str, Any]]:
    found = await imports.acme.call("GET", f"/connectors/{connector}/runs")
    return list(found["items"])


async def _ran(imports: Imports, connector: str, kind: str) -> bool:
    return any(run["kind"] == kind and run["finished_at"] for run in await _runs(imports, connector))


async def _stopped_in_mid_list(imports: Imports) -> tuple[str, asyncio.Event]:
    """A connector whose run waits for the second page, and what lets it go on."""
    reached, go = asyncio.Event(), asyncio.Event()

    async def wait(request: web.Request, _: int) -> None:
        if request.query.get("page") == "2" and not go.is_set():
            reached.set()
            await go.wait()

    imports.cloud.before = wait
    connector = await imports.connector()
    await asyncio.wait_for(reached.wait(), 20)
    return connector, go


@pytest.mark.parametrize("change", ["disable", "delete", "authorise"])
async def test_a_change_by_a_person_in_mid_list_voids_the_run(imports: Imports, running: Any, change: str) -> None:
    """What was being read is not applied; with new credentials it begins anew."""
    imports.cloud.has(*"abcdef")
    connector, go = await _stopped_in_mid_list(imports)
    if change == "disable":
        await imports.acme.call("POST", f"/connectors/{connector}/disable")
    elif change == "delete":
        await imports.acme.call("DELETE", f"/connectors/{connector}", name="Acme Cloud")
    else:
        await imports.authorise(connector, token=imports.cloud.token)
    go.set()
    if change == "authorise":
        await until(lambda: _active(imports, connector, 6))
        assert await imports.pool.fetchval("SELECT count(*) FROM devices") == 6
        return
    await _nobody_imports(imports)
    assert await imports.pool.fetchval("SELECT count(*) FROM devices") == 0
    if change == "disable":
        void = await imports.last_run(connector)
        assert (void["finished_at"] is not None, void["error"].split(":")[0]) == (True, "Cut off")


async def _nobody_imports(imports: Imports) -> None:
    free = "SELECT NOT EXISTS (SELECT FROM cloud_connectors WHERE lease_holder IS NOT NULL)"
    await until(lambda: imports.pool.fetchval(free))


@pytest.mark.parametrize("change", ["disable", "confirm", "authorise"])
async def test_a_change_by_a_person_does_not_wait_for_a_list_that_is_being_applied(
    imports: Imports, running: Any, change: str
) -> None:
    """However long that takes: the run is void, and what it had stored so far is gone."""
    imports.cloud.has(*"abcdef")
    async with imports.pool.acquire() as blocking, blocking.transaction():
        await blocking.execute("LOCK TABLE cloud_devices IN SHARE MODE")
        connector = await imports.connector()
        await until(lambda: imports.pool.fetchval(_APPLYING))
        if change == "confirm":
            await imports.pool.execute("UPDATE cloud_connectors SET held = $1", dict.fromkeys(_COUNTS, 0))
        if change == "authorise":
            await imports.authorise(connector, token="other")
        else:
            await imports.acme.call("POST", f"/connectors/{connector}/{change}")
        await until(lambda: _cut_off(imports, connector))
        assert await imports.pool.fetchval("SELECT count(*) FROM devices") == 0
    if change == "confirm":
        await until(lambda: _active(imports, connector, 6))
    await _nobody_imports(imports)


_APPLYING = """SELECT EXISTS (SELECT FROM pg_stat_activity WHERE application_name = 'fleetgate importer'
                                AND wait_event_type = 'Lock' AND datname = current_database())"""
_DELETING = """SELECT EXISTS (SELECT FROM pg_stat_activity WHERE application_name = 'fleetgate edge'
                                AND wait_event_type = 'Lock' AND datname = current_database())"""
_LEASE = "SELECT lease_until FROM cloud_connectors"
_COUNTS = ("found", "active", "created", "renamed", "excluded", "restored")


async def _cut_off(imports: Imports, connector: str) -> bool:
    return any((run["error"] or "").startswith("Cut off") for run in await _runs(imports, connector))


async def test_a_list_takes_as_long_to_apply_as_it_takes(
    imports: Imports, running: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lease is prolonged again and again meanwhile."""
    monkeypatch.setattr(importers, "GUARD_S", 0.05)
    imports.cloud.has(*"abcdef")
    async with imports.pool.acquire() as blocking, blocking.transaction():
        await blocking.execute("LOCK TABLE cloud_devices IN SHARE MODE")
        connector = await imports.connector()
        await until(lambda: imports.pool.fetchval(_APPLYING))
        for _ in range(3):
            lease = await imports.pool.fetchval(_LEASE)
            await until(lambda lease=lease: imports.pool.fetchval(f"SELECT ({_LEASE}) > $1", lease))
        assert await imports.pool.fetchval(_APPLYING)
    await until(lambda: _active(imports, connector, 6))
    assert [run["kind"] for run in await _runs(imports, connector)].count("inventory") == 1


async def test_deleting_a_connector_ends_the_commands_of_its_devices_aloud(imports: Imports) -> None:
    """As any other deletion of devices: commandUpdated before deviceDeleted, for all devices that it imported."""
    imports.cloud.has(*"ab")
    connector = await imports.connector()
    await imports.sync(connector)
    device_id = (await imports.devices(connector))["a"]["device_id"]
    await imports.acme.call(
        "POST", f"/models/{(await imports.acme.row(device_id))['model_id']}/commands", {"name": "blink"}
    )
    await imports.acme.call("POST", f"/devices/{device_id}/commands", {"command": "blink"})
    await imports.outbox()
    deleted = await imports.acme.call("DELETE", f"/connectors/{connector}", name="Acme Cloud")
    assert deleted == {"deleted_devices": 2}
    told = await imports.pool.fetch("SELECT type, device_id::text AS device FROM event_outbox ORDER BY id")
    assert [row["type"] for row in told if row["device"] == device_id] == ["commandUpdated", "deviceDeleted"]
    assert [row["type"] for row in told if row["device"] != device_id] == ["deviceDeleted"]


async def test_a_connector_deleted_while_its_list_is_applied_leaves_nothing(imports: Imports, running: Any) -> None:
    imports.cloud.has(*"abcdef")
    async with imports.pool.acquire() as blocking, blocking.transaction():
        await blocking.execute("LOCK TABLE cloud_devices IN SHARE MODE")
        connector = await imports.connector()
        await until(lambda: imports.pool.fetchval(_APPLYING))
        deleting = asyncio.ensure_future(imports.acme.call("DELETE", f"/connectors/{connector}", name="Acme Cloud"))
        await until(lambda: imports.pool.fetchval(_DELETING))
    assert (await deleting).keys() == {"deleted_devices"}
    assert await imports.acme.call("GET", f"/connectors/{connector}") == (404, "Connector not found")
    assert await imports.pool.fetchval("SELECT count(*) FROM devices WHERE deleted_at IS NULL") == 0


async def test_a_sync_that_is_asked_for_while_one_runs_is_not_forgotten(imports: Imports, running: Any) -> None:
    """The list may have been read before whatever made the person ask."""
    imports.cloud.has(*"abcdef")
    connector, go = await _stopped_in_mid_list(imports)
    await imports.acme.call("POST", f"/connectors/{connector}/sync")
    go.set()
    await until(lambda: imports.pool.fetchval("SELECT count(finished_at) = 2 FROM cloud_runs WHERE kind = 'inventory'"))


async def test_a_lease_outlives_its_worker_and_then_ends(imports: Imports) -> None:
    """A killed worker's connector is free when its lease has run out, and no sooner."""
    imports.cloud.has("one")
    connector = await imports.connector()
    await imports.claim(connector)
    other = ids.new_id()
    assert await leases.claim(imports.pool, other, 10) == []
    await imports.pool.execute("UPDATE cloud_connectors SET lease_until = now() - interval '1 ms'")
    assert [found.id for found in await leases.claim(imports.pool, other, 10)] == [connector]


async def test_tenants_do_not_see_each_others_connectors(imports: Imports) -> None:
    connector = await imports.connector()
    globex = await owner(imports.edge, "Globex")
    for method, path in (
        ("GET", ""),
        ("PATCH", ""),
        ("DELETE", ""),
        *(
            ("POST", f"/{verb}")
            for verb in ("enable", "disable", "regenerate_link", "reauthenticate", "sync", "confirm")
        ),
        ("GET", "/preview"),
        ("GET", "/runs"),
        ("GET", "/devices"),
        ("POST", "/devices/x/restore"),
    ):
        body = {} if method in ("POST", "PATCH") else None
        assert (await globex.call(method, f"/connectors/{connector}{path}", body))[0] == 404
    body = {"provider": "acme", "project_id": str(globex.project_id), "space_id": str(imports.acme.space_id)}
    body["settings"] = {"url": "https://x.example"}
    assert (await globex.call("POST", "/connectors", body))[0] == 422
    assert (await globex.call("GET", "/connectors"))["items"] == []
