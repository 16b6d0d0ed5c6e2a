"""Incidents as devices open and close them. Contract: the rows of `/v1/devices/{id}/incidents`, and "Suspension"."""

import asyncio
from typing import Any
from uuid import UUID

import pytest
from fleets import Fleet
from flushing import store_all
from owners import Owner, outbox

from gateway.stores.incidents import reporting
from schemas import ids
from schemas.bounds import PAGE_BYTES_MAX
from schemas.redis import Redis


async def test_one_incident_is_open_for_each_issue(fleet: Fleet, acme: Owner) -> None:
    """POST: `issue` (one open incident for each issue); reported again it is the same, after its end another one."""
    unit = await fleet.unit(claimed=True)
    first = await unit.call("POST", "/incidents", {"title": "Leak", "description": "drops", "issue": "leak"})
    again = await unit.call("POST", "/incidents", {"title": "Leaks still", "issue": "leak", "priority": 1})
    assert again == first
    [shown] = await unit.call("GET", "/incidents")
    assert shown | {"created_at": ""} == {
        "id": first["incident_id"],
        "kind": "device",
        "title": "Leak",
        "description": "drops",
        "priority": 3,
        "issue": "leak",
        "created_at": "",
    }
    assert await unit.call("DELETE", f"/incidents/{first['incident_id']}") == {"success": True}
    assert await unit.call("GET", "/incidents") == []
    assert await unit.call("POST", "/incidents", {"title": "Leak", "issue": "leak"}) != first


async def test_without_an_issue_the_title_is_the_issue(fleet: Fleet) -> None:
    """So that a device which reports the same thing every minute has one incident of it."""
    unit = await fleet.unit()
    ids_told = [await unit.call("POST", "/incidents", {"title": title}) for title in ("Hot", "Hot", "Cold")]
    assert ids_told[0] == ids_told[1] != ids_told[2]
    assert [one["issue"] for one in await unit.call("GET", "/incidents")] == ["Hot", "Cold"]


@pytest.mark.parametrize("priority", [0, 6, -1, 2**70])
async def test_a_priority_lies_between_1_and_5(fleet: Fleet, priority: int) -> None:
    """422 `Priority must be between 1 and 5`."""
    unit = await fleet.unit()
    answer = await unit.ask("POST", "/incidents", {"title": "T", "priority": priority})
    assert answer == (422, {"error": "Priority must be between 1 and 5"})
    for good in (1, 5, 2.0, None):
        assert (await unit.ask("POST", "/incidents", {"title": f"{good}", "priority": good}))[0] == 200


async def test_what_is_no_incident_is_refused(fleet: Fleet) -> None:
    """`title` is required and a text; texts have limits."""
    unit = await fleet.unit()
    for body in ({}, {"title": ""}, {"title": 7}, {"title": "x" * 256}, {"title": "T", "issue": "x" * 256}):
        assert (await unit.ask("POST", "/incidents", body))[0] == 422, body
    for body in ({"title": "T", "priority": "high"}, {"title": "T", "description": "x" * 10_001}, {"title": "a\0"}):
        assert (await unit.ask("POST", "/incidents", body))[0] == 422, body


async def test_a_device_closes_its_own_and_those_of_people_and_none_of_a_rule(fleet: Fleet, acme: Owner) -> None:
    """DELETE one: 404 `Incident not found`, for one of a rule, another device's, a closed one and none at all."""
    unit, other = await fleet.unit(claimed=True), await fleet.unit(claimed=True)
    mine = (await unit.call("POST", "/incidents", {"title": "Mine"}))["incident_id"]
    persons = (await acme.call("POST", "/incidents", {"device_id": unit.id, "title": "Dirty"}))["id"]
    rules = str(await acme.incident(UUID(unit.id), 3, "offline"))
    theirs = (await other.call("POST", "/incidents", {"title": "Theirs"}))["incident_id"]
    unknown = (404, {"error": "Incident not found"})
    for incident_id in (rules, theirs, str(ids.new_id()), "x", "x%00"):
        assert await unit.ask("DELETE", f"/incidents/{incident_id}") == unknown or "%" in incident_id
    for incident_id in (mine, persons):
        assert await unit.ask("DELETE", f"/incidents/{incident_id}") == (200, {"success": True})
        assert await unit.ask("DELETE", f"/incidents/{incident_id}") == unknown
    assert [one["id"] for one in await unit.call("GET", "/incidents")] == [rules]


async def test_after_a_reboot_a_device_closes_all_that_it_opened(fleet: Fleet, acme: Owner) -> None:
    """DELETE all: close all that the device opened; those of people and rules stay."""
    unit = await fleet.unit(claimed=True)
    for title in ("A", "B"):
        await unit.call("POST", "/incidents", {"title": title})
    await acme.call("POST", "/incidents", {"device_id": unit.id, "title": "Dirty"})
    await acme.incident(UUID(unit.id), 3, "offline")
    await acme.pool.execute("DELETE FROM event_outbox")
    assert await unit.call("DELETE", "/incidents") == {"success": True}
    assert {one["kind"] for one in await unit.call("GET", "/incidents")} == {"user", "rule"}
    assert [told for told, _ in await outbox(acme.pool)] == ["incidentClosed"] * 2


