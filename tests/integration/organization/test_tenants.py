"""Projects and API keys, and the walls between tenants."""

import importlib
import pkgutil
from typing import Any
from uuid import UUID

import pytest
from campaigns import firmware
from digests import everything
from everything import dump_of, run_of
from owners import Owner

import gateway.organization
import gateway.partner
from gateway.api.bodies import Streamed
from gateway.api.callers.api_keys import UNAUTHENTICATED
from gateway.api.endpoint import Endpoint
from gateway.permissions import KEY_ROLES
from schemas import ids
from schemas.ids import AccessKeys
from tests.conftest import MASTER_KEY

ENDPOINTS: list[Endpoint] = [
    one
    for package in (gateway.organization, gateway.partner)
    for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}.")
    for one in getattr(importlib.import_module(module.name), "ENDPOINTS", ())
]

OWN = {"create_project", "create_model", "create_api_key", "rotate_license_key", "create_organization"}
"""Calls that make something of the caller's own and name nothing else."""
QUERIES = {"read_series": {"keys": "temperature"}}
"""What calls must be asked that cannot be understood without."""
LICENSE = {"data": "all"}
TERMS = {"telemetry": "disk", "comparison": "gt", "value": 90}
RULE = TERMS | {"title": "Full"}


def connector(tenant: Owner) -> dict[str, Any]:
    """A cloud connector to be made."""
    return {
        "provider": "simulated",
        "project_id": str(tenant.project_id),
        "space_id": str(tenant.space_id),
        "settings": {"url": "https://cloud.example"},
    }


def bodies(tenant: Owner, given: dict[str, str]) -> dict[str, Any]:
    """A body for every call that takes one, with ids of `tenant` and of its `places`."""
    return {
        "change_device": {"name": "stolen", "details": {}},
        "rotate_key": {"overlap_s": 0},
        "replace_device": {"sn": "stolen", "mac": "02:00:00:00:0f:0f"},
        "create_organization": {"name": "mine"},
        "move_device": {"space_id": str(tenant.space_id)},
        "claim_device": {"space_id": str(tenant.space_id), "cloud_id": "x"},
        "send_command": {"command": "reboot"},
        "put_config": {"config": {"stolen": True}},
        "create_space": {"project_id": str(tenant.project_id), "name": "stolen"},
        "find_or_create_space": {"project_id": str(tenant.project_id), "path": ["stolen"]},
        "change_space": {"name": "stolen"},
        "put_space": {"name": "stolen"},
        "create_project": {"name": "mine"},
        "rename_project": {"name": "stolen"},
        "create_model": {"vendor": "mine", "name": "mine"},
        "change_model": {"name": "stolen", "rate_limit": 1},
        "create_definition": {"name": "stolen"},
        "change_definition": {"name": "stolen"},
        "create_hardware_key": {"name": "stolen"},
        "add_partner": {"short_code": "nobody"},
        "create_api_key": {"kind": "partner", "name": "mine"},
        "create_connector": connector(tenant),
        "update_connector": {"name": "stolen"},
        "confirm": {"list": "stolen"},
        "reject": {"list": "stolen"},
        "create_file": {
            "model_id": str(tenant.model_id),
            "name": "stolen",
            "file_type": "firmware",
            "version": "9.0.0",
        },
        "change_file": {"name": "stolen"},
        "create_rollout": {"name": "stolen", "file_id": given["release_id"]},
        "change_rollout": {"name": "stolen"},
        "open_incident": {"device_id": given["device_id"], "title": "stolen"},
        "change_incident": {"comment": "stolen"},
        "create_rule": RULE | {"model_id": str(tenant.model_id)},
        "change_rule": {"title": "stolen"},
        "try_rule": TERMS | {"device_id": given["device_id"]},
        "create_ticket": {"device_id": given["device_id"], "title": "stolen"},
        "put_ticket": {"title": "stolen", "description": ""},
        "comment_on_ticket": {"message": "stolen"},
        "add_device_note": {"content": "stolen"},
        "add_space_note": {"content": "stolen"},
        "create_license": {"model_id": str(tenant.model_id), "data": "stolen"},
        "change_license": {"name": "stolen"},
        "assign_license": {"device_id": given["device_id"]},
        "extend_license": {"expires_at": None},
        "rotate_license_key": {"algorithm": "ed25519"},
    }


