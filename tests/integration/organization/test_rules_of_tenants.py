"""Rules as owners and partners keep them, and their dry run. Contract: "Incidents and rules", the line "Rules"."""

from datetime import timedelta
from typing import Any

import pytest
from owners import Owner, ago

from gateway.stores.incidents import dry_runs, rules
from schemas import ids

TERMS = {"telemetry": "disk", "comparison": "gt", "value": 90, "duration_s": 60, "hysteresis": 5}


def body(**members: Any) -> dict[str, Any]:
    return TERMS | {"title": "Disk is nearly full"} | members


async def as_partner(owner: Owner, method: str, path: str, sent: Any = None) -> Any:
    """A call of the partner API with a body; its JSON, or status and error."""
    status, answer = await owner.ask(method, f"/core/v1/partner{path}", sent, owner.partner_key)
    return answer if status in (200, 201) else (status, answer["error"])


async def test_an_owner_keeps_rules_for_a_model_a_project_or_a_space(acme: Owner) -> None:
    """For a model, project or space: telemetry key, comparison, value, for how long, hysteresis, priority, title."""
    made = []
    for scope in ("model_id", "project_id", "space_id"):
        rule = await acme.call("POST", "/incident_rules", body(priority=1, **{scope: str(getattr(acme, scope))}))
        assert {name: rule[name] for name in TERMS} == TERMS
        assert (rule["priority"], rule["enabled"], rule[scope]) == (1, True, str(getattr(acme, scope)))
        assert await acme.call("GET", f"/incident_rules/{rule['id']}") == rule
        made.append(rule)
    assert (await acme.call("GET", "/incident_rules"))["items"] == made
    pages = [await acme.call("GET", "/incident_rules", page=page, per_page=2) for page in (1, 2)]
    assert [len(page["items"]) for page in pages] == [2, 1]
    address = f"/incident_rules/{made[0]['id']}"
    changed = await acme.call("PATCH", address, {"value": 95.5, "enabled": False})
    assert changed == made[0] | {"value": 95.5, "enabled": False}
    assert (await acme.call("PATCH", address, {"space_id": str(acme.space_id)}))[0] == 400
    assert await acme.call("DELETE", address) == {"success": True}
    assert await acme.call("GET", address) == (404, "Incident rule not found")


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"comparison": "between"}, "Comparison"),
        ({"value": "90"}, "Value must be a number for the comparison gt"),
        ({"value": True}, "Value must be a number for the comparison gt"),
        ({"value": None}, "Value"),
        ({"value": [90]}, "Value"),
        ({"value": 2**64}, "Value"),
        ({"comparison": "eq"}, "Hysteresis must be 0 for the comparison eq"),
        ({"comparison": "eq", "hysteresis": 0, "value": "é" * 501}, "Value must be at most 1000 bytes"),
        ({"hysteresis": -1}, "Hysteresis"),
        ({"duration_s": -1}, "Duration"),
        ({"duration_s": 2_592_001}, "Duration"),
        ({"telemetry": ""}, "Telemetry"),
        ({"telemetry": "a\0"}, "Telemetry"),
        ({"title": ""}, "Title"),
        ({"priority": 6}, "Priority must be between 1 and 5"),
        ({"model_id": None}, "Give one of model id, project id and space id"),
        ({"space_id": "018f0000-0000-7000-8000-000000000000"}, "Give one of model id, project id and space id"),
    ],
)
async def test_what_is_no_rule_is_refused(acme: Owner, wrong: dict[str, Any], text: str) -> None:
    """422, with the member at fault; by a change as well."""
    status, told = await acme.call("POST", "/incident_rules", body(model_id=str(acme.model_id)) | wrong)
    assert status == 422
    assert told.startswith(text), told
    rule = await acme.call("POST", "/incident_rules", body(model_id=str(acme.model_id)))
    if not {"model_id", "space_id"} & set(wrong):
        assert (await acme.call("PATCH", f"/incident_rules/{rule['id']}", wrong))[0] == 422
    assert await acme.call("GET", f"/incident_rules/{rule['id']}") == rule


