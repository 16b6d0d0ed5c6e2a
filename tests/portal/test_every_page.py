"""What holds for every page, tried on all there are: a new one is covered by itself."""

import html
import re
from typing import Any
from uuid import UUID

import pytest
from edges import RunningEdge
from owners import Owner
from playwright.async_api import Browser
from starlette.responses import Response
from visitors import person_of

from gateway.api import session_cookie
from gateway.api.callers.readers import READER
from gateway.api.principals import Grant, Principal
from gateway.api.scopes import FleetScope, MakerScope, ProjectScope, VendorScope
from gateway.portal.connect import consented
from gateway.portal.forms import TOKEN
from gateway.portal.page import TOKEN_HEADER, Page
from gateway.portal.pages import PAGES
from tests.portal import browsing
from tests.portal.furnished import HOSTILE, places, query_of

ROLES = ("project.user", "project.developer", "project.admin", "organization.admin", "partner.user", "partner.admin")
LOOKS = ((browsing.WIDE, False), (browsing.NARROW, True))


def shown() -> list[Page]:
    """Pages that are looked at: not what is a file, or leads on, nor where only a vendor leads back to."""
    return [page for page in PAGES if page.method == "GET" and page.answer is not Response and page is not consented]


def address(page: Page, given: dict[str, Any]) -> str:
    """Where a page is, of these things."""
    side = "" if page.door is None else f"{page.door.area}_"
    found = re.sub(r"{(\w+)}", lambda name: str(given.get(side + name[1], given.get(name[1]))), page.path)
    return found + query_of(page.path, given)


def allows(page: Page, owner: Owner, role: Any) -> bool:
    """Whether a role is enough for a page."""
    if page.caller is None or page.permission is None:
        return True
    project_id = owner.project_id if role.startswith("project.") else None
    principal = Principal("", "", owner.organization_id, (Grant(owner.organization_id, project_id, role),))
    (scope,) = page.scopes.values()
    as_vendor = principal.permissions_as_vendor(owner.organization_id)
    if scope is VendorScope or (scope is MakerScope and page.permission in as_vendor):
        return page.permission in as_vendor
    reach = owner.project_id if scope in (FleetScope, ProjectScope) else None
    return page.permission in principal.permissions(owner.organization_id, reach)


async def ask(edge: RunningEdge, page: Page, given: dict[str, Any], person_id: UUID | None, **more: Any) -> int:
    """The status of a page, or of a form that says nothing, as this person gets it."""
    status, _ = await read(edge, page, given, person_id, **more)
    return status


async def read(
    edge: RunningEdge, page: Page, given: dict[str, Any], person_id: UUID | None, **more: Any
) -> tuple[int, str]:
    """Likewise, with the text."""
    secret = "" if person_id is None else await browsing.session(edge, person_id)
    cookies = {session_cookie.name_of(edge.url): secret} if secret else {}
    headers = {"origin": edge.url, "accept": "text/html"} | more.get("headers", {})
    token = more.get("token", session_cookie.form_token(secret))
    form = None if page.method == "GET" else {TOKEN: token}
    if page.takes_bytes:
        headers[TOKEN_HEADER] = token
    async with edge.http.request(
        page.method, edge.url + address(page, given), data=form, headers=headers, cookies=cookies, allow_redirects=False
    ) as answer:
        text = "" if answer.content_type == "text/event-stream" else await answer.text()
        assert answer.status < 500, f"{page}: {text}"
        return answer.status, text


async def test_each_role_gets_the_pages_that_it_may_and_no_other(edge: RunningEdge, acme: Owner) -> None:
    """What is refused to a role is refused whatever it is led to; and what it is led to is there."""
    given = await places(acme)
    wrong = []
    for role in ROLES:
        person_id = await person_of(acme, role, email=f"{role}@example.com")
        for page in PAGES:
            allowed = allows(page, acme, role)
            if page is consented:
                continue
            if allowed and page.method != "GET":
                continue  # what forms do is tried one by one
            status = await ask(edge, page, given, person_id)
            if (status in (200, 303)) != allowed or (not allowed and status not in (403, 404)):
                wrong.append(f"{role} gets {status} of {page}")
    assert wrong == []


async def test_nobody_who_is_not_signed_in_gets_a_page(edge: RunningEdge, acme: Owner) -> None:
    """But those that are for everybody."""
    given = await places(acme)
    for page in PAGES:
        if page.caller is not None:
            assert await ask(edge, page, given, None) == (303 if page.method == "GET" else 401), page


async def test_no_page_shows_another_tenants_things(edge: RunningEdge, acme: Owner, globex: Owner) -> None:
    """Whatever id is in its address."""
    given = await places(acme)
    stranger = await person_of(globex, "organization.admin", "partner.admin")
    for page in PAGES:
        if page.caller is not None:
            status, text = await read(edge, page, given, stranger)
            assert HOSTILE[:20] not in html.unescape(text), page
            # The developer centre is the same for all.
            assert "{" not in page.path or page.caller is READER or status in (404, 422), page


async def test_no_write_comes_from_elsewhere(edge: RunningEdge, acme: Owner) -> None:
    """Neither from another site nor with the token of another session."""
    given = await places(acme)
    person_id = await person_of(acme, "organization.admin", "partner.admin")
    for page in PAGES:
        if page.method == "GET":
            continue
        elsewhere = {"origin": "https://elsewhere.example"}
        assert await ask(edge, page, given, person_id, headers=elsewhere) == 403, page
        if page.caller is not None:
            assert await ask(edge, page, given, person_id, token="0" * 64) == 403, page


@pytest.mark.parametrize(("width", "dark"), LOOKS)
async def test_every_page_can_be_read_by_everybody(
    browser: Browser, edge: RunningEdge, acme: Owner, width: int, dark: bool
) -> None:
    """On narrow and wide screens, light and dark, by a screen reader; and no text on it is more than a text."""
    given = await places(acme)
    person_id = await person_of(acme, "organization.admin", "partner.admin")
    async with browsing.tab(browser, edge, person_id, width=width, dark=dark) as tab:
        for page in shown():
            assert await tab.open(address(page, given)) == 200, page
            await tab.check()
            assert await tab.page.title() != "taken", page


async def test_an_empty_portal_says_what_to_do(browser: Browser, edge: RunningEdge, globex: Owner) -> None:
    """Every page is whole where there is nothing to show."""
    person_id = await person_of(globex, "organization.admin", "partner.admin")
    async with browsing.tab(browser, edge, person_id, width=browsing.NARROW) as tab:
        for page in shown():
            if "{" not in page.path and not query_of(page.path, {"device_id": ""}):
                assert await tab.open(page.path) == 200, page
                await tab.check(accessible=False)
