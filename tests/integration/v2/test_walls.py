"""The walls between tenants in /v2: every call, walked with what is another organization's."""

import asyncio
import json
import string
from typing import Any

from digests import everything
from owners import Owner
from projects import Account, account_of

from gateway.api.callers.service_accounts import SERVICE_ACCOUNT
from gateway.api.endpoint import Endpoint
from gateway.app import ENDPOINTS as ALL
from schemas import ids

ENDPOINTS: list[Endpoint] = [one for one in ALL if one.caller is SERVICE_ACCOUNT]

OPEN = {"list_roles", "read_role"}
"""Calls about what is the same for all tenants."""
EACH_BY_ITSELF = {"claim_devices", "transfer_devices", "update_labels", "update_project_labels"}
"""Calls that are answered, and are in the caller's audit log, also where each of the things they name is refused."""
CALL_S = 20.0
"""No call that is refused takes so long; a stream that is not refused never ends."""
RECEIVER = {"url": "https://receiver.example/events", "signatureSecret": "s3cret-of-16-and-more"}
ROLE = {"roles": ["roles/project.user"]}


def bodies(given: dict[str, str]) -> dict[str, Any]:
    """A body for every call that takes one, with these ids."""
    project = f"projects/{given['project']}"
    device, someone = f"{project}/devices/{given['device']}", "someone@example.org"
    return {
        "claim_devices": {"deviceIds": [given["identifier"]]},
        "create_connector": {"httpConfig": RECEIVER},
        "check_new": {"httpConfig": RECEIVER},
        "check_change": {"displayName": "stolen-by-somebody"},
        "rotate_secret": {"signatureSecret": "stolen-by-somebody"},
        "update_connector": {"displayName": "stolen-by-somebody"},
        "replay": {"startTime": "2026-05-01T00:00:00Z", "endTime": "2026-05-02T00:00:00Z"},
        "create_emulated_device": {"type": "temperature"},
        "publish_event": {"temperature": {"value": 21.5}},
        "replace_emulated_device": {"type": "temperature", "labels": {"name": "stolen-by-somebody"}},
        "update_labels": {"devices": [device], "addLabels": {"stolen-by-somebody": "1"}},
        "add_label": {"key": "stolen-by-somebody", "value": "1"},
        "change_label": {"value": "stolen-by-somebody"},
        "add_project_member": ROLE | {"email": someone},
        "change_project_member": ROLE,
        "add_organization_member": {"roles": ["roles/organization.admin"], "email": someone},
        "create_members": {"members": [ROLE | {"email": someone, "project": project}]},
        "delete_members": {"names": [f"{project}/members/{given['member']}"]},
        "create_project": {
            "organization": f"organizations/{given['organization']}",
            "displayName": "stolen-by-somebody",
        },
        "update_project_labels": {"projects": [project], "addLabels": {"stolen-by-somebody": "1"}},
        "update_project": {"displayName": "stolen-by-somebody"},
        "create_account": {"displayName": "stolen-by-somebody"},
        "update_account": {"displayName": "stolen-by-somebody"},
        "transfer_devices": {"devices": [device]},
    }


def queries(given: dict[str, str]) -> dict[str, str]:
    """The queries that name something, likewise."""
    return {
        "claim_info": f"?identifier={given['identifier']}",
        "list_projects": f"?organization=organizations/{given['organization']}",
        "list_members_of_all_projects": f"?organization=organizations/{given['organization']}",
    }


async def places(tenant: Owner) -> dict[str, str]:
    """One thing of the tenant's for every member of a path, and what else identifies something of his."""
    boss = await account_of(tenant, "organization.admin")
    project, organization = f"/v2/projects/{tenant.project_id}", f"/v2/organizations/{tenant.organization_id}"

    async def made(path: str, body: Any) -> str:
        status, answer = await boss.ask("POST", path, body)
        assert status == 200, answer
        return str(answer.get("name") or answer["key"]["name"]).rpartition("/")[2]

    device = await tenant.device()
    row = await tenant.row(device)
    await made(f"{project}/devices/{device}/labels", {"key": "theirs", "value": "1"})
    account = await made(f"{project}/serviceaccounts", {"displayName": "Theirs"})
    leads = {"roles": ["roles/organization.admin"], "email": "boss@example.org"}
    return {
        "project": str(tenant.project_id),
        "organization": str(tenant.organization_id),
        "device": str(device),
        "emulated": await made(f"/emulator{project}/devices", {"type": "temperature"}),
        "label": "theirs",
        "connector": await made(f"{project}/dataconnectors", {"httpConfig": RECEIVER}),
        "account": account,
        "key": await made(f"{project}/serviceaccounts/{account}/keys", None),
        "member": await made(f"{project}/members", ROLE | {"email": "theirs@example.org"}),
        "organization_member": await made(f"{organization}/members", leads),
        "identifier": f"{row['mac']}/{row['sn']}",
    }


def unknown(given: dict[str, str]) -> dict[str, str]:
    """Ids of the same shapes, of nothing."""
    made = {}
    for name, value in given.items():
        if value.startswith("emu"):
            made[name] = ids.device_name(ids.new_emulated_id())
        else:
            made[name] = ids.new_xid() if len(value) == 20 else str(ids.new_id())
    return made | {"label": "nothing", "identifier": "02:ff:ff:ff:ff:ff/NOTHING"}