async def test_partners_keep_rules_for_their_models_and_nobody_sees_anothers(acme: Owner, globex: Owner) -> None:
    """Owner's (and partner's for models); an owner may name a partner's model that it has devices of."""
    await acme.trusts(globex)
    model = str(globex.model_id)
    theirs = await as_partner(globex, "POST", "/incident_rules", body(model_id=model))
    assert await acme.call("POST", "/incident_rules", body(model_id=model)) == (404, "Model not found")
    await acme.device(model_id=globex.model_id)
    ours = await acme.call("POST", "/incident_rules", body(model_id=model))
    assert (await as_partner(globex, "GET", "/incident_rules"))["items"] == [theirs]
    assert (await globex.call("GET", "/incident_rules"))["items"] == []
    unknown = (404, "Incident rule not found")
    for rule_id in (theirs["id"], ids.new_id()):
        for method, sent in (("GET", None), ("PATCH", {"value": 1}), ("DELETE", None)):
            assert await acme.call(method, f"/incident_rules/{rule_id}", sent) == unknown
            assert await globex.call(method, f"/incident_rules/{rule_id}", sent) == unknown
            assert await as_partner(globex, method, f"/incident_rules/{ours['id']}", sent) == unknown
    assert (await as_partner(globex, "PATCH", f"/incident_rules/{theirs['id']}", {"value": 1}))["value"] == 1
    assert await as_partner(globex, "DELETE", f"/incident_rules/{theirs['id']}") == {"success": True}
    for scope in ("model_id", "project_id", "space_id"):
        sent = body(**{scope: str(getattr(acme, scope))})
        assert (await globex.call("POST", "/incident_rules", sent))[0] == 404
    assert await as_partner(globex, "POST", "/incident_rules", body(model_id=str(acme.model_id))) == (
        404, "Model not found",
    )  # fmt: skip
    assert (await as_partner(globex, "POST", "/incident_rules", body(space_id=str(globex.space_id))))[0] == 400


async def test_rules_have_a_limit(acme: Owner, monkeypatch: pytest.MonkeyPatch) -> None:
    """Flushers hold all of them."""
    monkeypatch.setattr(rules, "RULES_MAX", 1)
    await acme.call("POST", "/incident_rules", body(model_id=str(acme.model_id)))
    assert await acme.call("POST", "/incident_rules", body(model_id=str(acme.model_id))) == (422, rules.TOO_MANY)


async def test_a_deleted_rule_closes_what_it_opened(acme: Owner) -> None:
    """Nothing else would; what others opened stays open."""
    device_id = await acme.device()
    rule = await acme.call("POST", "/incident_rules", body(model_id=str(acme.model_id)))
    await acme.incident(device_id, 3, "a", rule_id=rule["id"])
    await acme.incident(device_id, 3, "b")
    await acme.call("DELETE", f"/incident_rules/{rule['id']}")
    found = (await acme.call("GET", "/incidents"))["items"]
    assert {one["issue"]: one["status"] for one in found} == {"a": "closed", "b": "active"}


async def test_a_dry_run_tells_what_a_rule_would_have_done(
    acme: Owner, globex: Owner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rules have a dry run over a device's history: hysteresis and duration count, and nothing is changed."""
    monkeypatch.setattr(dry_runs, "PAGE", 2)
    device_id, begin = await acme.device(), ago(hours=2).replace(microsecond=0)
    told = [(0, 91), (30, 91), (90, 92), (120, 86), (150, 85), (200, 99), (230, None), (300, 70)]
    for second, disk in told:
        telemetries = {"cpu": 1} if disk is None else {"disk": disk}
        await acme.message(device_id, begin + timedelta(seconds=second), telemetries=telemetries)
    sent = TERMS | {"device_id": str(device_id)}
    found = await acme.call("POST", "/incident_rules/dry_run", sent)

    def at(second: int) -> str:
        return (begin + timedelta(seconds=second)).isoformat().replace("+00:00", "Z")

    closed = {"opened_at": at(90), "opened_value": 92, "closed_at": at(150), "closed_value": 85}
    assert (found["messages"], found["incidents"]) == (8, [closed])
    by_partner = await as_partner(acme, "POST", "/incident_rules/dry_run", sent)
    assert by_partner["incidents"] == found["incidents"]
    short = await acme.call("POST", "/incident_rules/dry_run", sent | {"duration_s": 0})
    assert [one["opened_value"] for one in short["incidents"]] == [91, 99]
    narrow = sent | {"from": at(150), "to": at(300), "duration_s": 0}
    open_still = {"opened_at": at(200), "opened_value": 99, "closed_at": None, "closed_value": None}
    assert (await acme.call("POST", "/incident_rules/dry_run", narrow))["incidents"] == [open_still]
    assert (await acme.call("GET", "/incidents"))["items"] == []
    monkeypatch.setattr(dry_runs, "MESSAGES_MAX", 3)
    cut = await acme.call("POST", "/incident_rules/dry_run", sent)
    assert (cut["messages"], cut["since"]) == (3, at(200))
    for key in (
        globex.call("POST", "/incident_rules/dry_run", sent),
        as_partner(globex, "POST", "/incident_rules/dry_run", sent),
    ):
        assert await key == (404, "Device not found")
    assert (await acme.call("POST", "/incident_rules/dry_run", sent | {"from": "0"}))[0] == 422