async def test_the_walk_knows_a_body_for_every_call_that_takes_one(acme: Owner) -> None:
    """A new call cannot be forgotten here."""
    taken = {one.function.__name__ for one in ENDPOINTS if one.body not in (None, Streamed)}
    assert taken == set(bodies(acme, await places(acme)))


async def places(tenant: Owner) -> dict[str, str]:
    """One thing of the tenant's for every member of a path."""
    device_id = await tenant.device()
    await tenant.seen(device_id, temperature=1)
    command = await tenant.call("POST", f"/devices/{device_id}/commands", {"command": "reboot"})
    hardware_key = await tenant.call("POST", f"/models/{tenant.model_id}/hardware_keys", {})
    definitions = await tenant.call("GET", f"/models/{tenant.model_id}/commands")
    made = await tenant.call("POST", "/connectors", connector(tenant))
    draft = {"model_id": str(tenant.model_id), "name": "F", "file_type": "firmware", "version": "2.0.0"}
    release = str(await firmware(tenant, "3.0.0"))
    return {
        "device_id": str(device_id),
        "command_id": command["id"],
        "space_id": str(tenant.space_id),
        "project_id": str(tenant.project_id),
        "model_id": str(tenant.model_id),
        "definition_id": definitions["items"][0]["id"],
        "hardware_key_id": hardware_key["id"],
        "api_key_id": str(tenant.key_id),
        "connector_id": made["connector"]["id"],
        "vendor_id": "their-device",
        "run": await run_of(tenant.pool, made["connector"]["id"]),
        "file_id": (await tenant.call("POST", "/files", draft))["id"],
        "release_id": release,
        "rollout_id": (await tenant.call("POST", "/rollouts", {"name": "R", "file_id": release}))["id"],
        "incident_id": str(await tenant.incident(UUID(str(device_id)), 3)),
        "ticket_id": (await tenant.call("POST", "/tickets", {"device_id": str(device_id), "title": "T"}))["id"],
        "rule_id": (await tenant.call("POST", "/incident_rules", RULE | {"model_id": str(tenant.model_id)}))["id"],
        "dump_id": await dump_of(tenant, device_id, AccessKeys(MASTER_KEY).issue(str(device_id), 0)),
        "note_id": (await tenant.call("POST", f"/devices/{device_id}/notes", {"content": "N"}))["id"],
        "license_id": (await tenant.partner("POST", "/licenses", LICENSE | {"model_id": str(tenant.model_id)}))["id"],
        "license_key_id": (await tenant.partner("GET", "/license_keys"))["items"][0]["id"],
        "partner_id": str(tenant.organization_id),
    }


def address(endpoint: Endpoint, given: dict[str, str]) -> str:
    """The path of a call with these members."""
    kind = next(kind for kind in ("hardware", "license", "api") if kind == "api" or f"/{kind}_keys" in endpoint.path)
    return endpoint.path.format(**given, key_id=given[f"{kind}_key_id"])


async def test_no_call_is_answered_without_a_key_of_its_kind(acme: Owner, globex: Owner) -> None:
    """No key, nonsense, a revoked key, a device's key, the other API's key: 401 on every route, and nothing changes."""
    given = await places(globex)
    revoked = {}
    for kind in ("organization", "partner"):
        minted = await globex.call("POST", "/api_keys", {"kind": kind, "name": "short"})
        await globex.call("DELETE", f"/api_keys/{minted['id']}")
        revoked[kind] = minted["key"]
    device_key = AccessKeys(MASTER_KEY).issue(given["device_id"], 0)
    before = await everything(acme.pool)
    for endpoint in ENDPOINTS:
        assert endpoint.caller is not None
        own_kind = "partner" if "/partner/" in endpoint.path else "organization"
        other_kind_key = globex.key if own_kind == "partner" else globex.partner_key
        wrong_secret = (globex.key if own_kind == "organization" else globex.partner_key)[:-1] + "g"
        for key in ("", "nonsense", "é" * 40, revoked[own_kind], device_key, other_kind_key, wrong_secret):
            body = bodies(globex, given).get(endpoint.function.__name__)
            answer = await globex.ask(endpoint.method, address(endpoint, given), body, key)
            assert answer == (401, {"error": UNAUTHENTICATED[own_kind]}), (endpoint, key)
    assert await everything(acme.pool) == before


