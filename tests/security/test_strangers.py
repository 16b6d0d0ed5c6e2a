"""What is another tenant's does not exist: no status and no sentence tells it from what nobody has."""

from typing import Any

from owners import Owner
from projects import account_of

from gateway.api.callers.service_accounts import SERVICE_ACCOUNT
from gateway.app import ENDPOINTS
from schemas import ids

SCOPED = [endpoint for endpoint in ENDPOINTS if endpoint.caller is SERVICE_ACCOUNT and endpoint.scopes]


async def things(owner: Owner) -> dict[str, str]:
    """One of everything that paths of `/v2` name."""
    boss = await account_of(owner, "organization.admin")
    project = f"/v2/projects/{owner.project_id}"
    _, connector = await boss.ask("POST", f"{project}/dataconnectors", {"httpConfig": {"url": "https://x.example/"}})
    _, member = await boss.ask("POST", f"{project}/members", {"roles": ["roles/project.user"], "email": "a@b.example"})
    _, emulated = await boss.ask("POST", f"/emulator{project}/devices", {"type": "touch"})
    return {
        "project": str(owner.project_id),
        "organization": str(owner.organization_id),
        "account": boss.id,
        "key": boss.key_id,
        "member": member["name"].rpartition("/")[2],
        "connector": connector["name"].rpartition("/")[2],
        "device": emulated["name"].rpartition("/")[2],
        "label": "name",
    }


async def test_in_v2_a_strangers_thing_is_answered_like_none_at_all(acme: Owner, globex: Owner) -> None:
    """On every call with a scope: by the stranger's own address, and below an address of one's own."""
    caller = await account_of(acme, "organization.admin")
    own, theirs = await things(acme), await things(globex)
    nothing = {name: str(ids.new_id()) for name in ("project", "organization")} | dict.fromkeys(
        ("account", "key", "member", "connector"), ids.new_xid()
    )
    nothing |= {"device": ids.device_name(ids.new_emulated_id()), "label": "name"}
    compared = 0
    for endpoint in SCOPED:
        names = [part.partition("}")[0] for part in endpoint.path.split("{")[1:]]
        for first_is_own in (False, True):
            if first_is_own and len(names) < 2:
                continue
            answers: list[Any] = []
            for other in (theirs, nothing):
                given = {name: other[name] for name in names} | ({names[0]: own[names[0]]} if first_is_own else {})
                body: Any = None if endpoint.body is None else {}
                status, answer = await caller.ask(endpoint.method, endpoint.path.format(**given), body)
                for name, value in given.items():
                    answer = {k: str(v).replace(value, f"<{name}>") for k, v in answer.items()}
                answers.append((status, answer))
            assert answers[0] == answers[1], (endpoint, first_is_own)
            assert answers[0][0] in (400, 404), (endpoint, answers)
            compared += 1
    assert compared > len(SCOPED)


async def test_devices_of_strangers_are_named_in_lists_of_errors_like_none(acme: Owner, globex: Owner) -> None:
    """Where a call names many devices, each that is not the caller's is told of in the same words."""
    boss, theirs, nobodys = await account_of(acme, "organization.admin"), await globex.device(), ids.new_id()
    target = f"/v2/projects/{acme.project_id}/devices"
    for verb, body, member in (
        ("batchUpdate", {"addLabels": {"a": "b"}}, "batchErrors"),
        ("transfer", {}, "transferErrors"),
    ):
        told = []
        for project, device in ((globex.project_id, theirs), (ids.new_id(), nobodys), (acme.project_id, theirs)):
            name = f"projects/{project}/devices/{device}"
            _, answer = await boss.ask("POST", f"{target}:{verb}", body | {"devices": [name]})
            told.append([error["status"] for error in answer[member]])
        if verb == "transfer":  # a device that is said to be in the target project already is told so, whatever it is
            told.pop()
        assert all(one == told[0] for one in told), verb
    assert (await globex.row(theirs))["labels"] == {}
