"""The list of devices: what is shown, remembered and exported, and what is done to many at a time."""

import csv
import html
import io
import re
from typing import Any
from uuid import UUID

import pytest
from edges import RunningEdge
from owners import Owner
from playwright.async_api import Browser
from visitors import person_of

from gateway.api import session_cookie
from gateway.portal import devices_change
from gateway.portal.forms import TOKEN
from gateway.stores.tenants import spaces
from tests.portal import browsing


class Seat:
    """Somebody who is signed in, without a browser."""

    def __init__(self, edge: RunningEdge, secret: str) -> None:
        self.edge = edge
        self.secret = secret
        self.cookies = {session_cookie.name_of(edge.url): secret}

    async def get(self, path: str) -> tuple[int, str, str]:
        """Status, address and text of what is there in the end."""
        async with self.edge.http.get(self.edge.url + path, cookies=self.cookies) as answer:
            return answer.status, str(answer.url.path_qs), await answer.text()

    async def send(self, path: str, **form: Any) -> tuple[int, str]:
        """Send a form; where it leads, or the page that shows it again."""
        given = {TOKEN: session_cookie.form_token(self.secret)} | form
        headers = {"origin": self.edge.url}
        url = self.edge.url + path
        async with self.edge.http.post(
            url, data=given, headers=headers, cookies=self.cookies, allow_redirects=False
        ) as answer:
            return answer.status, answer.headers.get("location") or await answer.text()


@pytest.fixture
async def seat(edge: RunningEdge, acme: Owner) -> Seat:
    """An administrator of the tenant's organization."""
    person_id = await person_of(acme, "organization.admin")
    return Seat(edge, await browsing.session(edge, person_id))


def chosen(action: str, *device_ids: UUID) -> str:
    return f"/devices/{action}?action={action}&" + "&".join(f"ids={one}" for one in device_ids)


async def test_many_devices_are_moved_labelled_told_and_deleted(acme: Owner, seat: Seat) -> None:
    """The page before says how many that will be; one that cannot be is left, the others are done."""
    first, second = await acme.device(name="One"), await acme.device(name="Two")
    async with acme.pool.acquire() as connection:
        attic = await spaces.create(connection, acme.organization_id, acme.project_id, "Attic")
    _, _, text = await seat.get(chosen("change", first, second).replace("action=change", "action=move"))
    assert "Move 2 devices" in text
    assert await seat.send(chosen("move", first, second), space_id=str(attic.id)) == (303, "/devices")
    assert {(await acme.row(one))["space_id"] for one in (first, second)} == {attic.id}
    await seat.send(chosen("label", first, second), key="site", value="Oslo")
    assert (await acme.row(first))["labels"] == {"site": "Oslo"}
    await seat.send(chosen("command", first), command="reboot")
    assert (await acme.row(first))["open_commands"] == 1
    status, text = await seat.send(chosen("delete", first, second), confirmed="no")
    assert status == 422
    assert "Confirmed: type delete" in text
    await seat.send(chosen("delete", first, second), confirmed="delete")
    assert (await acme.row(first))["deleted_at"] is not None


