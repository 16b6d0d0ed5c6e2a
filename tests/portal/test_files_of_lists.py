"""Lists as files, and files as lists: what is refused is told, and no file that is cut off looks like a whole one."""

from uuid import uuid4

import pytest
from edges import RunningEdge
from owners import Owner
from visitors import person_of

from gateway.api import session_cookie
from gateway.portal.forms import TOKEN
from tests.portal import browsing


@pytest.fixture
async def signed_in(edge: RunningEdge, acme: Owner) -> dict[str, str]:
    """The cookies of an administrator."""
    secret = await browsing.session(edge, await person_of(acme, "organization.admin"))
    return {session_cookie.name_of(edge.url): secret}


async def test_a_file_that_is_refused_is_a_page(edge: RunningEdge, signed_in: dict[str, str]) -> None:
    """Before the first of its bytes, whatever it is narrowed by."""
    for path, status in (
        (f"/devices.csv?space_id={uuid4()}", 404),
        (f"/devices.csv?project_id={uuid4()}", 404),
        ("/devices.csv?seen_since=soon", 422),
        ("/devices.csv?silent_for=day", 200),
        ("/audit/export?since=soon", 422),
        ("/audit/export", 200),
    ):
        async with edge.http.get(edge.url + path, cookies=signed_in) as answer:
            kind = "text/csv" if status == 200 else "text/html"
            assert (answer.status, answer.content_type) == (status, kind), path
            await answer.read()


async def test_lines_to_claim_may_end_as_any_system_ends_them(
    edge: RunningEdge, acme: Owner, signed_in: dict[str, str]
) -> None:
    """By a bare carriage return, too, which no reader of CSV takes within a line."""
    (secret,) = signed_in.values()
    for end in ("\n", "\r\n", "\r"):
        lines = end.join(("mac,sn", "02:00:00:00:00:01,S-1", "02:00:00:00:00:02,S-2"))
        form = {TOKEN: session_cookie.form_token(secret), "space_id": str(acme.space_id), "lines": lines}
        headers = {"origin": edge.url}
        async with edge.http.post(f"{edge.url}/claim/lines", data=form, cookies=signed_in, headers=headers) as answer:
            assert answer.status == 200, repr(end)
            assert "0 of 2 claimed" in await answer.text()
