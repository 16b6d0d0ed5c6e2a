"""A device fetches commands and reports on them."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from fleets import Fleet
from owners import Owner, outbox


async def send(acme: Owner, device_id: str, **options: Any) -> str:
    answer = await acme.call("POST", f"/devices/{device_id}/commands", {"command": "reboot", **options})
    return str(answer["id"])


async def test_commands_come_first_in_first_out_and_one_at_a_time(fleet: Fleet, acme: Owner) -> None:
    """The same one until it has ended; asking changes no status; the answers say when none is left."""
    unit = await fleet.unit(claimed=True)
    assert await unit.call("GET", "/command") == {}
    assert (await unit.waits())["command"] is False
    first, second = await send(acme, unit.id), await send(acme, unit.id, command="tune", extra_params={"level": 3})
    assert (await unit.waits())["command"] is True
    expected = {"id": first, "device_id": unit.id, "status": "pending", "name": "reboot", "parameters": {}}
    assert [await unit.call("GET", "/command") for _ in range(2)] == [expected, expected]
    assert await unit.call("POST", "/command", {"id": first, "status": "in_progress"}) == {"success": True}
    assert await unit.call("GET", "/command") == expected | {"status": "in_progress"}
    assert (await unit.waits())["command"] is True
    await unit.call("POST", "/command", {"id": first, "message": "up again"})
    assert (await unit.call("GET", "/command"))["parameters"] == {"level": 3}
    await unit.call("POST", "/command", {"id": second, "status": "failed"})
    assert await unit.call("GET", "/command") == {}
    assert (await unit.waits())["command"] is False
    ended = (await acme.call("GET", f"/devices/{unit.id}/commands"))["items"]
    assert {(item["id"], item["status"], item["message"]) for item in ended} == {
        (first, "done", "up again"),
        (second, "failed", None),
    }
    told = [kind for kind, _ in await outbox(acme.pool)].count("commandUpdated")
    assert told == 5  # two sent, one begun, two ended


async def test_a_final_status_may_be_told_twice_but_not_changed(fleet: Fleet, acme: Owner) -> None:
    """A device that lost the answer just tells it again."""
    unit = await fleet.unit(claimed=True)
    command_id = await send(acme, unit.id)
    for status, wanted in (
        ("in-progress", (200, {"success": True})),
        ("error", (200, {"success": True})),
        ("failed", (200, {"success": True})),
        ("done", (404, {"error": "no command"})),
        ("in_progress", (404, {"error": "no command"})),
        ("finished", (422, {"error": "invalid status: done/in-progress/failed"})),
    ):
        assert await unit.ask("POST", "/command", {"id": command_id, "status": status}) == wanted, status


async def test_a_command_is_its_devices_own(fleet: Fleet, acme: Owner) -> None:
    """Another's, an unknown, a cancelled and a scheduled one are all the same: no command."""
    unit, other = await fleet.unit(claimed=True), await fleet.unit(claimed=True)
    foreign, cancelled = await send(acme, other.id), await send(acme, unit.id)
    scheduled = await send(acme, unit.id, scheduled_at=(datetime.now(UTC) + timedelta(days=1)).isoformat())
    await acme.call("DELETE", f"/devices/{unit.id}/commands/{cancelled}")
    own = await send(acme, unit.id)
    for command_id in (foreign, cancelled, scheduled, "7", unit.id, own.replace("-", "")):
        assert await unit.ask("POST", "/command", {"id": command_id}) == (404, {"error": "no command"})
    assert (await unit.call("GET", "/command"))["id"] == own


async def test_a_parent_sees_what_waits_for_its_children(fleet: Fleet, acme: Owner) -> None:
    """The next one of each."""
    parent = await fleet.unit(claimed=True)
    child = {"model_id": str(acme.model_id), "firmware_version": "1.0.0", "sn": "C1"}
    child_id = (await parent.call("POST", "/children", child))["id"]
    mine, its, _ = await send(acme, parent.id), await send(acme, child_id), await send(acme, child_id)
    waiting = await parent.call("GET", "/command/pending_commands")
    assert [(item["device_id"], item["id"]) for item in waiting] == [(parent.id, mine), (child_id, its)]


async def test_reporting_and_cancelling_at_once_leave_one_truth(fleet: Fleet, acme: Owner) -> None:
    """Either the owner's cancel or the device's report is refused, never both and never none."""
    unit = await fleet.unit(claimed=True)
    for _ in range(10):
        command_id = await send(acme, unit.id)
        reported, cancelled = await asyncio.gather(
            unit.ask("POST", "/command", {"id": command_id}),
            acme.ask("DELETE", f"/core/v1/organization/devices/{unit.id}/commands/{command_id}", key=acme.key),
        )
        status = await acme.pool.fetchval("SELECT status FROM commands WHERE id = $1", UUID(command_id))
        assert (reported[0] == 200, cancelled[0] == 200) in ((True, False), (False, True))
        assert status == ("done" if reported[0] == 200 else "aborted")
    assert await acme.pool.fetchval("SELECT open_commands FROM devices WHERE id = $1", UUID(unit.id)) == 0
