"""Nobody gets more than he has by way of another's account: keys, changes and deletion ask for as much as it has."""

from typing import Any

import pytest
from owners import Owner
from projects import Account, account_of

from gateway.stores.accounts import members, service_accounts


async def promoted(acme: Owner, where: str) -> Account:
    """An account of the project that may do more than a project's administrator: in all, or in another project."""
    if where == "organization":
        return await account_of(acme, "organization.admin")
    account = await account_of(acme, "project.user")
    other = await acme.call("POST", "/projects", {"name": "Other"})
    async with acme.pool.acquire() as connection:
        await members.add(connection, acme.organization_id, other["id"], "project.user", service_account_id=account.id)
    return account


@pytest.mark.parametrize("where", ["organization", "another project"])
async def test_a_project_administrator_has_no_hold_on_an_account_that_may_do_more(acme: Owner, where: str) -> None:
    """No key made or ended, nothing changed, not deleted, also not with the project; the account itself may."""
    admin, victim = await account_of(acme, "project.admin"), await promoted(acme, where)
    path = f"/v2/projects/{acme.project_id}/serviceaccounts/{victim.id}"
    calls: list[tuple[str, str, Any]] = [
        ("POST", f"{path}/keys", None),
        ("DELETE", f"{path}/keys/{victim.key_id}", None),
        ("PATCH", path, {"enableBasicAuth": False}),
        ("PATCH", path, {"displayName": "mine"}),
        ("PATCH", path, {}),
        ("DELETE", path, None),
    ]
    for method, address, body in calls:
        status, answer = await admin.ask(method, address, body)
        assert (status, "may do more than the caller" in answer["error"]) == (403, True), (method, address)
    assert len(await service_accounts.keys(acme.pool, victim.id)) == 1
    assert (await victim.ask("GET", path))[1]["displayName"] != "mine"
    if where == "organization":
        for method, address, body in calls[:1] + calls[2:4]:
            assert (await victim.ask(method, address, body))[0] in (200, 401), (method, address)


async def test_an_account_that_may_do_as_much_or_less_is_managed(acme: Owner) -> None:
    """Another administrator of the project, and one without any role."""
    admin = await account_of(acme, "project.admin")
    for role in ("project.admin", "project.user", None):
        other = await account_of(acme, role)
        path = f"/v2/projects/{acme.project_id}/serviceaccounts/{other.id}"
        assert (await admin.ask("POST", f"{path}/keys"))[0] == 200, role
        assert (await admin.ask("PATCH", path, {"displayName": "x"}))[0] == 200, role
        assert (await admin.ask("DELETE", path))[0] == 200, role


async def test_a_project_is_not_deleted_under_an_account_that_may_do_more(acme: Owner) -> None:
    """Its accounts end with it, so deleting it asks for as much as deleting them; by `/v2` and by `/core`."""
    project = await acme.call("POST", "/projects", {"name": "Home"})
    admin, boss = await account_of(acme, "project.admin"), await account_of(acme, "organization.admin")
    async with acme.pool.acquire() as connection:
        await members.add(connection, acme.organization_id, project["id"], "project.admin", service_account_id=admin.id)
    await acme.pool.execute("UPDATE service_accounts SET project_id = $1 WHERE id = $2", project["id"], boss.id)
    key = await acme.call("POST", "/api_keys", {"kind": "organization", "name": "k", "role": "project.admin"})
    assert (await admin.ask("DELETE", f"/v2/projects/{project['id']}"))[0] == 403
    assert (await acme.call("DELETE", f"/projects/{project['id']}", key=key["key"]))[0] == 403
    assert (await boss.ask("GET", f"/v2/projects/{project['id']}"))[0] == 200
    assert await acme.call("DELETE", f"/projects/{project['id']}") == {"success": True}


async def test_nobody_gives_away_a_role_that_he_does_not_have(acme: Owner) -> None:
    """Not to himself, not to another account, not by invitation, not by a key."""
    admin, other = await account_of(acme, "project.admin"), await account_of(acme, None)
    organization, project = f"/v2/organizations/{acme.organization_id}", f"/v2/projects/{acme.project_id}"
    leads = {"roles": ["roles/organization.admin"]}
    for email in (admin.email, other.email, "someone@example.org"):
        assert (await admin.ask("POST", f"{organization}/members", leads | {"email": email}))[0] == 403
        assert (await admin.ask("POST", f"{project}/members", leads | {"email": email}))[0] == 400
    assert (await admin.ask("PATCH", f"{project}/members/{admin.id}", leads))[0] == 400
    assert (await admin.ask("DELETE", f"{organization}/members/{other.id}"))[0] == 403
    for role in ("project.user", "project.developer", "project.admin"):
        key = await acme.call("POST", "/api_keys", {"kind": "organization", "name": role, "role": role})
        for wanted in ("organization.admin", "project.user", None):
            body = {"kind": "organization", "name": "more", "role": wanted}
            assert (await acme.call("POST", "/api_keys", body, key=key["key"]))[0] == 403
        assert (await acme.call("DELETE", f"/api_keys/{acme.key_id}", key=key["key"]))[0] == 403
