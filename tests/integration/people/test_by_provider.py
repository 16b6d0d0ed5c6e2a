"""Signing in at an identity provider, and the roles that its groups give and take away."""

from collections.abc import AsyncIterator
from urllib.parse import parse_qs, urlsplit

import pytest
from edges import RunningEdge, running_edge
from identity_providers import ADA, Provider, running_provider
from owners import Owner
from visitors import PASSWORD, Visitor, invited, person_of, visiting, with_password

BEGIN = "/openid-connect"


@pytest.fixture
async def provider() -> AsyncIterator[Provider]:
    """An identity provider."""
    async with running_provider() as running:
        yield running


@pytest.fixture
async def entrance(provider: Provider, acme: Owner, dsn: str, redis_url: str) -> AsyncIterator[RunningEdge]:
    """An edge that people come to by the provider: of two groups, that have roles in Acme."""
    roles = (
        f"ops=organization.admin@{acme.organization_id},makers=project.user@{acme.project_id},"
        f"makers=project.developer@{acme.project_id},lost=project.user@{acme.organization_id}"
    )
    given = provider.settings(oidc_roles=roles, oidc_domains="example.org,Example.COM")
    async with running_edge(dsn, redis_url, **given) as running:
        yield running


async def memberships(acme: Owner) -> set[tuple[str, bool]]:
    """The roles that people have who accepted them, each with whether the provider gave it."""
    rows = await acme.pool.fetch("SELECT role, from_provider FROM memberships WHERE person_id IS NOT NULL")
    return {(row["role"], row["from_provider"]) for row in rows}


async def come(entrance: RunningEdge) -> tuple[int, str]:
    """A browser that was never there signs in; answers what is shown in the end."""
    async with visiting(entrance) as visitor:
        return await visitor.get(f"{BEGIN}?next=/account")


async def test_whoever_is_in_a_group_comes_in_with_its_role(
    entrance: RunningEdge, provider: Provider, acme: Owner
) -> None:
    """By the button, to the page that was asked for; the account is made, and what happened is in the audit log."""
    async with visiting(entrance) as ada:
        _, page = await ada.get("/sign-in?next=/account")
        assert f'href="{BEGIN}?next=%2Faccount"' in page
        status, page = await ada.get(f"{BEGIN}?next=/account")
        assert (status, "ada@example.com" in page) == (200, True)
        assert list(ada.cookies) == ["fleetgate"]
    assert await memberships(acme) == {("organization.admin", True)}
    noted = await acme.pool.fetch("SELECT action, after FROM audit_log ORDER BY id")
    assert [row["action"] for row in noted][-2:] == ["role_by_provider", "sign_in_by_provider"]
    assert (await come(entrance))[0] == 200
    assert await memberships(acme) == {("organization.admin", True)}


async def test_roles_follow_the_groups_at_each_sign_in(entrance: RunningEdge, provider: Provider, acme: Owner) -> None:
    """The greatest of a place; taken away with the group, in open sessions too; with none left nobody enters."""
    async with visiting(entrance) as open_before:
        await open_before.get(BEGIN)
        assert (await open_before.get("/people"))[0] == 200
        provider.claims["groups"] = ["makers", "lost", 7, {}]
        assert (await come(entrance))[0] == 200
        assert await memberships(acme) == {("project.developer", True)}
        assert (await open_before.get("/people"))[0] == 403
        provider.claims["groups"] = "makers of other things"
        status, page = await come(entrance)
        assert (status, "You have no role here" in page) == (403, True)
        assert await memberships(acme) == set()


async def test_roles_that_were_given_here_stay(entrance: RunningEdge, provider: Provider, acme: Owner) -> None:
    """The provider neither raises nor ends them, and whoever has one comes in without a group."""
    await person_of(acme, "project.user")
    for groups in (["makers"], [], None):
        provider.claims["groups"] = groups
        assert (await come(entrance))[0] == 200
        assert await memberships(acme) == {("project.user", False)}


