"""What people do with one device in a browser: commands, config, notes, its end; and claiming it."""

import json
from datetime import UTC, datetime, timedelta

from edges import RunningEdge
from owners import Owner
from playwright.async_api import Browser
from visitors import person_of

from tests.portal import browsing


async def test_a_command_is_sent_by_the_form_that_its_definition_makes(
    browser: Browser, edge: RunningEdge, acme: Owner
) -> None:
    """What does not fit is told beside its field, and nothing typed is lost; what waits can be cancelled."""
    device_id = await acme.device(name="Press")
    fields = [{"name": "speed", "type": "integer", "required": True}, {"name": "gently", "type": "boolean"}]
    await acme.call(
        "POST",
        f"/models/{acme.model_id}/commands",
        {"name": "turn", "friendly_name": "Turn", "fields": fields, "several": True},
    )
    person_id = await person_of(acme, "project.developer")
    async with browsing.tab(browser, edge, person_id, expected=("422",)) as tab:
        await tab.open(f"/devices/{device_id}/commands")
        await tab.page.get_by_role("link", name="Turn").click()
        await tab.page.get_by_label("speed").fill("fast")
        await tab.page.get_by_label("gently").select_option("yes")
        await tab.page.get_by_role("button", name="Send Turn").click()
        await tab.page.get_by_text("Extra params.speed must be a 64-bit integer").wait_for()
        assert await tab.page.get_by_label("speed").input_value() == "fast"
        assert await tab.page.get_by_label("gently").input_value() == "true"
        await tab.page.get_by_label("speed").fill("3")
        await tab.page.get_by_role("button", name="Send Turn").click()
        await tab.page.get_by_text("Turn is waiting for the device").wait_for()
        sent = (await acme.call("GET", f"/devices/{device_id}/commands"))["items"]
        assert [(one["status"], one["parameters"]) for one in sent] == [("pending", {"speed": 3, "gently": True})]
        await tab.page.get_by_role("button", name="Cancel").click()
        await tab.page.get_by_text("Turn was cancelled").wait_for()
        await tab.check()
    assert (await acme.call("GET", f"/devices/{device_id}/commands"))["items"][0]["status"] == "aborted"


async def test_of_two_who_edit_a_config_the_second_sees_the_firsts(
    browser: Browser, edge: RunningEdge, acme: Owner
) -> None:
    """And may set their own knowingly; what the device runs stands beside it."""
    device_id = await acme.device(name="Press")
    await acme.call("PUT", f"/devices/{device_id}/config", {"config": {"interval_s": 10}})
    await acme.pool.execute("UPDATE devices SET applied_config_version = 1 WHERE id = $1", device_id)
    person_id = await person_of(acme, "project.developer")
    async with browsing.tab(browser, edge, person_id, expected=("422",)) as tab:
        await tab.open(f"/devices/{device_id}/config")
        await tab.page.get_by_text("the same").wait_for()
        await acme.call("PUT", f"/devices/{device_id}/config", {"config": {"interval_s": 20}})
        await tab.page.get_by_label("JSON object").fill('{"interval_s": 30')
        await tab.page.get_by_role("button", name="Set config").click()
        await tab.page.get_by_text("Is not valid JSON").wait_for()
        await tab.page.get_by_text("Somebody else set version 2 meanwhile").wait_for()
        assert '"interval_s": 20' in await tab.page.get_by_label("The config as it is now").inner_text()
        assert await tab.page.get_by_label("JSON object").input_value() == '{"interval_s": 30'
        await tab.page.get_by_label("JSON object").fill('{"interval_s": 30}')
        await acme.call("PUT", f"/devices/{device_id}/config", {"config": {"interval_s": 25}})
        await tab.page.get_by_role("button", name="Set config").click()
        await tab.page.get_by_text("Somebody else set version 3 meanwhile").wait_for()
        await tab.page.get_by_role("button", name="Set config").click()
        await tab.page.get_by_text("Version 4 is set").wait_for()
        changes = await tab.page.get_by_label("What changes").inner_text()
        assert '-  "interval_s": 10' in changes
        assert '+  "interval_s": 30' in changes
        await tab.check()


async def test_a_device_is_deleted_by_whoever_types_its_name(browser: Browser, edge: RunningEdge, acme: Owner) -> None:
    """And not by another name."""
    device_id = await acme.device(name="Press")
    person_id = await person_of(acme, "project.developer")
    async with browsing.tab(browser, edge, person_id) as tab:
        await tab.open(f"/devices/{device_id}/settings")
        await tab.page.get_by_role("button", name="Delete this device").click()
        sure = tab.page.get_by_role("dialog", name="Delete this device")
        await sure.get_by_label("Type Press to confirm").fill("press")
        await sure.get_by_role("button", name="Delete this device").click()
        assert (await acme.row(device_id))["deleted_at"] is None
        await sure.get_by_label("Type Press to confirm").fill("Press")
        await sure.get_by_role("button", name="Delete this device").click()
        await tab.page.get_by_text("Press was deleted").wait_for()
    assert (await acme.row(device_id))["deleted_at"] is not None


