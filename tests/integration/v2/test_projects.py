"""Projects, their members and labels, as the public clients of the API call them."""

from typing import Any

import disruptive as dt
import pytest
from owners import Owner
from projects import Account, account_of

UNKNOWN = "01a20000-0000-7000-8000-000000000000"


async def made(account: Account, name: str = "Plant", **members: Any) -> str:
    """A project of the tenant's; its name."""
    body = {"organization": f"organizations/{account.owner.organization_id}", "displayName": name, **members}
    status, answer = await account.ask("POST", "/v2/projects", body)
    assert status == 200, answer
    return str(answer["name"])


async def test_a_project_says_where_it_is_and_has_labels(acme: Owner) -> None:
    """As an infrastructure-as-code provider makes and changes it: the location whole, the labels by batch."""
    boss = await account_of(acme, "organization.admin")
    place = {"latitude": 63.4, "longitude": 10.9, "timeLocation": "Europe/Oslo"}
    name = await made(boss, location=place, labels={"floor": "2"})
    status, read = await boss.ask("GET", f"/v2/{name}")
    assert (status, read["location"], read["labels"]) == (200, place, {"floor": "2"})
    # It sends the whole project, null where it knows nothing, and the name that it has.
    change = {
        "name": name,
        "displayName": "Works",
        "organization": f"organizations/{acme.organization_id}",
        "location": {"latitude": None, "longitude": None, "timeLocation": "UTC"},
    }
    status, changed = await boss.ask("PATCH", f"/v2/{name}", change)
    assert (status, changed) == (200, read | {"displayName": "Works", "location": change["location"]})
    status, changed = await boss.ask("PATCH", f"/v2/{name}?update_mask=location,labels", {"displayName": "Ignored"})
    assert (changed["displayName"], changed["labels"]) == ("Works", {})
    plain = await made(boss)
    assert (await boss.ask("GET", f"/v2/{plain}"))[1]["location"] == change["location"]
    [main] = [p for p in (await boss.ask("GET", "/v2/projects"))[1]["projects"] if p["displayName"] == "Main"]
    assert (main["labels"], main["location"]["timeLocation"]) == ({}, "UTC")


@pytest.mark.parametrize(
    "change",
    [
        {"location": {"latitude": 91, "longitude": 0}},
        {"location": {"latitude": 9}},
        {"location": {"timeLocation": "Oslo"}},
        {"location": {"timeZone": "Europe/Oslo"}},
        {"organization": f"organizations/{UNKNOWN}"},
        {"labels": {"": "x"}},
        {"displayName": ""},
    ],
)
async def test_a_change_that_does_not_fit_is_refused(acme: Owner, change: Any) -> None:
    """With 400; a project stays in its organization."""
    boss = await account_of(acme, "organization.admin")
    status, answer = await boss.ask("PATCH", f"/v2/projects/{acme.project_id}", change)
    assert (status, answer["code"]) == (400, 400)


async def test_an_update_mask_names_what_there_is(acme: Owner) -> None:
    """An unknown path, or none, is refused."""
    boss = await account_of(acme, "organization.admin")
    for mask in ("", "colour", "displayName,colour", "displayName"):
        status, _ = await boss.ask("PATCH", f"/v2/projects/{acme.project_id}?updateMask={mask}", {})
        assert status == 400, mask


async def test_labels_of_projects_change_by_batch(acme: Owner, globex: Owner) -> None:
    """Where the caller administers the project; others are named, and all that can be done is done."""
    boss, user = await account_of(acme, "organization.admin"), await account_of(acme, "project.user")
    name = await made(boss, labels={"a": "1", "b": "2"})
    others = [f"projects/{globex.project_id}", f"projects/{UNKNOWN}", "x"]
    body = {"projects": [name, *others], "addLabels": {"c": "3", "a": "0"}, "removeLabels": ["b", "z"]}
    status, answer = await boss.ask("POST", "/v2/projects:batchUpdate", body)
    assert status == 200
    assert [(e["project"], e["status"]["code"]) for e in answer["batchErrors"]] == [(o, "NOT_FOUND") for o in others]
    assert (await boss.ask("GET", f"/v2/{name}"))[1]["labels"] == {"a": "0", "c": "3"}
    own = f"projects/{acme.project_id}"
    status, answer = await user.ask("POST", "/v2/projects:batchUpdate", {"projects": [own], "addLabels": {"a": "1"}})
    assert [e["status"]["code"] for e in answer["batchErrors"]] == ["PERMISSION_DENIED"]
    many = {"projects": [name], "addLabels": {str(n): "x" for n in range(99)}}
    status, answer = await boss.ask("POST", "/v2/projects:batchUpdate", many)
    assert [e["status"]["code"] for e in answer["batchErrors"]] == ["INVALID_ARGUMENT"]
    assert (await boss.ask("POST", "/v2/projects:batchUpdate", {"projects": [name]}))[0] == 400