async def test_all_that_fit_are_changed_some_at_a_time(
    acme: Owner, seat: Seat, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each page sends the next form by itself; devices that do not fit stay as they are, and nothing means all."""
    monkeypatch.setattr(devices_change, "CHOSEN_MAX", 2)
    fit = [await acme.device(name=f"Pump {n}") for n in range(5)]
    other = await acme.device(name="Valve")
    _, _, text = await seat.get("/devices/change?action=label&all=true&search=pump")
    assert "all devices that fit</b>: 5" in text
    path, forms = "/devices/label?action=label&all=true&search=pump", 0
    while path:
        status, text = await seat.send(path, key="site", value="Oslo")
        forms += 1
        assert status == 200
        following = re.search(r'hx-post="([^"]+)"', text)
        path = html.unescape(following[1]) if following else ""
    assert (forms, "<b>5</b> devices labelled" in text) == (3, True)
    assert [(await acme.row(one))["labels"] for one in (*fit, other)] == [{"site": "Oslo"}] * 5 + [{}]
    status, text = await seat.send("/devices/delete?action=delete&all=true&label=site", confirmed="delete")
    assert (status, "type delete all" in text) == (422, True)
    status, text = await seat.send("/devices/label?action=label", key="site", value="Oslo")
    assert (status, "Choose at least one device" in text) == (422, True)


async def test_what_does_not_fit_is_shown_beside_its_field_with_what_was_typed(acme: Owner, seat: Seat) -> None:
    """And nothing is done."""
    device_id = await acme.device()
    status, text = await seat.send(chosen("command", device_id), command="reboot", extra_params="{no")
    assert status == 422
    assert "Is not valid JSON" in text
    assert 'value="reboot"' in text
    assert ">\n{no</textarea>" in text
    assert (await acme.row(device_id))["open_commands"] == 0
    status, text = await seat.send(chosen("command", device_id), command="reboot", strange="1")
    assert (status, "a field strange that is not known" in text) == (400, True)


async def test_the_last_view_is_remembered_until_it_is_reset(acme: Owner, seat: Seat) -> None:
    """Each person's own; a view with a name stays beside it. One that cannot be shown any more is forgotten."""
    await acme.device(name="One")
    await seat.get("/devices?status=never_seen&columns=mac")
    _, address, text = await seat.get("/devices")
    assert address == "/devices?status=never_seen&columns=mac"
    assert "This view is remembered" in text
    assert (await seat.send("/devices/views", name="Silent", query="status=never_seen"))[0] == 303
    assert await seat.send("/devices/views/delete", name="") == (303, "/devices")
    _, address, text = await seat.get("/devices")
    assert address == "/devices"
    assert ">Silent</a>" in text
    await seat.get(f"/devices?space_id={acme.space_id}")
    await acme.pool.execute("UPDATE saved_views SET query = $1 WHERE name = ''", f"space_id={acme.model_id}")
    assert (await seat.get("/devices"))[0] == 404
    assert (await seat.get("/devices"))[0] == 200


async def test_an_export_holds_all_that_fit_and_no_formula(acme: Owner, seat: Seat) -> None:
    """Beyond one page of the list, with the values that are columns."""
    for number in range(103):
        await acme.device(name=f"=1+{number}")
    await acme.seen(acme.devices[0], temperature=21.5)
    status, _, text = await seat.get("/devices.csv?columns=state.temperature")
    lines = list(csv.reader(io.StringIO(text)))
    assert status == 200
    assert len(lines) == 104
    assert (lines[0][-1], lines[1][-1]) == ("temperature", "21.5")
    assert {line[1][:3] for line in lines[1:]} == {"'=1"}


async def test_whoever_has_a_role_in_one_project_sees_its_devices_alone(edge: RunningEdge, acme: Owner) -> None:
    """In the list, the export and the counts; and changes no others."""
    mine = await acme.device(name="Mine")
    other = await acme.call("POST", "/projects", {"name": "Other"})
    async with acme.pool.acquire() as connection:
        room = await spaces.create(connection, acme.organization_id, UUID(other["id"]), "Room")
    hidden = await acme.device(name="Hidden", space_id=room.id)
    seat = Seat(edge, await browsing.session(edge, await person_of(acme, "project.developer")))
    for path in ("/devices", "/devices.csv", f"/devices/change?action=move&ids={mine}&ids={hidden}"):
        _, _, text = await seat.get(path)
        assert ("Mine" in text, "Hidden" in text, "Room" in text) == (True, False, False), path
    assert (await seat.send(chosen("move", mine), space_id=str(room.id)))[0] == 422
    await seat.send(chosen("delete", hidden), confirmed="delete")
    assert (await acme.row(hidden))["deleted_at"] is None
    assert (await seat.get(f"/devices?space_id={room.id}"))[0] == 404
    await acme.settled()
    _, _, text = await seat.get("/overview?counted=true")
    assert "<strong>1</strong>" in text


async def test_devices_are_found_while_one_types(browser: Browser, edge: RunningEdge, acme: Owner) -> None:
    """The address follows, and how many are chosen is said."""
    for name in ("Pump", "Valve"):
        await acme.device(name=name)
    async with browsing.tab(browser, edge, await person_of(acme, "organization.admin")) as tab:
        await tab.open("/devices")
        await tab.page.get_by_label("Search").fill("pu")
        await tab.page.wait_for_url("**search=pu**")
        assert await tab.page.locator("tbody tr").count() == 1
        exported = await tab.page.get_by_text("Export CSV").get_attribute("href")
        assert exported is not None
        assert "search=pu" in exported
        await tab.page.get_by_label("Choose Pump").check()
        assert await tab.page.locator("output").inner_text() == "1"
        await tab.page.get_by_role("button", name="Move").click()
        assert await tab.page.inner_text("h1") == "Move devices"
        await tab.check(accessible=False)
