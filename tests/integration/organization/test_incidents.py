"""Incidents as owners and partners see them. Contract: "Incidents and rules", the line "Owner: GET `/incidents`"."""

from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from owners import Owner, ago, outbox

from schemas import ids


async def test_a_person_opens_an_incident_says_who_cares_and_closes_it(acme: Owner) -> None:
    """POST, PATCH (assignee, comment), DELETE closes; both ends are told as events."""
    device_id = await acme.device(name="Pump")
    body = {"device_id": str(device_id), "title": "Dirty", "description": "very", "priority": 4, "issue": "dirt"}
    made = await acme.call("POST", "/incidents", body)
    assert (made["kind"], made["status"], made["priority"], made["priority_name"]) == ("user", "active", 4, "low")
    assert (made["device_name"], made["space"]["full_path"], made["partner_name"]) == ("Pump", "Hall", "Acme")
    address = f"/incidents/{made['id']}"
    assert await acme.call("POST", "/incidents", body) == (
        409, "An incident of this device with this issue is open already",
    )  # fmt: skip
    changed = await acme.call("PATCH", address, {"assignee": "ada@example.org", "comment": "on it"})
    assert changed == made | {"assignee": "ada@example.org", "comment": "on it"}
    assert (await acme.call("PATCH", address, {"assignee": None}))["comment"] == "on it"
    assert await acme.call("PATCH", address, {"priority": 1}) == (
        400, "Member priority is not known: known here are assignee, comment",
    )  # fmt: skip
    closed = await acme.call("DELETE", address)
    assert (closed["status"], closed["assignee"]) == ("closed", None)
    assert await acme.call("DELETE", address) == await acme.call("GET", address) == closed
    assert await outbox(acme.pool) == [("incidentOpened", device_id), ("incidentClosed", device_id)]
    assert (await acme.call("POST", "/incidents", body))["id"] != made["id"]


async def test_without_a_range_the_last_week_is_listed_newest_first(acme: Owner) -> None:
    """`from, to` epoch, default last week; `from` is in it, `to` is not."""
    device_id = await acme.device()
    times = [ago(days=days) for days in (0, 6.9, 7.1, 30)]
    for number, opened_at in enumerate(times):
        await acme.incident(device_id, 3, f"issue {number}", opened_at=opened_at)

    async def issues(**query: Any) -> list[str]:
        return [one["issue"] for one in (await acme.call("GET", "/incidents", **query))["items"]]

    assert await issues() == ["issue 0", "issue 1"]
    second, third = (str(times[number].timestamp()) for number in (1, 2))
    assert await issues(since=third, until=second) == ["issue 2"]
    assert await issues(since=third) == ["issue 0", "issue 1", "issue 2"]
    assert await issues(until=third) == []
    assert await issues(since=(times[3] - timedelta(seconds=1)).isoformat(), until=third) == ["issue 3"]
    assert await acme.call("GET", "/incidents", since="5", until="4") == (422, "From must be before to")
    assert (await acme.call("GET", "/incidents", since="soon"))[0] == 422


async def test_each_filter_narrows_the_list(acme: Owner, globex: Owner) -> None:
    """`status`, `priority`, `title, description, issue, device_model, partner_name, sub_model, space_id`, device."""
    await acme.trusts(globex)
    below = await acme.call("POST", "/spaces", {"name": "Cellar", "parent_id": str(acme.space_id)})
    other = await acme.call("POST", "/spaces", {"name": "Roof"})
    plain = await acme.device()
    special = await acme.device(model_id=globex.model_id, sub_model="XL", space_id=UUID(below["id"]), name="special")
    await acme.pool.execute("UPDATE device_models SET name = 'Motor' WHERE id = $1", globex.model_id)
    await acme.incident(plain, 3, "leak", closed_at=ago(seconds=1))
    await acme.pool.execute("UPDATE incidents SET title = 'Leak', description = 'Drops of Oil'")
    await acme.incident(special, 1, "heat")
    both = {"leak", "heat"}
    for query, expected in (
        ({}, both),
        ({"status": "active"}, {"heat"}),
        ({"status": "closed"}, {"leak"}),
        ({"priority": "1"}, {"heat"}),
        ({"priority": "critical"}, {"heat"}),
        ({"priority": "moderate"}, {"leak"}),
        ({"title": "lea"}, {"leak"}),
        ({"description": "oil"}, {"leak"}),
        ({"issue": "heat"}, {"heat"}),
        ({"issue": "hea"}, set()),
        ({"device_model": "motor"}, {"heat"}),
        ({"partner_name": "Globex"}, {"heat"}),
        ({"sub_model": "XL"}, {"heat"}),
        ({"space_id": below["id"]}, {"heat"}),
        ({"space_id": acme.space_id}, both),
        ({"space_id": other["id"]}, set()),
        ({"device_id": plain}, {"leak"}),
        ({"title": "%"}, set()),
    ):
        found = await acme.call("GET", "/incidents", **query)
        assert {one["issue"] for one in found["items"]} == expected, query
    for query in ({"priority": "6"}, {"priority": "²"}, {"status": "open"}, {"per_page": 501}, {"page": 0}):
        assert (await acme.call("GET", "/incidents", **query))[0] == 422, query
    assert (await acme.call("GET", "/incidents", space_id=globex.space_id))[0] == 404
    assert (await acme.call("GET", "/incidents", device_id=await globex.device()))[0] == 404