async def test_many_reports_of_one_issue_at_once_open_one_incident(fleet: Fleet) -> None:
    """One open incident for each (device, issue), whoever comes first; all are told the same id."""
    unit = await fleet.unit()
    told = await asyncio.gather(*(unit.call("POST", "/incidents", {"title": "Leak"}) for _ in range(8)))
    assert len({one["incident_id"] for one in told}) == 1
    assert len(await unit.call("GET", "/incidents")) == 1


async def test_a_device_has_so_many_open_incidents_at_most(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lists are bounded; those that are open already are still found."""
    monkeypatch.setattr(reporting, "OPEN_MAX", 2)
    unit = await fleet.unit()
    statuses = [(await unit.ask("POST", "/incidents", {"title": title}))[0] for title in ("A", "B", "C", "B")]
    assert statuses == [200, 200, 429, 200]


async def test_a_list_of_long_incidents_is_bounded_in_bytes(fleet: Fleet, acme: Owner) -> None:
    """Modems read it; the oldest are there, and when those are closed the others are."""
    unit = await fleet.unit()
    await acme.pool.execute(
        """INSERT INTO incidents (id, device_id, kind, issue, title, description, opened_at)
           SELECT gen_random_uuid(), $1, 'user', n::text, 'T', repeat('é', 10000), now() + make_interval(secs => n)
             FROM generate_series(1, 250) n""",
        UUID(unit.id),
    )
    first = await unit.call("GET", "/incidents")
    assert 0 < len(first) * 20_000 <= PAGE_BYTES_MAX
    assert first[0]["issue"] == "1"


async def test_a_device_suspends_its_incidents(fleet: Fleet, acme: Owner) -> None:
    """`cloud_settings {"incidents.suspend_creation": true}`, in both forms; none is opened until it says otherwise."""
    unit = await fleet.unit(claimed=True)
    key = "incidents.suspend_creation"
    for on, off in (({key: True}, {key: False}), ({"property": key, "value": True}, {"property": key, "value": None})):
        open_before = (await unit.call("POST", "/incidents", {"title": "Old"}))["incident_id"]
        await unit.call("PUT", "/cloud_settings", on)
        assert await unit.call("POST", "/incidents", {"title": "New"}) == {"incident_id": None}
        assert await unit.call("POST", "/incidents", {"title": "Old"}) == {"incident_id": open_before}
        assert (await acme.call("GET", f"/devices/{unit.id}"))["incidents_suspended"] is True
        await unit.call("PUT", "/cloud_settings", {"other": 1})
        assert await unit.call("POST", "/incidents", {"title": "New"}) == {"incident_id": None}
        await unit.call("PUT", "/cloud_settings", off)
        assert (await unit.call("POST", "/incidents", {"title": "New"}))["incident_id"] is not None
        await unit.call("DELETE", "/incidents")
    for value in ("true", 1, [], {}):
        status, answer = await unit.ask("PUT", "/cloud_settings", {key: value})
        assert (status, answer["error"]) == (422, f"{key} must be true or false")


async def test_its_owner_suspends_and_resumes_incidents_of_a_device(fleet: Fleet, acme: Owner, globex: Owner) -> None:
    """Owner's POST `/devices/{d}/suspend_incidents`, `…/resume_incidents`; nobody else's."""
    unit = await fleet.unit(claimed=True)
    assert await globex.call("POST", f"/devices/{unit.id}/suspend_incidents") == (404, "Device not found")
    assert await acme.call("POST", f"/devices/{unit.id}/suspend_incidents") == {"success": True}
    assert await unit.call("POST", "/incidents", {"title": "New"}) == {"incident_id": None}
    body = {"device_id": unit.id, "title": "Dirty"}
    assert (await acme.call("POST", "/incidents", body))[0] == 409
    assert await acme.call("POST", f"/devices/{unit.id}/resume_incidents") == {"success": True}
    assert (await unit.call("POST", "/incidents", {"title": "New"}))["incident_id"] is not None


async def test_a_space_in_maintenance_opens_no_incidents(fleet: Fleet, acme: Owner) -> None:
    """A space in `maintenance` opens none."""
    unit = await fleet.unit(claimed=True)
    await acme.call("PATCH", f"/spaces/{acme.space_id}", {"maintenance": True})
    assert await unit.call("POST", "/incidents", {"title": "New"}) == {"incident_id": None}
    await acme.call("PATCH", f"/spaces/{acme.space_id}", {"maintenance": False})
    assert (await unit.call("POST", "/incidents", {"title": "New"}))["incident_id"] is not None


async def test_incidents_of_an_unclaimed_device_are_its_owners_once_it_is_claimed(
    edge: Any, fleet: Fleet, acme: Owner, redis_client: Redis
) -> None:
    """Open ones go with the device; the status that people see follows from them."""
    unit = await fleet.unit()
    await unit.call("POST", "/incidents", {"title": "Leak", "priority": 4})
    assert (await acme.call("GET", "/incidents"))["items"] == []
    assert len((await acme.partner("GET", "/incidents"))["items"]) == 1
    await unit.claim()
    await unit.waits()
    await store_all(edge, redis_client)
    [found] = (await acme.call("GET", "/incidents"))["items"]
    assert (found["device_id"], found["status"]) == (unit.id, "active")
    assert (await acme.call("GET", f"/devices/{unit.id}"))["effective_status"] == "warning"
