"""Models in the portal: what their vendor makes and changes there is what the API has then."""

from edges import RunningEdge
from owners import Owner
from playwright.async_api import Browser
from visitors import person_of

from tests.portal import browsing


async def test_a_vendor_makes_a_model_with_its_mapping_and_a_command(
    browser: Browser, edge: RunningEdge, acme: Owner
) -> None:
    """What does not fit stands beside its field, with all that was typed."""
    person_id = await person_of(acme, "organization.admin", "partner.admin")
    async with browsing.tab(browser, edge, person_id, expected=("422",)) as tab:
        assert await tab.open("/models") == 200
        page = tab.page
        await page.click("summary >> text=New model")
        await page.fill("[name=vendor]", "Acme")
        await page.fill("[name=name]", "Kettle")
        await page.fill("[name=offline_threshold_s]", "1")
        await page.click("main button:text-is('Make model')")
        assert "10" in await page.inner_text(".wrong")
        assert await page.input_value("[name=name]") == "Kettle"
        await page.fill("[name=offline_threshold_s]", "60")
        await page.click("main button:text-is('Make model')")
        await page.wait_for_selector("#mapping")
        await page.fill("[name='event_mappings.key'] >> nth=0", "temp")
        await page.fill("[name='event_mappings.value'] >> nth=0", "temperature")
        await page.click("main button:text-is('Save mapping')")
        await page.wait_for_selector("text=The mapping counts")
        await page.click(".tabs >> text=Commands")
        await page.fill("[name=name]", "boil")
        await page.get_by_label("Field 1").fill("speed")
        await page.get_by_label("Type").first.select_option("integer")
        await page.get_by_label("Must be filled in").first.check()
        await page.uncheck("[type=checkbox][name=several]")
        await page.click("main button:text-is('Define command')")
        await page.click("td a >> text=boil")
        await page.fill("[name=timeout_s]", "30")
        await page.click("main button:text-is('Save')")
        await page.wait_for_selector("text=boil is changed")
    (model,) = [one for one in (await acme.call("GET", "/models"))["items"] if one["name"] == "Kettle"]
    assert (model["offline_threshold_s"], model["event_mappings"]) == (60, {"temp": "temperature"})
    (command,) = model["commands"]
    assert (command["name"], command["timeout_s"], command["several"]) == ("boil", 30, False)
    assert command["fields"][0]["required"] is True


async def test_what_registered_with_a_stolen_key_is_deleted_once_the_key_is_revoked(
    browser: Browser, edge: RunningEdge, acme: Owner
) -> None:
    """A key is shown once; the name of the model is typed before anything is deleted."""
    person_id = await person_of(acme, "organization.admin")
    name = (await acme.call("GET", f"/models/{acme.model_id}"))["name"]
    async with browsing.tab(browser, edge, person_id) as tab:
        assert await tab.open(f"/models/{acme.model_id}/keys") == 200
        page = tab.page
        await page.fill("[name=name]", "batch 7")
        await page.click("main button:text-is('Make key')")
        await page.wait_for_selector("text=is made")
        key_id = await acme.pool.fetchval("SELECT id FROM hardware_keys WHERE name = 'batch 7'")
        stolen = await acme.device(claimed=False, hardware_key_id=key_id)
        await page.click("text=I have kept it")
        row = page.locator("tr", has_text="batch 7")
        await row.locator("button[popovertarget]").first.click()
        await row.locator(".dialog [data-tone=bad]").click()
        await page.wait_for_selector("text=The key is revoked")
        await row.locator("button[popovertarget]").first.click()
        await row.locator("[name=confirmed]").fill(name)
        await row.locator(".dialog [data-tone=bad]").click()
        await page.wait_for_selector("text=1 devices that nobody claimed are deleted")
        assert await acme.pool.fetchval("SELECT deleted_at IS NOT NULL FROM devices WHERE id = $1", stolen) in (
            None,
            True,
        )


async def test_a_vendor_makes_a_licence_and_gives_it_to_a_device(
    browser: Browser, edge: RunningEdge, acme: Owner
) -> None:
    """And sees which devices of its models nobody claimed."""
    device_id = await acme.device()
    await acme.device(claimed=False)
    person_id = await person_of(acme, "partner.admin")
    async with browsing.tab(browser, edge, person_id) as tab:
        assert await tab.open(f"/licenses?model_id={acme.model_id}") == 200
        page = tab.page
        await page.click("summary")
        await page.fill("[name=name]", "night mode")
        await page.fill("[name=data]", '{"night": true}')
        await page.click("main button:text-is('Make licence')")
        await page.click("main button:text-is('Give to a device')")
        await page.fill("[name=device_id]", str(device_id))
        await page.click(".dialog:popover-open button:not([type=button])")
        await page.wait_for_selector("text=The device is told with its next answer")
        assert await tab.open(f"/registered?model_id={acme.model_id}") == 200
        assert await page.locator("text=nobody claimed it").count() == 1
    (licence,) = (await acme.partner("GET", "/licenses"))["items"]
    assert (licence["device_id"], licence["state"]) == (str(device_id), "pending_add")


async def test_firmware_is_uploaded_with_its_progress_and_released(
    browser: Browser, edge: RunningEdge, acme: Owner
) -> None:
    """Portal, API and command line take uploads, and show how far they are where people wait for them."""
    made = {"name": "fw.bin", "file_type": "firmware", "version": "2.0.0", "model_id": str(acme.model_id)}
    file_id, data = (await acme.call("POST", "/files", made))["id"], bytes(range(256)) * 4_000
    person_id = await person_of(acme, "organization.admin")
    shown: list[str] = []
    async with browsing.tab(browser, edge, person_id) as tab:
        assert await tab.open(f"/firmware/{file_id}") == 200
        page = tab.page
        await page.expose_function("told", lambda text: shown.append(text))
        await page.evaluate(
            """() => new MutationObserver(([one]) => window.told(one.target.textContent))
                .observe(document.querySelector(".progress span"), { childList: true })"""
        )
        await page.set_input_files("#upload", {"name": "fw.bin", "mimeType": "application/x-bin", "buffer": data})
        await page.click("button:text-is('Upload')")
        await page.wait_for_selector("text=SHA-256")
        await page.get_by_role("button", name="Release", exact=True).first.click()
        await page.click("[popover] button:text-is('Release')")
        await page.wait_for_selector("text=Released: its devices may fetch it")
    file = await acme.call("GET", f"/files/{file_id}")
    assert (file["status"], file["size"]) == ("released", len(data))
    assert shown[-1] == "1.0 of 1.0 MB"