ORGANIZE = {"create_project", "create_api_key", "revoke_api_key", "add_partner", "remove_partner"}
AUDIT_LOG = "/core/v1/organization/audit"
"""The only thing that not every key of the organization may read; a device's own log of that name is for all."""
ADMINISTER = {
    "claim_device", "create_hardware_key", "delete_project", "rename_project", "revoke_hardware_key", "delete_device",
    "delete_registered_devices", "rotate_key", "create_rollout", "change_rollout", "start_rollout", "approve_rollout",
    "pause_rollout", "resume_rollout", "abort_rollout", "begin_next_wave", "replace_device", "undo_replacement",
    "confirm_return",
}  # fmt: skip
"""Changes that ask for more than a developer; `delete_device` only of partners."""


def least(endpoint: Endpoint) -> str:
    """The least role whose keys may make a call."""
    name, of_partner = endpoint.function.__name__, "/partner/" in endpoint.path
    if of_partner:
        return "partner.user" if endpoint.method == "GET" else "partner.admin"
    if name in ORGANIZE or endpoint.path == AUDIT_LOG:
        return "organization.admin"
    if endpoint.method == "GET":
        return "project.user"
    return "project.admin" if name in ADMINISTER - {"delete_device"} else "project.developer"


@pytest.mark.parametrize("kind", list(KEY_ROLES))
async def test_a_key_may_do_what_its_role_permits_and_no_more(acme: Owner, kind: str) -> None:
    """Role by method: enough of a role is never 401 or 403, too little is always 403 and changes nothing."""
    given = await places(acme)
    nothing = {name: str(ids.new_id()) for name in given}
    roles = KEY_ROLES[kind]
    made = {role: await acme.call("POST", "/api_keys", {"kind": kind, "name": role, "role": role}) for role in roles}
    before = await everything(acme.pool)
    calls = [endpoint for endpoint in ENDPOINTS if ("/partner/" in endpoint.path) == (kind == "partner")]
    for endpoint in calls:
        body = bodies(acme, given).get(endpoint.function.__name__)
        for role in roles[: roles.index(least(endpoint))]:  # type: ignore[arg-type]
            status, answer = await acme.ask(endpoint.method, address(endpoint, given), body, made[role]["key"])
            assert status == 403, (endpoint, role, answer)
    assert await everything(acme.pool) == before
    for endpoint in calls:
        for role in roles[roles.index(least(endpoint)) :]:  # type: ignore[arg-type]
            status, answer = await acme.ask(endpoint.method, address(endpoint, nothing), {}, made[role]["key"])
            assert status not in (401, 403), (endpoint, role, answer)
            assert status < 500, (endpoint, role, answer)


async def test_a_key_has_the_role_of_an_administrator_unless_told_otherwise(acme: Owner) -> None:
    """Shown when it is made and in lists; one that its kind cannot have is refused."""
    for kind, role in (("organization", "organization.admin"), ("partner", "partner.admin")):
        made = await acme.call("POST", "/api_keys", {"kind": kind, "name": "plain"})
        assert made["role"] == role
    limited = await acme.call("POST", "/api_keys", {"kind": "partner", "name": "reads", "role": "partner.user"})
    assert limited["role"] == "partner.user"
    listed = (await acme.call("GET", "/api_keys"))["items"]
    assert [one["role"] for one in listed[-3:]] == ["organization.admin", "partner.admin", "partner.user"]
    refused = await acme.call("POST", "/api_keys", {"kind": "partner", "name": "x", "role": "project.user"})
    assert refused == (422, "Role of partner keys must be one of partner.user, partner.admin")


async def test_a_developer_moves_a_device_within_a_project_and_not_into_another(acme: Owner) -> None:
    """As in `/v2`, where transfer asks for an administrator."""
    device = await acme.device()
    developer = await acme.call("POST", "/api_keys", {"kind": "organization", "name": "d", "role": "project.developer"})
    project = await acme.call("POST", "/projects", {"name": "Other"})
    near = await acme.call("POST", "/spaces", {"name": "Near", "project_id": str(acme.project_id)})
    far = await acme.call("POST", "/spaces", {"name": "Far", "project_id": project["id"]})
    key, move = developer["key"], f"/devices/{device}/move"
    assert (await acme.call("POST", move, {"space_id": near["id"]}, key=key))["id"] == str(device)
    assert (await acme.call("POST", move, {"space_id": far["id"]}, key=key))[0] == 403
    assert (await acme.call("GET", f"/devices/{device}"))["space"]["id"] == near["id"]
    assert (await acme.call("POST", move, {"space_id": far["id"]}))["id"] == str(device)


