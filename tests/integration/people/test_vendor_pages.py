"""What people of a vendor do on the pages that owners have as well: its rules, and incidents one by one."""

from datetime import UTC, datetime, timedelta

import pytest
from edges import RunningEdge
from owners import Owner
from visitors import Visitor, person_of, visiting, way_in

RULE = {"title": "Disk is full", "telemetry": "disk", "comparison": "gt", "value": "90", "duration_s": "0",
        "hysteresis": "0", "priority": "2"}  # fmt: skip


async def come_in(owner: Owner, visitor: Visitor, *roles: str) -> dict[str, str]:
    """Sign a person with these roles in; the token of its forms."""
    person_id = await person_of(owner, *roles, email=f"{roles[0]}@{owner.organization_id}.example")
    await visitor.send(await way_in(owner.pool, person_id))
    _, page = await visitor.get("/account")
    return {"form_token": page.partition('name="form_token" value="')[2].partition('"')[0]}


async def test_a_maker_has_rules_for_its_models(edge: RunningEdge, acme: Owner, globex: Owner) -> None:
    """For all devices of a model, whoever owns them, for nothing that is an owner's: tried, made, changed, ended."""
    device_id = await acme.device()
    for minutes, disk in ((50, 10), (40, 95), (30, 20)):
        await acme.message(device_id, datetime.now(UTC) - timedelta(minutes=minutes), telemetries={"disk": disk})
    async with visiting(edge) as maker, visiting(edge) as stranger:
        token, theirs = await come_in(acme, maker, "partner.admin"), await come_in(globex, stranger, "partner.admin")
        form = token | RULE
        _, editor = await maker.get("/partner/rules/new")
        assert f'value="model {acme.model_id}"' in editor
        assert str(acme.project_id) not in editor
        for target in (f"project {acme.project_id}", f"space {acme.space_id}", f"model {globex.model_id}"):
            status, _ = await maker.send("/partner/rules", form | {"target": target})
            assert status == (404 if target.startswith("model") else 422), target
        status, trial = await maker.send("/partner/rules/try", form | {"device_id": str(device_id)})
        assert (status, "3 messages since" in trial, "1 incident." in trial) == (200, True, True)
        assert (await stranger.send("/partner/rules/try", theirs | RULE | {"device_id": str(device_id)}))[0] == 404
        assert (await maker.send("/partner/rules", form | {"target": f"model {acme.model_id}"}))[0] == 303
        (rule,) = (await acme.partner("GET", "/incident_rules"))["items"]
        one = f"/partner/rules/{rule['id']}"
        assert rule["model_id"] == str(acme.model_id)
        assert "Disk is full" in (await maker.get("/partner/rules"))[1]
        assert "Disk is full" in (await maker.get(one))[1]
        assert (await stranger.send(one, theirs | RULE))[0] == 404
        assert (await stranger.send(f"{one}/delete", theirs))[0] == 404
        assert (await maker.send(one, form | {"value": "95"}))[0] == 303
        assert (await maker.send(f"{one}/switch", token | {"enabled": "false"}))[0] == 303
        changed = await acme.partner("GET", f"/incident_rules/{rule['id']}")
        assert (changed["value"], changed["enabled"]) == (95, False)
        assert (await maker.get(f"/rules/{rule['id']}"))[0] == 404
        assert (await maker.send(f"{one}/delete", token))[0] == 303
        assert (await acme.partner("GET", "/incident_rules"))["items"] == []


@pytest.mark.parametrize("role", ["partner.user", "partner.admin"])
async def test_a_maker_sees_an_incident_and_leaves_it_to_its_owner(edge: RunningEdge, acme: Owner, role: str) -> None:
    """With why it was opened and the ticket about it; to look after it, to close it and to open one are the owner's."""
    device_id = await acme.device()
    incident = await acme.call("POST", "/incidents", {"device_id": str(device_id), "title": "It leaks"})
    ticket = await acme.call("POST", "/tickets", {"incident_id": incident["id"]})
    async with visiting(edge) as maker:
        form = await come_in(acme, maker, role)
        one = f"/partner/incidents/{incident['id']}"
        assert one in (await maker.get("/partner/incidents"))[1]
        _, page = await maker.get(one)
        assert ("It leaks" in page, f"/partner/tickets/{ticket['id']}" in page) == (True, True)
        assert [word in page for word in (">Close<", "/devices/", "Save")] == [False] * 3
        assert one in (await maker.get(f"/partner/tickets/{ticket['id']}"))[1]
        for path in ("/partner/incidents", one, f"{one}/close", f"{one}/ticket"):
            assert (await maker.send(path, form | {"title": "T", "device_id": str(device_id)}))[0] in (404, 405), path
    assert (await acme.call("GET", f"/incidents/{incident['id']}"))["status"] == "active"
