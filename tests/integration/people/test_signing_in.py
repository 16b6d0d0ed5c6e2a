"""How people come in by links, what their sessions are, and how these end."""

from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from edges import RunningEdge
from owners import Owner
from projects import account_of
from starlette.requests import Request
from starlette.responses import Response
from visitors import ACCEPTANCE, Visitor, invited, person_of, visiting, way_in

from gateway.api import session_cookie
from gateway.api.callers import people
from gateway.api.principals import Principal
from gateway.refusals import Unauthenticated
from gateway.stores.people import sessions


async def seen_as(edge: RunningEdge, visitor: Visitor, later: timedelta = timedelta()) -> Principal:
    """Who the edge takes a browser for, some time from now."""
    cookies = "; ".join(f"{name}={cookie.value}" for name, cookie in visitor.cookies.items())
    request = Request({"type": "http", "headers": [(b"cookie", cookies.encode())], "state": {}})
    now = edge.services.clock() + later
    return await people.authenticate(msgspec.structs.replace(edge.services, clock=lambda: now), request)


async def test_an_invitation_is_accepted_once_by_a_button(edge: RunningEdge, acme: Owner) -> None:
    """Opening it changes nothing, since programs do that too; then it has ended for everybody."""
    path = await invited(acme, "project.developer")
    async with visiting(edge) as ada, visiting(edge) as mallory:
        for _ in range(2):
            status, page = await ada.get(path)
            assert (status, "invited to Acme" in page, "ada@example.com" in page) == (200, True, True)
        assert ada.cookies == {}
        assert await ada.send(path, ACCEPTANCE) == (303, "/")
        person = await seen_as(edge, ada)
        (grant,) = person.grants
        assert (grant.organization_id, grant.project_id) == (acme.organization_id, acme.project_id)
        assert (grant.role, person.organization_id) == ("project.developer", acme.organization_id)
        for visitor in (ada, mallory):
            assert (await visitor.get(path))[0] == (await visitor.send(path, ACCEPTANCE))[0] == 404
        assert mallory.cookies == {}


async def test_an_invitation_takes_over_nobodys_account(edge: RunningEdge, acme: Owner, globex: Owner) -> None:
    """Another organization invites the address: its link signs nobody in, and the person accepts when signed in."""
    person_id = await person_of(acme, "organization.admin")
    path = await invited(globex, "organization.admin")
    async with visiting(edge) as ada, visiting(edge) as mallory:
        assert (await mallory.send(path, ACCEPTANCE))[0] == 409
        assert mallory.cookies == {}
        assert (await ada.send(await way_in(acme.pool, person_id)))[0] == 303
        assert len((await seen_as(edge, ada)).grants) == 1
        assert (await ada.send(path))[0] == 303
        assert len((await seen_as(edge, ada)).grants) == 2


async def test_clients_see_who_accepted_and_get_links(acme: Owner, edge: RunningEdge) -> None:
    """By /v2: PENDING with a link, of which each reading makes one; ACCEPTED without."""
    boss = await account_of(acme, "organization.admin")
    member = {"email": "someone@example.org", "roles": ["roles/project.user"]}
    _, made = await boss.ask("POST", f"/v2/projects/{acme.project_id}/members", member)
    links = [(await boss.ask("GET", f"/v2/{made['name']}:getInviteUrl"))[1]["inviteUrl"] for _ in range(2)]
    assert len(set(links)) == 2
    async with visiting(edge) as someone:
        for link in links:
            assert (await someone.get(link.removeprefix(edge.url)))[0] == 200
        await someone.send(links[0].removeprefix(edge.url), ACCEPTANCE)
        assert (await someone.get(links[1].removeprefix(edge.url)))[0] == 404
    _, shown = await boss.ask("GET", f"/v2/{made['name']}")
    assert (made["status"], shown["status"]) == ("PENDING", "ACCEPTED")
    assert (await boss.ask("GET", f"/v2/{made['name']}:getInviteUrl"))[0] == 409
    # Whoever accepted one role of the organization has the next at once.
    _, more = await boss.ask(
        "POST", f"/v2/organizations/{acme.organization_id}/members", member | {"roles": ["roles/organization.admin"]}
    )
    assert more["status"] == "ACCEPTED"
    await boss.ask("DELETE", f"/v2/{more['name']}")
    assert (await boss.ask("GET", f"/v2/organizations/{acme.organization_id}/members/{boss.id}:getInviteUrl"))[0] == 400


