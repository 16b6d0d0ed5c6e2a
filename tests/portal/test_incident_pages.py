"""What people do about what is wrong, in a browser: incidents, tickets, rules."""

from datetime import UTC, datetime, timedelta

from edges import RunningEdge
from owners import Owner
from playwright.async_api import Browser
from visitors import person_of

from tests.portal import browsing


async def test_an_incident_is_assigned_told_to_the_maker_and_closed(
    browser: Browser, edge: RunningEdge, acme: Owner
) -> None:
    """By whoever may; others only look."""
    device_id = await acme.device(name="Pump")
    incident_id = await acme.incident(device_id, 2, issue="leak")
    person_id = await person_of(acme, "organization.admin")
    async with browsing.tab(browser, edge, person_id) as tab:
        await tab.open(f"/incidents/{incident_id}")
        await tab.page.get_by_label("Assignee").fill("Ada")
        await tab.page.get_by_role("button", name="Save").click()
        await tab.page.get_by_text("Saved").wait_for()
        await tab.page.get_by_role("button", name="Make a ticket").click()
        await tab.page.get_by_label("Message").fill("It drips")
        await tab.page.get_by_role("button", name="Send").click()
        await tab.page.get_by_text("It drips").wait_for()
        await tab.page.get_by_role("button", name="Resolve").click()
        await tab.page.get_by_text("The ticket is resolved").wait_for()
        await tab.page.get_by_role("link", name="its incident").click()
        await tab.page.get_by_role("button", name="Close").click()
        await tab.page.get_by_text("The incident is closed").wait_for()
        await tab.check()
    incident = await acme.call("GET", f"/incidents/{incident_id}")
    assert (incident["status"], incident["assignee"]) == ("closed", "Ada")


async def test_a_rule_is_tried_over_history_before_it_is_made(browser: Browser, edge: RunningEdge, acme: Owner) -> None:
    """What it would have done is drawn, and what was typed stays; then it is made, switched off and deleted."""
    device_id = await acme.device(name="Server")
    now = datetime.now(UTC)
    for minutes, disk in ((50, 10), (40, 95), (30, 20), (20, 97)):
        await acme.message(device_id, now - timedelta(minutes=minutes), telemetries={"disk": disk})
    person_id = await person_of(acme, "organization.admin")
    async with browsing.tab(browser, edge, person_id, expected=("422",)) as tab:
        await tab.open("/rules")
        await tab.page.get_by_role("link", name="Make the first one").click()
        await tab.page.get_by_label("Title").fill("Disk is full")
        await tab.page.get_by_label("Telemetry key").fill("disk")
        await tab.page.get_by_label("Value").fill("90")
        await tab.page.get_by_role("button", name="Try it").click()
        await tab.page.get_by_text("Choose the device whose history it is tried over").wait_for()
        await tab.page.get_by_label("Try it over").fill(str(device_id))
        await tab.page.get_by_role("button", name="Try it").click()
        await tab.page.get_by_text("4 messages since").wait_for()
        assert await tab.page.locator(".stretches rect").count() == 3
        await tab.check()
        await tab.page.get_by_label("For the devices of").select_option(f"model {acme.model_id}")
        await tab.page.get_by_role("button", name="Make the rule").click()
        await tab.page.get_by_text("counts from the next message").wait_for()
        (rule,) = (await acme.call("GET", "/incident_rules"))["items"]
        assert (rule["telemetry"], rule["comparison"], rule["value"]) == ("disk", "gt", 90)
        await tab.page.get_by_role("link", name="Disk is full").click()
        await tab.page.get_by_label("Value").fill("95")
        await tab.page.get_by_label("Try it over").fill(str(device_id))
        await tab.page.get_by_role("button", name="Try it").click()
        await tab.page.get_by_text("1 incident.").wait_for()
        await tab.page.get_by_role("button", name="Save").click()
        await tab.page.get_by_text("Disk is full is changed").wait_for()
        assert (await acme.call("GET", "/incident_rules"))["items"][0]["value"] == 95
        await tab.page.get_by_role("button", name="Switch off: Disk is full").click()
        await tab.page.get_by_text("Disk is full is off").wait_for()
        await tab.page.get_by_role("button", name="Delete").first.click()
        await tab.page.get_by_role("dialog").get_by_role("button", name="Delete").click()
        await tab.page.get_by_text("No rules yet").wait_for()
