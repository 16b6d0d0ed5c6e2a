"""A person with a role in one project sees nothing of the organization's others, wherever it looks."""

import html
import re
from datetime import UTC, datetime, timedelta

from edges import RunningEdge
from owners import Owner
from visitors import person_of

from gateway.api import session_cookie
from gateway.api.callers.readers import READER
from gateway.portal.forms import TOKEN
from gateway.portal.page import TOKEN_HEADER
from gateway.portal.pages import PAGES
from schemas import ids
from tests.portal import browsing
from tests.portal.furnished import HOSTILE, places, query_of

THEIRS = HOSTILE[2:20]
"""What is in all texts of the other project."""

FOR_ALL = "{(?!session_id|file_id|rollout_id)"


async def test_nothing_of_another_project_is_seen_or_changed(edge: RunningEdge, acme: Owner) -> None:
    """By its ids in addresses, filters and forms; in lists, counts and files."""
    given = await places(acme)
    await acme.pool.execute("UPDATE organizations SET name = 'Acme' WHERE id = $1", acme.organization_id)
    # Firmware and its rollouts are for devices of all projects.
    await acme.pool.execute("UPDATE files SET name = 'All', description = '', public_notes = ''")
    await acme.pool.execute("UPDATE rollouts SET name = 'All', description = ''")
    theirs, ours = acme.project_id, ids.new_id()
    made = "INSERT INTO projects (id, organization_id, name) VALUES ($1, $2, 'Ours')"
    await acme.pool.execute(made, ours, acme.organization_id)
    acme.project_id = ours
    secret = await browsing.session(edge, await person_of(acme, "project.admin", email="ours@example.com"))
    token = session_cookie.form_token(secret)
    narrowed = {
        "space_id": acme.space_id, "project_id": theirs, "where": theirs, "device_id": given["device_id"],
        "file_id": given["file_id"], "search": HOSTILE[:3], "status": "error", "page": 2, "counted": "true",
    }  # fmt: skip
    wrong = []
    for page in PAGES:
        if page.caller in (None, READER) or (page.path.endswith("/live") and "{" not in page.path):
            continue
        of_theirs = re.search(FOR_ALL if page.method == "GET" else "{(?!session_id)", page.path) is not None
        path = re.sub(r"{(\w+)}", lambda name: str(given[name[1]]), page.path)
        queries = [query_of(page.path, given)]
        if page.method == "GET":
            queries += [f"?{name}={value}" for name, value in narrowed.items()]
        for query in queries:
            form = None if page.method == "GET" else {TOKEN: token, "space_id": str(acme.space_id)}
            async with edge.http.request(
                page.method,
                edge.url + path + query,
                data=form,
                headers={"origin": edge.url, "accept": "text/html", TOKEN_HEADER: token},
                cookies={session_cookie.name_of(edge.url): secret},
                allow_redirects=False,
            ) as answer:
                text = html.unescape(await answer.text())
            if THEIRS in text or answer.status >= 500 or (of_theirs and answer.status < 400):
                wrong.append(f"{page} {query}: {answer.status}")
    assert wrong == []


async def test_what_is_of_the_own_project_is_seen_wherever_one_looks(edge: RunningEdge, acme: Owner) -> None:
    """Incidents, tickets, rules, cloud connectors and history of its devices; firmware and rollouts."""
    given = await places(acme)
    secret = await browsing.session(edge, await person_of(acme, "project.user", email="reader@example.com"))
    for path in (
        "/incidents", "/tickets", "/rules", "/cloud-connectors", "/firmware", "/rollouts", "/overview",
        f"/devices/{given['device_id']}/history",
    ):  # fmt: skip
        async with edge.http.get(edge.url + path, cookies={session_cookie.name_of(edge.url): secret}) as answer:
            text = html.unescape(await answer.text())
        main = text.partition("<main")[2]
        assert THEIRS in main, path
        assert 'method="post"' not in main, f"{path} offers a change to somebody who only reads"


async def test_what_a_device_told_in_another_project_stays_there(edge: RunningEdge, acme: Owner) -> None:
    """A device that moved here brings its identity along, not the messages that belong to where it was."""
    device_id, now = await acme.device(name="Pump"), datetime.now(UTC)
    await acme.message(device_id, now - timedelta(hours=2), telemetries={"there": 1}, message="told there")
    project_id, space_id = ids.new_id(), ids.new_id()
    made = "INSERT INTO projects (id, organization_id, name) VALUES ($1, $2, 'Here')"
    await acme.pool.execute(made, project_id, acme.organization_id)
    made = "INSERT INTO spaces (id, project_id, name, full_path) VALUES ($1, $2, 'Here', 'Here')"
    await acme.pool.execute(made, space_id, project_id)
    await acme.pool.execute(
        "UPDATE devices SET project_id = $2, space_id = $3 WHERE id = $1", device_id, project_id, space_id
    )
    await acme.message(device_id, now - timedelta(hours=1), telemetries={"here": 1}, message="told here")
    acme.project_id = project_id
    secret = await browsing.session(edge, await person_of(acme, "project.user"))
    for path in ("history", "history?keys=there", "events"):
        url = f"{edge.url}/devices/{device_id}/{path}"
        async with edge.http.get(url, cookies={session_cookie.name_of(edge.url): secret}) as answer:
            text = await answer.text()
        assert ("told here" in text, "told there" in text) == (True, False), path
        assert "data-chart" not in text