async def test_a_role_takes_the_place_of_an_invitation_to_it(
    entrance: RunningEdge, provider: Provider, acme: Owner
) -> None:
    """And an invitation alone lets nobody in: it is accepted by its link."""
    await invited(acme, "project.admin", email="ADA@example.com")
    provider.claims["groups"] = []
    assert (await come(entrance))[0] == 403
    assert await acme.pool.fetchval("SELECT count(*) FROM people") == 0
    provider.claims["groups"] = ["makers"]
    assert (await come(entrance))[0] == 200
    assert await memberships(acme) == {("project.developer", True)}


async def test_the_providers_roles_hold_only_where_it_vouches(
    entrance: RunningEdge, provider: Provider, acme: Owner
) -> None:
    """Whoever the provider knows no more does not have them by a password; one that was set meanwhile keeps them."""
    person_id = await person_of(acme, "project.user")
    await with_password(acme, person_id)
    credentials = {"email": str(ADA["email"]), "password": PASSWORD}
    async with visiting(entrance) as by_provider, visiting(entrance) as by_password:
        await by_provider.get(BEGIN)
        assert (await by_provider.get("/people"))[0] == 200
        await by_password.send("/sign-in", credentials)
        assert (await by_password.get("/devices"))[0] == 200
        assert (await by_password.get("/people"))[0] == 403
        await changed_password(by_provider)
        assert (await by_provider.get("/people"))[0] == 200
        await acme.pool.execute("UPDATE sessions SET vouched_at = vouched_at - interval '7 days'")
        assert (await by_provider.get("/people"))[0] == 403


async def changed_password(visitor: Visitor) -> None:
    """Set another password, which begins a session anew."""
    _, page = await visitor.get("/account")
    token = page.partition('name="form_token" value="')[2].partition('"')[0]
    assert token
    another = "amber lantern drifts 9"
    form = {"form_token": token, "current_password": PASSWORD, "password": another, "again": another}
    assert (await visitor.send("/account/password", form))[0] == 303


async def test_below_a_path_the_provider_leads_back_below_it(
    provider: Provider, acme: Owner, dsn: str, redis_url: str
) -> None:
    """And what the browser keeps meanwhile is as well guarded as a session."""
    public = "https://fleet.example/devices"
    async with (
        running_edge(dsn, redis_url, public_url=public, **provider.settings()) as edge,
        edge.http.get(f"{edge.url}{BEGIN}", allow_redirects=False) as answer,
    ):
        asked = parse_qs(urlsplit(answer.headers["location"]).query)
        kept = answer.headers["set-cookie"]
    assert asked["redirect_uri"] == [f"{public}/openid-connect/callback"]
    assert asked["tenant"] == ["1"]
    assert kept.startswith("__Host-fleetgate-devices-attempt=")
    assert kept.endswith("; HttpOnly; Max-Age=600; Path=/; SameSite=lax; Secure")


async def test_where_no_provider_is_set_there_is_no_button(edge: RunningEdge) -> None:
    """And what would be behind it leads to the page without it, and says why."""
    async with visiting(edge) as visitor:
        assert BEGIN not in (await visitor.get("/sign-in"))[1]
        for path in (BEGIN, f"{BEGIN}/callback?code=x&state=y"):
            status, page = await visitor.get(path)
            assert (status, "is not set up here" in page, BEGIN in page) == (200, True, False)


async def test_a_person_is_known_by_the_subject_once_it_came(
    entrance: RunningEdge, provider: Provider, acme: Owner
) -> None:
    """Another address of theirs changes nothing; whoever is given the address of before does not become them."""
    await with_password(acme, await person_of(acme, "organization.admin"))
    provider.claims["sub"] = "00u1"
    assert "ada@example.com" in (await come(entrance))[1]
    provider.claims["email"] = "ada.lovelace@example.com"
    assert "ada@example.com" in (await come(entrance))[1]
    provider.claims |= {"email": "ada@example.com", "sub": "00u2"}
    status, page = await come(entrance)
    assert (status, "knew somebody else by this email address" in page) == (403, True)
    assert await acme.pool.fetchval("SELECT count(*) FROM people") == 1


@pytest.mark.parametrize("subject", ["", "x" * 256, "a\x00b", 7])
async def test_a_subject_that_nobody_can_have_lets_nobody_in(
    entrance: RunningEdge, provider: Provider, subject: object
) -> None:
    """Empty, too long, or no text."""
    provider.claims["sub"] = subject
    assert (await come(entrance))[0] in (403, 503)
