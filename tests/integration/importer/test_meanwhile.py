"""What people change while a list is applied stays as they want it."""

import asyncio
from typing import Any
from uuid import UUID

import pytest
from imports import Imports
from owners import Owner, owner

from workers.importer import diff

LEFT = ["here", "renamed", "back", *(f"d{n}" for n in range(20))]


async def _ready(imports: Imports) -> tuple[str, dict[str, UUID]]:
    """A connector whose next list renames one device, excludes one and restores one; its devices."""
    imports.cloud.has(*LEFT, "gone")
    connector = await imports.connector()
    await imports.sync(connector)
    imports.cloud.has(*LEFT[:2], *LEFT[3:], "gone")
    await imports.sync(connector)
    devices = {
        name: UUID(device["device_id"]) for name, device in (await imports.devices(connector, per_page=100)).items()
    }
    imports.cloud.has(*LEFT)
    imports.cloud.devices[1]["name"] = "The vendor's new name"
    imports.cloud.devices[2]["serial"] = "S-new"
    await imports.outbox()
    return connector, devices


def _meanwhile(monkeypatch: pytest.MonkeyPatch, change: Any) -> None:
    """Make a change when the list was compared and is about to be applied."""
    real = diff.apply

    async def apply(*arguments: Any) -> Any:
        await change()
        return await real(*arguments)

    monkeypatch.setattr(diff, "apply", apply)


