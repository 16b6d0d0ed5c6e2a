"""Every change by anybody is written down: who, what, on what, before and after, from where; secrets never."""

from typing import Any

import msgspec
import pytest
from edges import RunningEdge
from owners import Owner
from projects import account_of
from visitors import ACCEPTANCE, PASSWORD, Visitor, invited, person_of, visiting, way_in, with_password

from gateway.api import audit
from gateway.api.principals import Principal
from gateway.app import ENDPOINTS
from gateway.portal.pages import PAGES

NO_CHANGES = {
    "POST /account/passkeys/challenge",
    "POST /core/v1/organization/incident_rules/dry_run",
    "POST /core/v1/partner/incident_rules/dry_run",
    "POST /emulator/v2/projects/{project}/devices/{device}:publish",
    "POST /v2/projects/{project}/dataconnectors:check",
    "POST /v2/projects/{project}/dataconnectors/{connector}:check",
    "POST /data-connectors/{project}/check",
    "POST /data-connectors/{project}/{connector}/check",
}
"""Questions that are asked in a body, and what emulated devices say."""


def test_whatever_changes_something_is_written_down() -> None:
    """By the frame, so a new endpoint or page is by itself; but for what is named here."""
    writing = [one for one in (*ENDPOINTS, *PAGES) if one.method != "GET" and one.caller is not None]
    by_principals = [one for one in writing if one.caller.principal is Principal]
    assert len(by_principals) > 100
    assert {f"{one.method} {one.path}" for one in by_principals if not one.audited} == NO_CHANGES
    assert not [one for one in (*ENDPOINTS, *PAGES) if one.method == "GET" and one.audited]


async def listed(owner: Owner, **query: Any) -> list[Any]:
    """The audit log, newest first."""
    found: list[Any] = (await owner.call("GET", "/audit", **query))["items"]
    return found


async def test_keys_accounts_and_people_are_named_each(edge: RunningEdge, acme: Owner, globex: Owner) -> None:
    """With what they did and from where; in the log of the organization whose it is."""
    boss = await account_of(acme, "organization.admin")
    person_id = await person_of(acme, "organization.admin")
    await with_password(acme, person_id)
    space = await acme.call("POST", "/spaces", {"project_id": str(acme.project_id), "name": "Cellar"})
    await boss.ask("PATCH", f"/v2/projects/{acme.project_id}", {"displayName": "Renamed"})
    async with visiting(edge) as ada:
        await ada.send(await way_in(acme.pool, person_id))
        _, page = await ada.get("/account")
        form = {"form_token": page.partition('name="form_token" value="')[2].partition('"')[0]}
        await ada.send("/account/name", form | {"name": "Ada"})
        better = "seven quiet lamps beyond"
        changed = {"current_password": PASSWORD, "password": better, "again": better}
        assert (await ada.send("/account/password", form | changed))[0] == 303
        renamed, *others = await listed(acme, action="rename", actor=f"person:{person_id}")
        assert (renamed["actor_name"], renamed["given"], others) == ("ada@example.com", {"name": "Ada"}, [])
        assert await listed(globex) == []
        status, exported = await ada.get("/audit/export")
        assert (status, exported.startswith("at,actor,"), "Cellar" in exported) == (200, True, True)
    entries = {one["action"]: one for one in await listed(acme)}
    assert better not in msgspec.json.encode(list(entries.values())).decode()
    assert {one["address"] for one in entries.values()} == {"127.0.0.1"}
    made = entries["create_space"]
    assert (made["actor"], made["actor_name"]) == (f"key:{acme.key_id}", await name_of(acme))
    assert (made["given"]["name"], made["after"]["id"]) == ("Cellar", space["id"])
    project = next(one for one in entries.values() if one["actor"] == boss.id)
    assert (project["before"]["displayName"], project["after"]["displayName"]) == ("Main", "Renamed")
    assert set(project["before"]) == {"displayName"}


async def name_of(owner: Owner) -> str:
    """How the tenant's key is called."""
    name: str = await owner.pool.fetchval("SELECT name FROM api_keys WHERE id = $1", owner.key_id)
    return name


async def test_what_is_refused_is_no_change(acme: Owner) -> None:
    """Neither for what it asks nor for who asks."""
    await acme.call("POST", "/spaces", {"project_id": str(acme.project_id), "name": ""})
    user = await account_of(acme, "project.user")
    assert (await user.ask("PATCH", f"/v2/projects/{acme.project_id}", {"displayName": "x"}))[0] == 403
    assert await listed(acme) == []


