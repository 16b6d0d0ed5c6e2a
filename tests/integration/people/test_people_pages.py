"""Administrators manage members and what programs call by, as the APIs let them."""

import html
from datetime import timedelta

from edges import RunningEdge
from owners import Owner
from visitors import ACCEPTANCE, Visitor, person_of, visiting, way_in


async def form_of(visitor: Visitor, path: str) -> dict[str, str]:
    """The token that the forms of a page bring along."""
    _, page = await visitor.get(path)
    return {"form_token": page.partition('name="form_token" value="')[2].partition('"')[0]}


def code_of(page: str) -> str:
    """What a page shows to be copied."""
    return html.unescape(page.partition("<code>")[2].partition("</code>")[0])


async def test_an_administrator_invites_changes_and_removes_members(edge: RunningEdge, acme: Owner) -> None:
    """The link that the page shows is the invitation; an address that is a member already is told."""
    boss_id = await person_of(acme, "organization.admin", email="boss@example.com")
    project = f"/people/{acme.project_id}"
    async with visiting(edge) as boss, visiting(edge) as ada:
        await boss.send(await way_in(acme.pool, boss_id))
        form = await form_of(boss, "/people")
        assert (await boss.send(project, form | {"email": "no address", "role": "project.user"}))[0] == 422
        status, page = await boss.send(project, form | {"email": "ada@example.com", "role": "project.user"})
        assert status == 200
        assert (await ada.send(code_of(page).removeprefix(edge.url), ACCEPTANCE))[0] == 303
        assert (await boss.send(project, form | {"email": "ada@example.com", "role": "project.user"}))[0] == 409
        member_id = await acme.pool.fetchval("SELECT member_id FROM memberships WHERE email = 'ada@example.com'")
        assert "ada@example.com" in (await boss.get(f"/people?where={acme.project_id}"))[1]
        assert (await boss.send(f"{project}/{member_id}/role", form | {"role": "project.admin"}))[0] == 303
        assert (await boss.send(f"{project}/{member_id}/role", form | {"role": "organization.admin"}))[0] == 422
        assert (await ada.get("/people"))[0] == 200
        assert (await ada.get("/people?where=organization"))[0] == 403
        assert (await ada.get("/api-keys"))[0] == 403
        assert (await boss.send(f"{project}/{member_id}/remove", form))[0] == 303
        assert (await ada.get("/people"))[0] == 404


async def test_secrets_of_programs_are_shown_once(edge: RunningEdge, acme: Owner) -> None:
    """Of service accounts and API keys: what is shown opens what it is for, until it is ended."""
    boss_id = await person_of(acme, "organization.admin", email="boss@example.com")
    async with visiting(edge) as boss:
        await boss.send(await way_in(acme.pool, boss_id))
        form = await form_of(boss, "/people")
        given = {"name": "Robot", "role": "project.user", "basic_auth": "true"}
        status, page = await boss.send(f"/service-accounts/{acme.project_id}", form | given)
        secret = code_of(page)
        account = await acme.pool.fetchrow(
            "SELECT a.id, k.id AS key FROM service_accounts a JOIN service_account_keys k ON service_account_id = a.id"
        )
        assert (status, secret != "") == (200, True)
        assert secret not in (await boss.get("/service-accounts"))[1]
        base = f"/service-accounts/{acme.project_id}/{account['id']}"
        assert (await boss.send(f"{base}/key", form))[0] == 200
        assert (await boss.send(f"{base}/keys/{account['key']}/end", form))[0] == 303
        assert (await boss.send(f"{base}/delete", form))[0] == 303
        assert await acme.pool.fetchval("SELECT count(*) FROM service_accounts") == 0
        given = {"name": "Script", "kind": "organization", "role": "project.user"}
        status, page = await boss.send("/api-keys", form | given)
        key = code_of(page)
        assert (await acme.ask("GET", "/core/v1/organization/devices", key=key))[0] == 200
        key_id = await acme.pool.fetchval("SELECT id FROM api_keys WHERE name = 'Script'")
        assert (await boss.send(f"/api-keys/{key_id}/revoke", form))[0] == 303
        assert (await acme.ask("GET", "/core/v1/organization/devices", key=key))[0] == 401
        assert (await boss.send("/api-keys", form | given | {"role": "partner.user"}))[0] == 422
        assert (await boss.send("/api-keys", form | given | {"days": "0"}))[0] == 422
        status, page = await boss.send("/api-keys", form | given | {"name": "Short", "days": "30"})
        lasts = await acme.pool.fetchval("SELECT expires_at - now() FROM api_keys WHERE name = 'Short'")
        assert (status, round(lasts / timedelta(days=1))) == (200, 30)


async def test_people_of_a_vendor_are_invited_and_see_what_it_makes(edge: RunningEdge, acme: Owner) -> None:
    """By who administers the organization, as owner or as vendor; their portal begins at what is made."""
    boss_id = await person_of(acme, "organization.admin", email="boss@example.com")
    device_id = await acme.device(name="Pump")
    await acme.call("POST", "/incidents", {"device_id": str(device_id), "title": "It leaks"})
    ticket = await acme.call("POST", "/tickets", {"device_id": str(device_id), "title": "It drips"})
    async with visiting(edge) as boss, visiting(edge) as ada:
        await boss.send(await way_in(acme.pool, boss_id))
        form = await form_of(boss, "/partner/people")
        invitation = form | {"email": "ada@example.com", "role": "partner.user"}
        assert (await boss.send("/partner/people", invitation | {"role": "organization.admin"}))[0] == 422
        _, page = await boss.send("/partner/people", invitation)
        assert (await ada.send(code_of(page).removeprefix(edge.url), ACCEPTANCE))[0] == 303
        status, overview = await ada.get("/")
        assert (status, "It leaks" in overview, "It drips" in overview) == (200, True, True)
        assert (await ada.get(f"/models/{acme.model_id}"))[0] == 200
        assert [(await ada.get(path))[0] for path in ("/partner/people", "/devices", "/audit")] == [403, 404, 404]
        answer = {"form_token": (await form_of(ada, "/account"))["form_token"], "message": "On its way"}
        assert (await ada.send(f"/partner/tickets/{ticket['id']}/message", answer))[0] == 403
        member_id = await acme.pool.fetchval("SELECT member_id FROM memberships WHERE email = 'ada@example.com'")
        await boss.send(f"/partner/people/{member_id}/role", form | {"role": "partner.admin"})
        answer["form_token"] = (await form_of(ada, "/account"))["form_token"]
        assert (await ada.send(f"/partner/tickets/{ticket['id']}/message", answer))[0] == 303
        assert (await ada.get("/partner/people"))[0] == 200
        assert (await boss.send(f"/partner/people/{member_id}/remove", form))[0] == 303
        assert (await ada.get("/partner"))[0] == 404