async def test_two_projects_may_have_one_name(acme: Owner) -> None:
    """They are told apart by their ids, in both APIs."""
    boss = await account_of(acme, "organization.admin")
    assert await made(boss, "Main") != await made(boss, "Main")
    assert (await acme.call("POST", "/projects", {"name": "Main"}))["name"] == "Main"
    assert len((await acme.call("GET", "/projects"))["items"]) == 4


async def test_deleted_devices_hold_no_project(acme: Owner) -> None:
    """Nor does the space made for them unasked; live devices, spaces and cloud connectors do, and are named."""
    boss = await account_of(acme, "organization.admin")
    project = await boss.client(dt.Project.create_project, str(acme.organization_id), "Short-lived")
    device = await boss.client(dt.Emulator.create_device, project.project_id, dt.Device.TOUCH)
    path = f"/v2/projects/{project.project_id}"

    async def refusal() -> str:
        status, answer = await boss.ask("DELETE", path)
        assert status == 400
        return str(answer["error"])

    assert await refusal() == "Project still has devices: delete or move them first"
    await boss.client(dt.Emulator.delete_device, device.device_id, project.project_id)
    space = await acme.call("POST", "/spaces", {"project_id": project.project_id, "name": "Hall"})
    assert await refusal() == "Project still has spaces: delete or move them first"
    connector = {
        "provider": "microsoft_teams_rooms",
        "project_id": project.project_id,
        "space_id": space["id"],
        "settings": {"tenant": "contoso"},
    }
    await acme.call("POST", "/connectors", connector)
    assert await refusal() == "Project still has cloud connectors: delete or move them first"
    await acme.pool.execute("DELETE FROM cloud_connectors")
    await acme.call("DELETE", f"/spaces/{space['id']}")
    await boss.client(dt.Project.delete_project, project.project_id)
    assert (await boss.ask("GET", path))[0] == 404


async def test_labels_of_a_device_one_by_one(acme: Owner) -> None:
    """Given, read, changed and taken away; the name is one of them, and a key may hold a slash."""
    developer = await account_of(acme, "project.developer")
    device_id = await acme.device(name="Hall")
    path = f"/v2/projects/{acme.project_id}/devices/{device_id}/labels"
    assert (await developer.ask("PATCH", f"{path}/room", {"value": "99"}))[0] == 200
    status, label = await developer.ask("PATCH", f"{path}/room", {"value": "100"})
    assert (status, label) == (200, {"name": f"{path[4:]}/room", "key": "room", "value": "100"})
    await developer.ask("PATCH", f"{path}/a/b?update_mask=value", {"value": ""})
    await developer.ask("POST", path, {"key": "name", "value": "Cellar"})
    assert (await acme.row(device_id))["name"] == "Cellar"
    _, first = await developer.ask("GET", f"{path}?page_size=2")
    _, second = await developer.ask("GET", f"{path}?page_token={first['nextPageToken']}")
    listed = {label["key"]: label["value"] for label in first["labels"] + second["labels"]}
    assert (listed, len(first["labels"])) == ({"a/b": "", "name": "Cellar", "room": "100"}, 2)
    assert (await developer.ask("GET", f"{path}/room"))[1] == label
    assert (await developer.ask("DELETE", f"{path}/room"))[0] == 200
    for method, key in (("GET", "room"), ("DELETE", "room"), ("GET", "x")):
        assert (await developer.ask(method, f"{path}/{key}"))[0] == 404
    for method, rest, body in (
        ("PATCH", f"{path}/{'k' * 256}", {"value": "x"}),
        ("PATCH", f"{path}/k", {"value": "x" * 256}),
        ("PATCH", f"{path}/k", {}),
        ("PATCH", f"{path}/", {"value": "x"}),
    ):
        assert (await developer.ask(method, rest, body))[0] == 400, (rest, body)
    many = {"devices": [path[4:-7]], "addLabels": {str(n): "x" for n in range(99)}}
    await developer.ask("POST", f"/v2/projects/{acme.project_id}/devices:batchUpdate", many)
    assert (await developer.ask("PATCH", f"{path}/k", {"value": "x"}))[0] == 400
    elsewhere = f"/v2/projects/{acme.project_id}/devices/{UNKNOWN}/labels"
    assert (await developer.ask("PATCH", f"{elsewhere}/k", {"value": "x"}))[0] == 404