def members(endpoint: Endpoint) -> list[str]:
    """The names in braces of a call's path, in order."""
    return [name for _, name, _, _ in string.Formatter().parse(endpoint.path) if name]


def address(endpoint: Endpoint, given: dict[str, str], query_of: dict[str, str]) -> str:
    """The path of a call with these members, and its query."""
    if endpoint.path.startswith("/emulator/"):
        given = given | {"device": given["emulated"]}
    if "/organizations/" in endpoint.path:
        given = given | {"member": given["organization_member"]}
    path = endpoint.path.format(**{name: given[name] for name in members(endpoint)})
    return path + queries(query_of).get(endpoint.function.__name__, "")


async def ask(
    account: Account, endpoint: Endpoint, in_path: dict[str, str], in_body: dict[str, str]
) -> tuple[int, Any]:
    """One call."""
    body = bodies(in_body).get(endpoint.function.__name__)
    async with asyncio.timeout(CALL_S):
        return await account.ask(endpoint.method, address(endpoint, in_path, in_body), body)


def without(answer: tuple[int, Any], given: dict[str, str]) -> tuple[int, str]:
    """An answer in which the ids that were given are called by what they are."""
    status, text = answer[0], json.dumps(answer[1])
    for name, value in given.items():
        text = text.replace(value, f"<{name}>")
    return status, text


async def everything_of_others(owner: Owner, account: Account) -> dict[str, str]:
    """A digest of every table, but for what this account of this owner's did by its owner's audit log."""
    return await everything(owner.pool, "organization_id = $1 AND actor = $2", owner.organization_id, account.id)


async def check_notes(account: Account, owner: Owner, theirs: dict[str, str], nothing: dict[str, str]) -> None:
    """What the audit log says of calls that answer for each thing by itself: of what is another's, nothing but what the
    caller gave, as of what does not exist. The two were asked for by turns.
    """
    rows = await owner.pool.fetch(
        "SELECT action, target, given, before, after FROM audit_log WHERE actor = $1 ORDER BY at, id", account.id
    )
    notes = [list(row) for row in rows]
    assert {note[0] for note in notes} <= EACH_BY_ITSELF
    of_theirs = [without((200, note), theirs) for note in notes[::2]]
    assert of_theirs == [without((200, note), nothing) for note in notes[1::2]]


async def test_the_walk_knows_every_call(acme: Owner) -> None:
    """A body for each that takes one, something of the tenant's for each member of a path: a new call cannot be
    forgotten here.
    """
    given = await places(acme)
    assert {one.function.__name__ for one in ENDPOINTS if one.body is not None} == set(bodies(given))
    assert {name for one in ENDPOINTS for name in members(one)} - {"role"} <= set(given)
    assert {one.function.__name__ for one in ENDPOINTS} >= OPEN
    listing = {one.function.__name__ for one in ENDPOINTS if not members(one) and one.method == "GET"}
    assert listing - {"list_organizations"} - OPEN == set(queries(given))


async def test_no_call_reaches_what_is_another_organizations(acme: Owner, globex: Owner) -> None:
    """What is another's is answered like what does not exist, on every route; lists do not show it; nothing changes."""
    theirs = await places(globex)
    nothing = unknown(theirs)
    account = await account_of(acme, "organization.admin")
    before = await everything_of_others(acme, account)
    for endpoint in ENDPOINTS:
        if endpoint.function.__name__ in OPEN:
            continue
        answer = await ask(account, endpoint, theirs, theirs)
        like_unknown = await ask(account, endpoint, nothing, nothing)
        assert without(answer, theirs) == without(like_unknown, nothing), endpoint
        if members(endpoint):
            assert answer[0] in (403, 404), endpoint
        elif endpoint.method == "GET":
            assert not any(value in json.dumps(answer[1]) for value in theirs.values()), endpoint
    assert await everything_of_others(acme, account) == before
    await check_notes(account, acme, theirs, nothing)


async def test_a_way_through_ones_own_project_does_not_lead_to_anothers(acme: Owner, globex: Owner) -> None:
    """The project of the path, or all projects, are the caller's own; what follows, and what the body names, is not."""
    theirs = await places(globex)
    nothing = unknown(theirs)
    account = await account_of(acme, "organization.admin")
    own = {"project": str(acme.project_id), "organization": str(acme.organization_id)}
    naming = {name for name, body in bodies(theirs).items() if any(i in json.dumps(body) for i in theirs.values())}
    before = await everything_of_others(acme, account)
    for endpoint in ENDPOINTS:
        first, *rest = [*members(endpoint), ""]
        if first not in own or not (any(rest) or endpoint.function.__name__ in naming):
            continue
        for of_path in (own[first], "-"):
            answer = await ask(account, endpoint, theirs | {first: of_path}, theirs)
            like_unknown = await ask(account, endpoint, nothing | {first: of_path}, nothing)
            assert without(answer, theirs) == without(like_unknown, nothing), (endpoint, of_path)
            assert endpoint.method != "GET" or answer[0] in (403, 404, 422), (endpoint, of_path)
    assert await everything_of_others(acme, account) == before
    await check_notes(account, acme, theirs, nothing)
