"""What people do with their own accounts: name, password, sessions, the organization that they look at."""

from datetime import timedelta

import pytest
from edges import RunningEdge
from owners import Owner
from prometheus_client import CollectorRegistry
from visitors import PASSWORD, Visitor, person_of, visiting, way_in, with_password

from gateway.stores.people import sessions
from schemas.metrics import Metrics
from schemas.settings import WorkerSettings
from tests.conftest import MASTER_KEY, SHARDS
from workers.retention import Retention

BETTER = "seven quiet lamps beyond"


async def form_of(visitor: Visitor, path: str = "/account") -> dict[str, str]:
    """The token that the forms of a page bring along."""
    _, page = await visitor.get(path)
    return {"form_token": page.partition('name="form_token" value="')[2].partition('"')[0]}


async def test_a_new_password_ends_all_other_sessions(edge: RunningEdge, acme: Owner) -> None:
    """It takes the current one, and this browser gets another id."""
    await with_password(acme, await person_of(acme, "organization.admin"))
    async with visiting(edge) as here, visiting(edge) as there:
        for visitor in (here, there):
            await visitor.send("/sign-in", {"email": "ada@example.com", "password": PASSWORD})
        before = here.cookies["fleetgate"].value
        form = {"password": BETTER, "again": BETTER, **await form_of(here)}
        status, page = await here.send("/account/password", form | {"current_password": "another"})
        assert (status, "Current password is not right" in page) == (422, True)
        assert (await here.send("/account/password", form | {"again": "x", "current_password": PASSWORD}))[0] == 422
        assert (await there.get("/account"))[0] == 200
        assert await here.send("/account/password", form | {"current_password": PASSWORD}) == (303, "/account")
        assert here.cookies["fleetgate"].value != before
        assert "My account" in (await here.get("/account"))[1]
        assert "My account" not in (await there.get("/account"))[1]
        assert (await there.send("/sign-in", {"email": "ada@example.com", "password": PASSWORD}))[0] == 422
        assert (await there.send("/sign-in", {"email": "ada@example.com", "password": BETTER}))[0] == 303


async def test_who_came_by_a_link_sets_a_password(edge: RunningEdge, acme: Owner) -> None:
    """There is no current one to ask for."""
    person_id = await person_of(acme, "organization.admin")
    async with visiting(edge) as ada:
        await ada.send(await way_in(acme.pool, person_id))
        form = {"password": BETTER, "again": BETTER, **await form_of(ada)}
        assert (await ada.send("/account/password", form))[0] == 303
        assert (await ada.send("/sign-in", {"email": "ada@example.com", "password": BETTER}))[0] == 303


async def test_sessions_are_listed_and_ended(edge: RunningEdge, acme: Owner) -> None:
    """One, or all but this one; and nobody else's."""
    ada_id, bob_id = await person_of(acme, "project.user"), await person_of(acme, "project.user", email="bob@x.org")
    async with visiting(edge) as ada, visiting(edge) as bob:
        await ada.send(await way_in(acme.pool, ada_id))
        await bob.send(await way_in(acme.pool, bob_id), **{"user-agent": "Telnet"})
        async with acme.pool.acquire() as connection:
            for _ in range(3):
                await sessions.begin(connection, ada_id, edge.services.clock(), "192.0.2.7", "Lynx")
        _, page = await ada.get("/account")
        assert (page.count("192.0.2.7"), "Telnet" in page) == (6, False)
        others = await acme.pool.fetch("SELECT id, person_id FROM sessions WHERE user_agent IN ('Lynx', 'Telnet')")
        form = await form_of(ada)
        for session in others:
            status, _ = await ada.send(f"/account/sessions/{session['id']}/end", form)
            assert status == (303 if session["person_id"] == ada_id else 404)
            if session["person_id"] == ada_id:
                break
        assert (await ada.send("/account/sessions/end-others", form))[0] == 303
        assert await acme.pool.fetchval("SELECT count(*) FROM sessions WHERE person_id = $1", ada_id) == 1
        assert "My account" in (await ada.get("/account"))[1]
        assert "My account" in (await bob.get("/account"))[1]