async def test_an_emulated_device_is_replaced_whole(acme: Owner) -> None:
    """Its labels are those of the request and no others; its type stays."""
    developer = await account_of(acme, "project.developer")
    devices = f"/emulator/v2/projects/{acme.project_id}/devices"
    status, device = await developer.ask(
        "POST", devices, {"name": "", "type": "touch", "labels": {"name": "A", "x": "1"}}
    )
    assert status == 200
    path = f"{devices}/{device['name'].rpartition('/')[2]}"
    status, replaced = await developer.ask("PUT", path, device | {"labels": {"name": "B", "y": "2"}})
    assert (status, replaced) == (200, device | {"labels": {"name": "B", "y": "2"}})
    assert (await developer.ask("GET", path))[1] == replaced
    for wrong in ({"type": "co2"}, {"labels": {str(n): "x" for n in range(101)}}, {"colour": "red"}):
        assert (await developer.ask("PUT", path, wrong))[0] == 400
    assert (await developer.ask("POST", devices, {"name": "mine", "type": "touch"}))[0] == 400


async def test_members_of_many_projects_at_once(acme: Owner, globex: Owner) -> None:
    """As an infrastructure-as-code provider binds a role: made together, found by the member's id, ended together."""
    boss = await account_of(acme, "organization.admin")
    places = [f"projects/{acme.project_id}", await made(boss)]
    email, role = "someone@example.org", ["roles/project.user"]
    body: Any = {"members": [{"project": place, "email": email, "roles": role} for place in places]}
    status, answer = await boss.ask("POST", "/v2/projects/-/members:batchCreate", body)
    assert status == 200, answer
    names = [member["name"] for member in answer["members"]]
    [member_id] = {name.rpartition("/")[2] for name in names}
    assert names == [f"{place}/members/{member_id}" for place in places]
    assert {member["email"] for member in answer["members"]} == {email}
    for place in places:
        status, found = await boss.ask("GET", f"/v2/{place}/members?memberId={member_id}")
        assert [member["name"] for member in found["members"]] == [f"{place}/members/{member_id}"]
    listed, token = [], ""
    query = f"organization=organizations/{acme.organization_id}&memberId={member_id}&pageSize=1"
    while True:
        status, page = await boss.ask("GET", f"/v2/projects/-/members?{query}&pageToken={token}")
        assert status == 200, page
        listed += [member["name"] for member in page["members"]]
        if not (token := page["nextPageToken"]):
            break
    assert listed == sorted(names)
    whole = answer["members"][0] | {"roles": ["roles/project.admin"]}
    status, changed = await boss.ask("PATCH", f"/v2/{names[0]}", whole)
    assert (status, changed) == (200, whole)
    assert (await boss.ask("PATCH", f"/v2/{names[0]}", whole | {"email": "other@example.org"}))[0] == 400
    # All or none: what is a member already, an unknown project, one that is another tenant's.
    other = {"email": "other@example.org", "roles": role}
    for wrong, status in (
        (other | {"email": email, "project": places[1]}, 409),
        (other | {"project": f"projects/{globex.project_id}"}, 404),
        (other | {"project": "x"}, 404),
        (other, 400),
    ):
        many = {"members": [other | {"project": places[0]}, wrong]}
        assert (await boss.ask("POST", "/v2/projects/-/members:batchCreate", many))[0] == status, wrong
        assert (
            await boss.ask(
                "POST", "/v2/projects/-/members:batchDelete", {"names": [names[0], f"{places[0]}/members/x"]}
            )
        )[0] == 404
    assert await acme.pool.fetchval("SELECT count(*) FROM memberships WHERE email IS NOT NULL") == 2
    assert (await boss.ask("POST", f"/v2/{places[0]}/members:batchCreate", {"members": [other]}))[0] == 200
    assert (await boss.ask("POST", f"/v2/{places[0]}/members:batchDelete", {"names": [names[1]]}))[0] == 400
    assert (await boss.ask("POST", "/v2/projects/-/members:batchDelete", {"names": names}))[0] == 200
    assert await acme.pool.fetchval("SELECT count(*) FROM memberships WHERE email IS NOT NULL") == 1


