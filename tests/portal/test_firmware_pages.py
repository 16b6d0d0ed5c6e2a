"""Firmware in a browser: uploaded, released, and planned to go out in waves whose sizes are known before."""

from edges import RunningEdge
from owners import Owner
from playwright.async_api import Browser
from visitors import person_of

from tests.portal import browsing


async def test_firmware_is_uploaded_released_and_planned_in_waves(
    browser: Browser, edge: RunningEdge, acme: Owner
) -> None:
    """The bytes go as they are; the form of a rollout tells how many devices each wave has while it is filled in."""
    for _ in range(20):
        await acme.device()
    person_id = await person_of(acme, "organization.admin")
    async with browsing.tab(browser, edge, person_id, expected=("422",)) as tab:
        page = tab.page
        await tab.open("/firmware")
        await page.get_by_label("Name").fill("Main")
        await page.get_by_label("For devices of the model").select_option(str(acme.model_id))
        await page.fill("[name=version]", "2.0.0")
        await page.get_by_role("button", name="Make a draft").click()
        file = {"name": "main.bin", "mimeType": "application/octet-stream", "buffer": b"\x00\xff" * 3000}
        await page.get_by_label("File", exact=True).set_input_files(file)
        await page.get_by_role("button", name="Upload").click()
        await page.get_by_role("link", name="6.0 kB").wait_for()
        await page.get_by_role("button", name="Release").first.click()
        await page.get_by_role("dialog").get_by_role("button", name="Release").click()
        await page.get_by_role("link", name="Plan a rollout").click()
        await page.get_by_text("wave 1 has about 1, wave 2 has about 4, wave 3 has about 15").wait_for()
        await page.get_by_label("First wave").fill("3")
        await page.locator("[name='first.unit']").select_option("count")
        await page.get_by_label("Second wave").fill("50")
        await page.get_by_text("wave 1 has about 3, wave 2 has about 7, wave 3 has about 10").wait_for()
        await tab.check()
        await page.get_by_label("Name").fill("Spring")
        await page.get_by_role("button", name="Plan it").click()
        await page.get_by_text("Planned: nobody is offered it before you start it").wait_for()
        await page.get_by_text("wave 1 has about 3, wave 2 has about 7, wave 3 has about 10").wait_for()
        await page.get_by_role("link", name="Change").click()
        await page.get_by_text("wave 1 has about 3, wave 2 has about 7, wave 3 has about 10").wait_for()
        await page.get_by_label("Second wave").fill("0.5")
        await page.locator("[name='second.unit']").select_option("count")
        await page.get_by_role("button", name="Save").click()
        await page.get_by_text("Must be a whole number of devices").wait_for()
        await tab.check()
        await page.get_by_label("Second wave").fill("5")
        await page.get_by_label("At most a minute").fill("60")
        await page.get_by_role("button", name="Save").click()
        await page.get_by_text("wave 1 has about 3, wave 2 has about 5, wave 3 has about 12").wait_for()
    (rollout,) = (await acme.call("GET", "/rollouts"))["items"]
    assert rollout["max_per_minute"] == 60
    waves = (await acme.call("GET", f"/rollouts/{rollout['id']}"))["waves"]
    assert [(wave["count"], wave["percent"], wave["soak_s"]) for wave in waves] == [
        (3, None, 3600), (5, None, 3600), (None, 100, 0),
    ]  # fmt: skip