async def test_the_log_is_read_by_administrators_page_by_page(acme: Owner) -> None:
    """And narrowed by who, what and when."""
    for number in range(5):
        await acme.call("POST", "/spaces", {"project_id": str(acme.project_id), "name": f"S{number}"})
    read, page = [], 1
    while page:
        answer = await acme.call("GET", "/audit", per_page=2, page=page)
        read += [one["given"]["name"] for one in answer["items"]]
        page = answer["next_page"]
    assert read == ["S4", "S3", "S2", "S1", "S0"]
    moment = (await listed(acme))[2]["at"]
    path = f"/core/v1/organization/audit?since={moment.replace('+', '%2B')}"
    assert len((await acme.ask("GET", path))[1]["items"]) == 3
    assert len((await acme.ask("GET", path.replace("since", "until")))[1]["items"]) == 2
    assert await listed(acme, actor="key:nobody") == []
    key = await acme.call("POST", "/api_keys", {"kind": "organization", "name": "k", "role": "project.admin"})
    assert (await acme.call("GET", "/audit", key=key["key"]))[0] == 403
    assert key["key"] not in str(await listed(acme, action="create_api_key"))


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        ({"password": "x", "current_password": "y"}, {"password": audit.MASK, "current_password": audit.MASK}),
        ({"signatureSecret": "x", "secret": ""}, {"signatureSecret": audit.MASK, "secret": ""}),
        ({"httpHeaders": {"X-Any": "x"}}, {"httpHeaders": audit.MASK}),
        ({"key": {"id": "1"}, "access_key": "x"}, {"key": {"id": "1"}, "access_key": audit.MASK}),
        ({"url": "https://a:b@c.example/d?e=f"}, {"url": f"https://{audit.MASK}@c.example/d?{audit.MASK}"}),
        ({"url": "https://c.example/connect/t", "passcode": "p"}, {"url": audit.MASK, "passcode": audit.MASK}),
        ([{"token": "x"}], [{"token": audit.MASK}]),
        ("x" * 600, "x" * 500 + "…"),
    ],
)
def test_secrets_are_masked(value: Any, kept: Any) -> None:
    """By the names that they have in bodies and answers, and in URLs."""
    assert audit.masked(value) == kept


def test_no_answer_of_any_api_has_a_secret_under_another_name() -> None:
    """Members that are shown once are among the names that are masked."""
    shown_once = {"key", "secret", "access_key", "organization_key", "hardware_key", "passcode", "invite_url", "token"}
    found = set()
    for one in ENDPOINTS:
        if isinstance(one.answer, type) and "this once" in (one.answer.__doc__ or ""):
            found |= {
                name for name in one.answer.__struct_fields__ if audit.masked({name: "x" * 20}) != {name: "x" * 20}
            }
    assert found
    assert found <= shown_once


async def test_a_large_change_is_written_down_without_its_size(acme: Owner) -> None:
    """Only so many bytes of it are kept."""
    assert audit.kept({str(n): "x" * 400 for n in range(100)}).keys() == {"left_out_bytes"}


async def token_of(visitor: Visitor) -> str:
    """The token that the forms of a person's pages bring along."""
    _, page = await visitor.get("/account")
    return page.partition('name="form_token" value="')[2].partition('"')[0]


async def test_what_people_change_in_the_portal_is_told_before_and_after(edge: RunningEdge, acme: Owner) -> None:
    """As of the same change by the API: of a thing that is changed, made, or taken away."""
    person_id = await person_of(acme, "organization.admin", "partner.admin")
    model = f"/models/{acme.model_id}"
    async with visiting(edge) as ada:
        await ada.send(await way_in(acme.pool, person_id))
        form = {"form_token": await token_of(ada)}
        await ada.send(model, form | {"name": "Better"})
        await ada.send("/models", form | {"vendor": "Acme", "name": "New"})
    made, changed, *_ = await listed(acme)
    assert (changed["action"], changed["before"], changed["after"]) == (
        "change_model",
        {"name": "Sensor"},
        {"name": "Better"},
    )
    assert (made["action"], made["before"], made["after"]["name"]) == ("create_model", None, "New")


async def test_coming_in_and_going_out_are_written_down(edge: RunningEdge, acme: Owner) -> None:
    """By what way, and without what the link is known by."""
    person_id = await person_of(acme, "organization.admin")
    await with_password(acme, person_id)
    link = await way_in(acme.pool, person_id)
    async with visiting(edge) as ada, visiting(edge) as bob:
        await ada.send(link)
        await ada.send("/sign-in", {"email": "ada@example.com", "password": PASSWORD})
        await bob.send(await invited(acme, "project.user", "bob@example.com"), ACCEPTANCE)
        await bob.send("/sign-out", {"form_token": await token_of(bob)})
    entries = await listed(acme)
    ways = [(one["action"], one["actor_name"]) for one in entries]
    assert ways == [
        ("sign_out", "bob@example.com"),
        ("accept_invitation", "bob@example.com"),
        ("sign_in_by_password", "ada@example.com"),
        ("sign_in_by_link", "ada@example.com"),
    ]
    assert link.rpartition("/")[2] not in str(entries)


@pytest.mark.parametrize("moment", ["2026-01-01T00:00:00", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59-23:59"])
async def test_times_of_any_kind_are_taken_or_refused(acme: Owner, moment: str) -> None:
    """Without a zone, and at the ends of the calendar."""
    for name in ("since", "until"):
        status, _ = await acme.ask("GET", f"/core/v1/organization/audit?{name}={moment}")
        assert status in (200, 422)