@pytest.mark.parametrize("name", ["renamed", "gone", "back"])
async def test_a_device_that_its_owner_deletes_meanwhile_stays_deleted(
    imports: Imports, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Neither missing nor restored, whatever the list says of it; and nothing is told of it any more."""
    connector, devices = await _ready(imports)

    async def delete() -> None:
        await imports.acme.call("DELETE", f"/devices/{devices[name]}")
        await imports.outbox()

    _meanwhile(monkeypatch, delete)
    run = await imports.sync(connector)
    assert run["error"] is None
    found = (await imports.devices(connector, per_page=100))[name]
    assert (found["state"], found["reason"]) == ("excluded", "user_deleted")
    assert name not in [vendor_id for _, vendor_id in await imports.outbox()]
    assert (run["renamed"], run["excluded"], run["restored"]) == (name != "renamed", name != "gone", name != "back")
    monkeypatch.undo()
    imports.cloud.has(*LEFT, "gone")
    await imports.sync(connector)
    assert (await imports.devices(connector, per_page=100))[name]["reason"] == "user_deleted"


async def _given_away(imports: Imports, globex: Owner, device: UUID) -> None:
    await imports.pool.execute(
        "UPDATE devices SET organization_id = $2, project_id = $3, space_id = $4 WHERE id = $1",
        device,
        globex.organization_id,
        globex.project_id,
        globex.space_id,
    )


@pytest.mark.parametrize("name", ["renamed", "gone", "back"])
async def test_a_device_that_goes_to_another_organization_meanwhile_is_that_ones_alone(
    imports: Imports, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Its new owner sees neither a name nor a number of the vendor's, and no event of the list."""
    connector, devices = await _ready(imports)
    globex = await owner(imports.edge, "Globex")

    async def give_away() -> None:
        await _given_away(imports, globex, devices[name])
        await imports.outbox()

    _meanwhile(monkeypatch, give_away)
    assert (await imports.sync(connector))["error"] is None
    device = await globex.call("GET", f"/devices/{devices[name]}")
    assert (device["name"], device["sn"]) == (name.title(), None)
    assert await imports.pool.fetchval("SELECT count(*) FROM event_outbox WHERE device_id = $1", devices[name]) == 0
    assert name not in await imports.devices(connector, per_page=100)


async def test_what_its_owner_edits_meanwhile_stays_edited(imports: Imports, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name, and a place: the list follows what was, not what is; and tells nothing that did not happen."""
    imports.cloud.devices = [
        {"id": "one", "name": "One", "space": "Oslo"},
        {"id": "two", "name": "Two", "space": "Oslo"},
    ]
    connector = await imports.connector()
    await imports.acme.call("PATCH", f"/connectors/{connector}", {"follow_spaces": True})
    await imports.sync(connector)
    devices = {name: device["device_id"] for name, device in (await imports.devices(connector)).items()}
    await imports.outbox()
    imports.cloud.devices[0] |= {"name": "Uno", "space": "Rome"}

    async def edit() -> None:
        await imports.acme.call("PATCH", f"/devices/{devices['one']}", {"name": "Mine"})
        await imports.acme.call("POST", f"/devices/{devices['one']}/move", {"space_id": str(imports.acme.space_id)})
        await imports.outbox()

    _meanwhile(monkeypatch, edit)
    assert (await imports.sync(connector))["error"] is None
    device = await imports.acme.call("GET", f"/devices/{devices['one']}")
    assert (device["name"], device["space"]["id"]) == ("Mine", str(imports.acme.space_id))
    assert await imports.outbox() == []


async def test_a_device_that_its_owner_lets_in_again_meanwhile_is_made_by_the_next_list(
    imports: Imports, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was deleted, comes under a new id, and is restored while that list is applied."""
    imports.cloud.has("one", serial="S")
    imports.cloud.devices.append({"id": "two", "name": "Two"})
    connector = await imports.connector()
    await imports.sync(connector)
    device = (await imports.devices(connector))["one"]["device_id"]
    await imports.acme.call("DELETE", f"/devices/{device}")
    imports.cloud.devices[0]["id"] = "new"

    async def restore() -> None:
        await imports.acme.call("POST", f"/connectors/{connector}/devices/one/restore")

    _meanwhile(monkeypatch, restore)
    assert (await imports.sync(connector))["error"] is None
    assert set(await imports.devices(connector)) == {"two"}
    monkeypatch.undo()
    assert (await imports.sync(connector))["created"] == 1
    assert (await imports.devices(connector))["new"]["device_id"] != device


async def test_whoever_deletes_a_device_that_is_being_applied_waits_and_then_has_his_way(
    imports: Imports, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between any two writes of the run."""
    connector, devices = await _ready(imports)
    async with imports.pool.acquire() as other:
        real = diff._exclude

        async def exclude(*arguments: Any) -> None:
            await real(*arguments)
            await other.execute("SET lock_timeout = '100ms'")
            for name in ("renamed", "gone", "back"):
                with pytest.raises(Exception, match="lock timeout"):
                    await other.execute("UPDATE devices SET deleted_at = now() WHERE id = $1", devices[name])

        monkeypatch.setattr(diff, "_exclude", exclude)
        assert (await imports.sync(connector))["error"] is None
        await other.execute("RESET lock_timeout")
    await imports.acme.call("DELETE", f"/devices/{devices['gone']}")
    assert (await imports.devices(connector, per_page=100))["gone"]["reason"] == "user_deleted"


async def test_the_project_is_locked_before_its_devices(imports: Imports) -> None:
    """As by whoever changes a space and tells the devices in it: neither waits for the other in a circle."""
    imports.cloud.has("one")
    connector = await imports.connector()
    await imports.sync(connector)
    device_id = (await imports.devices(connector))["one"]["device_id"]
    imports.cloud.has("one", "two")
    imports.cloud.devices[0]["name"] = "Renamed"
    async with imports.pool.acquire() as connection, connection.transaction():
        await connection.execute("SELECT FROM projects FOR NO KEY UPDATE")
        syncing = asyncio.create_task(imports.sync(connector))
        while not await connection.fetchval(
            "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND pg_backend_pid() = ANY(pg_blocking_pids(pid)))"
        ):
            assert not syncing.done(), syncing
        await connection.execute("SELECT FROM devices WHERE id = $1 FOR NO KEY UPDATE NOWAIT", device_id)
    assert (await syncing)["error"] is None