async def test_a_person_looks_at_one_of_its_organizations(edge: RunningEdge, acme: Owner, globex: Owner) -> None:
    """Chosen for this browser, and kept; none in which it has no role."""
    person_id = await person_of(acme, "organization.admin")
    await person_of(globex, "organization.admin")
    async with visiting(edge) as ada:
        await ada.send(await way_in(acme.pool, person_id))
        form = await form_of(ada)
        for owner in (globex, acme):
            choice = {"organization_id": str(owner.organization_id)}
            assert (await ada.send("/organization", form | choice))[0] == 303
            assert f'value="{owner.organization_id}" selected' in (await ada.get("/account"))[1]
        await acme.pool.execute("DELETE FROM memberships WHERE organization_id = $1", globex.organization_id)
        form = await form_of(ada)
        choice = {"organization_id": str(globex.organization_id)}
        assert (await ada.send("/organization", form | choice))[0] == 404


async def test_a_session_gets_another_id_when_a_role_changes(edge: RunningEdge, acme: Owner) -> None:
    """Whoever changes it; what was sent side by side with that call is served, and the old id is soon nothing."""
    person_id = await person_of(acme, "project.user")
    async with visiting(edge) as ada:
        await ada.send(await way_in(acme.pool, person_id))
        ids = [ada.cookies["fleetgate"].value]
        for change in (
            "UPDATE memberships SET role = 'project.admin' WHERE person_id = $1",
            "DELETE FROM memberships WHERE person_id = $1",
        ):
            await acme.pool.execute(change, person_id)
            assert "My account" in (await ada.get("/account"))[1]
            ids.append(ada.cookies["fleetgate"].value)
            await ada.get("/account")
            assert ada.cookies["fleetgate"].value == ids[-1]
        assert len(set(ids)) == 3
    now = edge.services.clock()
    alive = [await sessions.living(acme.pool, secret, now) is not None for secret in ids]
    assert alive == [False, True, True]
    later = now + sessions.OVERLAP + timedelta(seconds=5)
    alive = [await sessions.living(acme.pool, secret, later) is not None for secret in ids]
    assert alive == [False, False, True]


@pytest.mark.parametrize("path", ["/account", "/organization", "/account/sessions/end-others"])
async def test_forms_of_a_session_that_ended_change_nothing(edge: RunningEdge, acme: Owner, path: str) -> None:
    """Nor those with the token of another one."""
    ada_id = await person_of(acme, "project.user")
    async with visiting(edge) as ada, visiting(edge) as other:
        await ada.send(await way_in(acme.pool, ada_id))
        await other.send(await way_in(acme.pool, ada_id))
        stolen = await form_of(other)
        path = "/account/name" if path == "/account" else path
        assert (await ada.send(path, stolen | {"name": "Mallory"}))[0] == 403
        await acme.pool.execute("DELETE FROM sessions")
        assert (await ada.send(path, await form_of(other) | {"name": "Mallory"}))[0] == 401
    assert await acme.pool.fetchval("SELECT name FROM people") == ""


async def test_what_has_ended_is_deleted(edge: RunningEdge, acme: Owner) -> None:
    """Sessions and links of people who never came back, and changes of long ago."""
    person_id = await person_of(acme, "project.user")
    async with visiting(edge) as ada:
        await ada.send(await way_in(acme.pool, person_id))
    await way_in(acme.pool, person_id)
    settings = WorkerSettings(postgres_dsn="postgresql://", redis_url="redis://", master_key=MASTER_KEY)
    retention = Retention(acme.pool, Metrics(CollectorRegistry()), settings, SHARDS)
    now = edge.services.clock()
    for later, left in ((timedelta(), (1, 1, 1)), (timedelta(days=8), (0, 0, 1)), (timedelta(days=91), (0, 0, 0))):
        await retention.tidy(now + later)
        counted = [
            await acme.pool.fetchval(f"SELECT count(*) FROM {table}")
            for table in ("sessions", "sign_in_links", "audit_log")
        ]
        assert tuple(counted) == left