async def test_devices_are_claimed_one_by_one_and_several_at_once(
    browser: Browser, edge: RunningEdge, acme: Owner
) -> None:
    """One is shown before it is claimed; of several each line has its result."""
    one, another = [await acme.row(await acme.device(claimed=False)) for _ in range(2)]
    person_id = await person_of(acme, "project.admin")
    async with browsing.tab(browser, edge, person_id, expected=("404",)) as tab:
        await tab.open("/claim")
        look_up = tab.page.locator("section", has=tab.page.get_by_role("heading", name="One device"))
        await look_up.get_by_label("Space").select_option(str(acme.space_id))
        await look_up.get_by_label("MAC").fill(one["mac"])
        await look_up.get_by_label("Serial number").fill(one["sn"])
        await look_up.get_by_role("button", name="Look it up").click()
        await tab.page.get_by_role("heading", name="Is this the device?").wait_for()
        assert (await acme.row(one["id"]))["claimed_at"] is None
        await tab.page.get_by_role("button", name="Claim it").click()
        await tab.page.get_by_role("heading", name="Claimed").wait_for()
        assert (await acme.row(one["id"]))["organization_id"] == acme.organization_id
        await tab.page.get_by_role("link", name="Claim another").click()
        several = tab.page.locator("section", has=tab.page.get_by_role("heading", name="Several"))
        await several.get_by_label("Space").select_option(str(acme.space_id))
        lines = f"mac,sn,name\n{another['mac']},{another['sn']},Lobby\n02:ff:ff:ff:ff:ff,NONE,\n"
        await several.get_by_label("CSV").fill(lines)
        await several.get_by_role("button", name="Claim them all").click()
        await tab.page.get_by_role("heading", name="1 of 2 claimed").wait_for()
        await tab.check()
    assert (await acme.row(another["id"]))["name"] == "Lobby"


async def test_the_code_on_a_device_leads_to_its_claim(browser: Browser, edge: RunningEdge, acme: Owner) -> None:
    """`https://<portal>/c/<cloud id>`: by any camera, behind the sign-in; the portal's own camera reads it too."""
    person_id = await person_of(acme, "project.admin")
    async with edge.http.get(f"{edge.url}/c/AC0123456789abcdef", allow_redirects=False) as answer:
        assert (answer.status, answer.headers["location"]) == (303, "/claim?cloud_id=AC0123456789abcdef")
    async with browsing.tab(browser, edge, person_id) as tab:
        await tab.open("/c/AC0123456789abcdef")
        assert await tab.page.get_by_label("Cloud ID").input_value() == "AC0123456789abcdef"
        texts = ["https://portal.example/c/AC01", "AC01", "https://x.example/?mac=1&sn=2", "https://x.example/y"]
        read = """async (texts) => {
            const { read } = await import(document.querySelector('script[src*="claim"]').src);
            return texts.map(read);
        }"""
        assert await tab.page.evaluate(read, texts) == [
            {"cloud_id": "AC01"},
            {"cloud_id": "AC01"},
            {"mac": "1", "sn": "2"},
            {"cloud_id": "https://x.example/y"},
        ]


async def test_chosen_values_are_drawn_and_the_choice_is_an_address(
    browser: Browser, edge: RunningEdge, acme: Owner
) -> None:
    """With their numbers beside the drawing; a silence is a gap."""
    device_id = await acme.device(name="Boiler")
    await acme.seen(device_id, temperature=21.5)
    now = datetime.now(UTC)
    for minutes in (200, 190, 180, 60, 50):
        await acme.message(device_id, now - timedelta(minutes=minutes), telemetries={"temperature": minutes})
    person_id = await person_of(acme, "project.user")
    async with browsing.tab(browser, edge, person_id) as tab:
        await tab.open(f"/devices/{device_id}/history")
        await tab.page.get_by_text("Draw values").click()
        await tab.page.get_by_label("temperature").check()
        await tab.page.locator("[data-chart] canvas").wait_for()
        assert "keys=temperature" in tab.page.url
        chart = json.loads(await tab.page.locator("[data-chart]").get_attribute("data-chart") or "")
        assert chart["series"][0]["values"] == [200, 190, 180, None, 60, 50]
        await tab.check()


async def test_labels_are_set_on_the_devices_page_and_told_among_its_events(
    browser: Browser, edge: RunningEdge, acme: Owner
) -> None:
    """Times to filter by are typed in the reader's zone, and stand in the address in UTC."""
    device_id = await acme.device(name="Press")
    await acme.message(device_id, datetime(2026, 3, 1, 17, 30, tzinfo=UTC), telemetries={"disk": 7})
    person_id = await person_of(acme, "project.developer")
    async with browsing.tab(browser, edge, person_id, timezone="America/New_York") as tab:
        await tab.open(f"/devices/{device_id}/settings")
        await tab.page.get_by_label("Key", exact=True).fill("room")
        await tab.page.get_by_label("Value", exact=True).fill("12")
        await tab.page.get_by_role("button", name="Set label").click()
        await tab.page.get_by_text("room is 12 now").wait_for()
        await tab.page.get_by_role("button", name="Remove the label room").click()
        await tab.page.get_by_text("The label room is gone").wait_for()
        await tab.open(f"/devices/{device_id}/events?to=2026-03-01T18:00:00Z")
        assert await tab.page.get_by_role("textbox", name="To").input_value() == "2026-03-01T13:00"
        await tab.page.get_by_role("cell", name="disk 7").wait_for()
        await tab.page.get_by_role("textbox", name="From").fill("2026-03-01T12:45:00")
        await tab.page.wait_for_url("**from=2026-03-01T17%3A45%3A00.000Z**")
        await tab.page.get_by_text("No events in this time").wait_for()
        await tab.check()