async def test_who_does_not_administer_a_project_makes_no_members_there(acme: Owner, globex: Owner) -> None:
    """403; and a list over all projects holds those only that the caller may read."""
    boss, user = await account_of(acme, "organization.admin"), await account_of(acme, "project.user")
    other = await made(boss)
    member = {"email": "someone@example.org", "roles": ["roles/project.user"], "project": f"projects/{acme.project_id}"}
    assert (await user.ask("POST", "/v2/projects/-/members:batchCreate", {"members": [member]}))[0] == 403
    await boss.ask("POST", f"/v2/{other}/members:batchCreate", {"members": [member | {"project": other}]})
    query = f"/v2/projects/-/members?organization=organizations/{acme.organization_id}"
    _, page = await user.ask("GET", query)
    assert {one["name"].split("/")[1] for one in page["members"]} == {str(acme.project_id)}
    assert (await user.ask("GET", f"/v2/projects/-/members?organization=organizations/{globex.organization_id}"))[
        0
    ] == 404
    assert (await user.ask("GET", "/v2/projects/-/members"))[0] == 400


async def test_an_invitation_ends_with_its_member(acme: Owner) -> None:
    """Its link, and others that never were one, lead to a page that says so."""
    boss = await account_of(acme, "organization.admin")
    member = {"email": "someone@example.org", "roles": ["roles/project.user"]}
    _, made_member = await boss.ask("POST", f"/v2/projects/{acme.project_id}/members", member)
    _, answer = await boss.ask("GET", f"/v2/{made_member['name']}:getInviteUrl")
    assert answer["inviteUrl"].startswith(acme.url)
    async with acme.http.get(answer["inviteUrl"]) as page:
        assert (page.status, "invited to Acme" in await page.text()) == (200, True)
        policy = dict(rule.split(maxsplit=1) for rule in page.headers["content-security-policy"].split(";"))
        # Nothing but this host's own files, none of them inline; pictures can be in the page.
        assert (policy.pop("img-src"), policy["default-src"]) == ("'self' data:", "'none'")
        assert set(policy.values()) == {"'none'", "'self'"}
    await boss.ask("DELETE", f"/v2/{made_member['name']}")
    none = f"{acme.url}/invitations"
    said = {
        answer["inviteUrl"]: "link has ended",
        f"{none}/{boss.id}": "link has ended",
        f"{none}/%00": "<p>Not found.",
    }
    for url, text in said.items():
        async with acme.http.get(url) as page:
            assert (page.status, text in await page.text()) == (404, True), url


async def test_short_lists_have_pages_too(acme: Owner) -> None:
    """Clients that page through everything read each of them once."""
    boss = await account_of(acme, "organization.admin")
    project = f"/v2/projects/{acme.project_id}"
    keys = f"{project}/serviceaccounts/{boss.id}/keys"
    for _ in range(2):
        await boss.ask("POST", keys)
    for path, member in (("/v2/roles", "roles"), (f"{project}/permissions", "permissions"), (keys, "keys")):
        _, whole = await boss.ask("GET", path)
        read: list[Any] = []
        token = ""
        while True:
            _, page = await boss.ask("GET", f"{path}?page_size=2&page_token={token}")
            read += page[member]
            if not (token := page["nextPageToken"]):
                break
        assert (read, len(read) > 2) == (whole[member], True)
        assert (await boss.ask("GET", f"{path}?page_token=x"))[0] == 400