async def test_roles_as_owner_and_as_vendor_stand_side_by_side(acme: Owner, edge: RunningEdge) -> None:
    """Administrators, as /v2 lists them, are owners' only; ending one role leaves the other."""
    boss = await account_of(acme, "organization.admin")
    person_id = await person_of(acme, "organization.admin", "partner.admin")
    async with visiting(edge) as ada:
        await ada.send(await way_in(acme.pool, person_id))
        person = await seen_as(edge, ada)
        assert person.permissions_as_vendor(acme.organization_id) != frozenset()
        assert person.permissions(acme.organization_id, None) != frozenset()
        _, page = await boss.ask("GET", f"/v2/organizations/{acme.organization_id}/members")
        name = next(one["name"] for one in page["members"] if one["accountType"] == "USER")
        assert len(page["members"]) == 2
        await boss.ask("DELETE", f"/v2/{name}")
        person = await seen_as(edge, ada)
        assert [grant.role for grant in person.grants] == ["partner.admin"]


async def test_a_way_in_works_once(edge: RunningEdge, acme: Owner) -> None:
    """By its button, or by being opened where it was printed for whoever started the gateway."""
    person_id = await person_of(acme, "organization.admin")
    by_button, by_opening = await way_in(acme.pool, person_id), await way_in(acme.pool, person_id, at_once=True)
    async with visiting(edge) as ada, visiting(edge) as mallory:
        assert (await ada.get(by_button))[0] == 200
        assert ada.cookies == {}
        await ada.get(by_opening)
        assert (await ada.get(by_opening))[0] == 200  # led on, since she is signed in
        assert (await seen_as(edge, ada)).id == f"person:{person_id}"
        assert (await mallory.get(by_opening))[0] == 404
        assert (await mallory.send(by_button))[0] == 303
        assert (await ada.send(by_button))[0] == 404


async def test_links_end_after_a_week(edge: RunningEdge, acme: Owner) -> None:
    """Invitations and ways in."""
    person_id = await person_of(acme, "organization.admin")
    paths = [await invited(acme, "project.user", "bob@example.com"), await way_in(acme.pool, person_id)]
    await acme.pool.execute("UPDATE sign_in_links SET expires_at = expires_at - interval '7 days'")
    async with visiting(edge) as visitor:
        for path in paths:
            assert [(await visitor.get(path))[0], (await visitor.send(path, ACCEPTANCE))[0]] == [404, 404]
        assert visitor.cookies == {}


async def test_a_session_ends_when_idle_after_a_week_and_at_once(edge: RunningEdge, acme: Owner) -> None:
    """Half a day without a call, a week with as many as one likes, or signed out."""
    person_id = await person_of(acme, "organization.admin")
    async with visiting(edge) as ada:
        await ada.send(await way_in(acme.pool, person_id))
        step = timedelta(hours=11)
        for number in range(1, 16):
            await seen_as(edge, ada, number * step)
        with pytest.raises(Unauthenticated):
            await seen_as(edge, ada, 15 * step + timedelta(hours=12))
        with pytest.raises(Unauthenticated):
            await seen_as(edge, ada, 16 * step)
        assert await ada.send("/sign-out") == (303, "/sign-in")
        assert "fleetgate" not in ada.cookies
    assert await acme.pool.fetchval("SELECT count(*) FROM sessions") == 0


async def test_a_person_keeps_so_many_sessions(edge: RunningEdge, acme: Owner) -> None:
    """Of more the one that was seen longest ago ends."""
    person_id = await person_of(acme, "organization.admin")
    now = edge.services.clock()
    async with acme.pool.acquire() as connection:
        begun = [
            await sessions.begin(connection, person_id, now + timedelta(seconds=n), "", "")
            for n in range(sessions.SESSIONS_MAX + 1)
        ]
    alive = [await sessions.living(acme.pool, secret, now) is not None for secret in begun]
    assert alive == [False] + [True] * sessions.SESSIONS_MAX


@pytest.mark.parametrize(
    ("url", "name", "attributes"),
    [
        ("http://127.0.0.1:8080", "fleetgate", {"Path=/"}),
        ("http://example.com/iot/gate", "fleetgate-iot-gate", {"Path=/iot/gate"}),
        ("https://example.com", "__Host-fleetgate", {"Path=/", "Secure"}),
        ("https://example.com/iot", "__Host-fleetgate-iot", {"Path=/", "Secure"}),
    ],
)
def test_the_cookie_is_as_safe_as_the_address_lets_it(url: str, name: str, attributes: set[str]) -> None:
    """Out of reach of scripts and other sites always; over TLS of other hosts, and of plain http."""
    services: Any = SimpleNamespace(url=url)
    response = Response()
    session_cookie.give(services, response, "secret")
    kept, *told = response.headers["set-cookie"].split("; ")
    assert kept == f"{name}=secret"
    assert set(told) == attributes | {"HttpOnly", "SameSite=lax", "Max-Age=604800"}