async def test_pages_are_those_of_every_list(acme: Owner) -> None:
    """`page, per_page` ≤ 500 → `{items, has_next_page, next_page}`."""
    device_id, at = await acme.device(), ago(hours=1)
    for number in range(5):
        await acme.incident(device_id, 3, f"issue {number}", opened_at=at)
    seen: list[str] = []
    page: int | None = 1
    while page:
        answer = await acme.call("GET", "/incidents", page=page, per_page=2)
        seen += [one["issue"] for one in answer["items"]]
        assert answer["has_next_page"] is (answer["next_page"] is not None)
        page = answer["next_page"]
    assert seen == [f"issue {number}" for number in (4, 3, 2, 1, 0)]
    assert len((await acme.call("GET", "/incidents", per_page=500))["items"]) == 5


async def test_tenants_do_not_meet_and_partners_see_those_of_their_models(acme: Owner, globex: Owner) -> None:
    """A partner reads incidents of its models' devices, whoever owns them; another owner has none of it."""
    await acme.trusts(globex)
    device_id = await acme.device(model_id=globex.model_id)
    incident_id = await acme.incident(device_id, 3)
    assert [one["id"] for one in (await globex.partner("GET", "/incidents"))["items"]] == [str(incident_id)]
    assert (await globex.partner("GET", f"/incidents/{incident_id}"))["device_id"] == str(device_id)
    assert (await acme.partner("GET", "/incidents"))["items"] == (await globex.call("GET", "/incidents"))["items"] == []
    for incident in (incident_id, ids.new_id()):
        for method, body in (("GET", None), ("PATCH", {"comment": "x"}), ("DELETE", None)):
            assert await globex.call(method, f"/incidents/{incident}", body) == (404, "Incident not found")
        assert await acme.partner("GET", f"/incidents/{incident}") == (404, "Incident not found")
    body = {"device_id": str(device_id), "title": "T"}
    assert await globex.call("POST", "/incidents", body) == (404, "Device not found")


async def test_open_incidents_go_to_the_next_owner_and_closed_ones_stay(acme: Owner, globex: Owner) -> None:
    """A former owner learns no more of the device; what it is called now does not show."""
    device_id = await acme.device(name="secret")
    await acme.incident(device_id, 3, "open")
    await acme.incident(device_id, 3, "closed", closed_at=ago(seconds=1))
    await acme.pool.execute(
        "UPDATE devices SET organization_id = $2, project_id = $3, space_id = $4 WHERE id = $1",
        device_id, globex.organization_id, globex.project_id, globex.space_id,
    )  # fmt: skip
    [theirs] = (await globex.call("GET", "/incidents"))["items"]
    [ours] = (await acme.call("GET", "/incidents"))["items"]
    assert (theirs["issue"], theirs["device_name"]) == ("open", "secret")
    assert (ours["issue"], ours["device_name"], ours["space"]) == ("closed", "", None)


async def test_the_incidents_of_a_deleted_device_are_closed(acme: Owner) -> None:
    """Nobody could close them otherwise; it is told before the deletion."""
    device_id = await acme.device()
    await acme.incident(device_id, 3)
    await acme.call("DELETE", f"/devices/{device_id}")
    assert [told for told, _ in await outbox(acme.pool)] == ["incidentClosed", "deviceDeleted"]
    assert [one["status"] for one in (await acme.call("GET", "/incidents"))["items"]] == ["closed"]


@pytest.mark.parametrize("kind", ["device", "user", "rule"])
async def test_an_open_incident_counts_for_the_status_whoever_opened_it(acme: Owner, kind: str) -> None:
    """`effective_status`: error for critical to moderate, else warning; closed by a person it is ok again."""
    device_id = await acme.device()
    await acme.seen(device_id)
    for priority, expected in ((1, "error"), (3, "error"), (4, "warning"), (5, "warning")):
        incident_id = await acme.incident(device_id, priority, kind=kind)
        assert (await acme.call("GET", f"/devices/{device_id}"))["effective_status"] == expected
        await acme.call("DELETE", f"/incidents/{incident_id}")
        assert (await acme.call("GET", f"/devices/{device_id}"))["effective_status"] == "ok"