async def test_no_call_reaches_what_is_another_tenants(acme: Owner, globex: Owner) -> None:
    """What is another's is answered like what does not exist, on every route; lists do not show it; nothing changes."""
    theirs = await places(globex)
    nothing = {name: str(ids.new_id()) for name in theirs}
    before = await everything(acme.pool)
    for endpoint in ENDPOINTS:
        name = endpoint.function.__name__
        if name in OWN:
            continue
        key = acme.partner_key if "/partner/" in endpoint.path else acme.key
        body = bodies(globex, theirs).get(name)
        query = QUERIES.get(name, {})
        status, answer = await acme.ask(endpoint.method, address(endpoint, theirs), body, key, **query)
        if "{" in endpoint.path:
            unknown = await acme.ask(endpoint.method, address(endpoint, nothing), body, key, **query)
            assert (status, answer) == unknown, endpoint
            assert status == 404, endpoint
        elif endpoint.method == "GET":
            assert status == 200, endpoint
            assert not any(one in str(answer) for one in theirs.values()), endpoint
        else:
            assert status in (404, 422), endpoint
            assert "not found" in answer["error"] or "no such" in answer["error"]
    assert await everything(acme.pool) == before


async def test_a_way_through_ones_own_things_does_not_lead_to_anothers(acme: Owner, globex: Owner) -> None:
    """The first member of the path is the caller's own, the second is not."""
    own, theirs = await places(acme), await places(globex)
    for endpoint in ENDPOINTS:
        if endpoint.path.count("{") < 2:
            continue
        first = endpoint.path.split("{")[1].split("}")[0]
        body = bodies(globex, theirs).get(endpoint.function.__name__)
        path = address(endpoint, theirs | {first: own[first]})
        assert (await acme.ask(endpoint.method, path, body))[0] == 404, endpoint


async def test_projects_are_made_renamed_and_deleted_when_empty(acme: Owner) -> None:
    """Names need not be unique: they are for people."""
    made = await acme.call("POST", "/projects", {"name": "Second"})
    path = f"/projects/{made['id']}"
    assert await acme.call("GET", path) == made
    assert (await acme.call("PATCH", path, {"name": "Main"}))["name"] == "Main"
    assert (await acme.call("PATCH", path, {"name": "Other"}))["name"] == "Other"
    assert [one["name"] for one in (await acme.call("GET", "/projects"))["items"]] == ["Main", "Other"]
    assert await acme.call("DELETE", path) == {"success": True}
    assert await acme.call("DELETE", path) == (404, "Project not found")
    used = await acme.call("DELETE", f"/projects/{acme.project_id}")
    assert used == (422, "Project still has spaces: delete or move them first")
    for body in ({}, {"name": ""}, {"name": "a\0"}, {"name": "x" * 256}, {"name": 1}):
        assert (await acme.call("POST", "/projects", body))[0] == 422, body


async def test_api_keys_are_shown_once_listed_and_revoked_but_not_by_themselves(acme: Owner) -> None:
    """A revoked key ends at once; the last way in cannot be closed from inside."""
    made = await acme.call("POST", "/api_keys", {"kind": "organization", "name": "second"})
    assert (await acme.call("GET", "/projects", key=f"Bearer {made['key']}"))["items"]
    listed = (await acme.call("GET", "/api_keys"))["items"]
    assert [(one["kind"], one["name"]) for one in listed] == [
        ("organization", "tests"),
        ("partner", "tests"),
        ("organization", "second"),
    ]
    assert not any("key" in one for one in listed)
    status, _ = await acme.call("DELETE", f"/api_keys/{made['id']}", key=made["key"])
    assert status == 422
    assert await acme.call("DELETE", f"/api_keys/{made['id']}") == {"success": True}
    assert await acme.call("GET", "/projects", key=made["key"]) == (401, UNAUTHENTICATED["organization"])
    assert (await acme.call("POST", "/api_keys", {"kind": "device", "name": "x"}))[0] == 422


async def test_short_lists_have_pages_too(acme: Owner) -> None:
    """The form of a list is the same everywhere."""
    for n in range(3):
        await acme.call("POST", "/projects", {"name": f"P{n}"})
    page = await acme.call("GET", "/projects", per_page=3)
    assert ([one["name"] for one in page["items"]], page["next_page"]) == (["Main", "P0", "P1"], 2)
    page = await acme.call("GET", "/projects", per_page=3, page=2)
    assert ([one["name"] for one in page["items"]], page["next_page"]) == (["P2"], None)
    assert (await acme.call("GET", "/projects", page=99))["items"] == []
