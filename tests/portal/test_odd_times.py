"""A time in the address of a page that no clock shows is told, and no error of ours."""

import re

import msgspec
from edges import RunningEdge
from owners import Owner
from visitors import person_of

from gateway.api import session_cookie
from gateway.portal.pages import PAGES
from tests.portal import browsing
from tests.portal.furnished import places, query_of

TIMES = {"from", "to", "since", "until", "start_time", "end_time", "seen_since", "seen_before"}
ODD = (
    "0001-01-01T00:00:00%2B14:00",
    "9999-12-31T23:59:59-12:00",
    "0001-01-01T00:00",
    "9999-12-31T23:59:59Z",
    "1e30",
    "nan",
    "-1",
    "soon",
    "%00",
)


async def test_no_time_is_an_error_of_ours(edge: RunningEdge, acme: Owner) -> None:
    """Also at the ends of the calendar, where another zone has no such time."""
    given = await places(acme)
    secret = await browsing.session(edge, await person_of(acme, "organization.admin", "partner.admin"))
    cookies = {session_cookie.name_of(edge.url): secret}
    asked = set()
    for page in PAGES:
        if page.method != "GET" or page.query is None:
            continue
        path = re.sub(r"{(\w+)}", lambda name: str(given[name[1]]), page.path) + query_of(page.path, given)
        for name in TIMES & {field.encode_name for field in msgspec.structs.fields(page.query)}:
            for odd in ODD:
                url = f"{edge.url}{path}{'&' if '?' in path else '?'}{name}={odd}"
                async with edge.http.get(url, cookies=cookies) as answer:
                    assert answer.status < 500, (page, name, odd)
                    await answer.read()
            asked.add(name)
    assert asked == TIMES
