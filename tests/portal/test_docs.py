"""The developer centre: read by whom it is for, complete, and its calls are sent from the page itself."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from edges import RunningEdge, running_edge
from owners import Owner
from playwright.async_api import Browser
from visitors import person_of

from gateway.api import openapi
from gateway.app import ENDPOINTS
from gateway.developers import flows, guides
from gateway.developers.centre import Centre
from gateway.developers.flows import FLOWS
from gateway.developers.guides import GUIDES
from tests.portal import browsing

CENTRE = Centre(openapi.document(ENDPOINTS, "0"))
FILES = ("/docs/postman.json", "/docs/postman_environment.json", "/llms.txt")


async def test_the_centre_is_for_who_is_signed_in_unless_a_setting_opens_it(
    edge: RunningEdge, dsn: str, redis_url: str
) -> None:
    """Pages lead to the sign-in page, files are refused; opened, both are there for anybody."""
    page = "/docs/reference/device-telemetry"
    async with edge.http.get(edge.url + page, allow_redirects=False) as answer:
        assert answer.status == 303
    for path in FILES:
        async with edge.http.get(edge.url + path) as answer:
            assert answer.status == 401, path
    async with running_edge(dsn, redis_url, docs_public=True) as opened:
        for path in (page, *FILES):
            async with opened.http.get(opened.url + path) as answer:
                assert answer.status == 200, path


def test_every_call_is_in_the_reference_with_all_that_is_known_of_it() -> None:
    """Members, refusals with what to do about each, samples in each language."""
    calls = {call.name: call for topic in CENTRE.topics.values() for call in topic.calls}
    for path, methods in CENTRE.document["paths"].items():
        for method, operation in methods.items():
            call = calls[operation["operationId"]]
            assert (call.method, call.path) == (method.upper(), path)
            assert len(call.parameters) == len(operation["parameters"])
            assert all(one.cause and one.cure for one in call.refusals), call.name
            assert set(call.samples("https://fleet.example", {})) == {"curl", "python", "javascript"}


def test_members_are_shown_with_limits_units_and_at_any_depth() -> None:
    """As the schema has them, in words."""
    calls = {call.name: call for topic in CENTRE.topics.values() for call in topic.calls}
    request = calls["organization_models_create_model"].request
    assert request is not None
    shown = {member.name: member for member in request.members}
    assert shown["offline_threshold_s"].limits == "from 10, to 2592000, seconds, else 300"
    request = calls["v2_data_connectors_create_connector"].request
    assert request is not None
    assert "httpConfig.signatureSecret" in {member.name for member in request.members}


def test_samples_are_what_their_language_can_read(tmp_path: Path) -> None:
    """Each in Python is compiled, each for a shell and for Node.js is checked by these."""
    scripts: dict[str, list[str]] = {"curl": [], "javascript": []}
    for topic in CENTRE.topics.values():
        for call in topic.calls:
            made = call.samples("https://fleet.example", {})
            compile(made["python"], call.name, "exec")
            scripts["curl"].append(made["curl"])
            body = re.sub(r'^import .*"node:fs/promises";$', "", made["javascript"], flags=re.MULTILINE)
            scripts["javascript"].append(f"async () => {{ {body} }};")
    (tmp_path / "samples.sh").write_text("\n".join(scripts["curl"]))
    subprocess.run(["bash", "-n", tmp_path / "samples.sh"], check=True)
    if node := shutil.which("node"):
        (tmp_path / "samples.mjs").write_text("\n".join(scripts["javascript"]))
        subprocess.run([node, "--check", tmp_path / "samples.mjs"], check=True)


async def test_a_call_is_sent_from_its_page_with_the_readers_own_key(
    browser: Browser, edge: RunningEdge, acme: Owner
) -> None:
    """The real answer is shown; the key is known on the next page too, in this tab only; so are own ids."""
    person_id = await person_of(acme, "organization.admin")
    async with browsing.tab(browser, edge, person_id) as tab:
        await tab.open("/docs/reference/organization-info")
        call: Any = tab.page.locator("#organization_info_read_info")
        await call.locator("summary", has_text="Send").click()
        await call.locator("[data-key]").fill(acme.key)
        await call.locator("button.primary").click()
        await call.locator("[data-answer] .message", has_text="200").wait_for()
        assert '"name": "Acme"' in await call.locator("[data-answer] pre").inner_text()
        await tab.check()
        await tab.open("/docs/reference/organization-projects")
        read = tab.page.locator("#organization_projects_read_project")
        assert f"/projects/{acme.project_id}" in await read.locator(".code code").first.inner_text()
        await read.locator("summary", has_text="Send").click()
        assert await read.locator("[name=project_id]").input_value() == str(acme.project_id)
        assert await tab.page.locator("[data-key]").first.input_value() == acme.key
        stored = await tab.page.evaluate("[Object.keys(localStorage), document.cookie]")
        assert stored[0] == []
        assert acme.key not in stored[1]


async def test_the_reference_is_searched_as_one_types(browser: Browser, edge: RunningEdge, acme: Owner) -> None:
    """By parts of paths and words, and the search is an address."""
    person_id = await person_of(acme, "project.user")
    async with browsing.tab(browser, edge, person_id) as tab:
        await tab.open("/docs/reference?q=POST+children+telemetries")
        shown = await tab.page.locator(".calls a code").all_inner_texts()
        assert shown == ["/v1/devices/{device_id}/children/telemetries"]
        await tab.open("/docs/reference?q=nothing-of-the-kind")
        assert "No call has these words" in await tab.page.inner_text("main")


def test_addresses_of_calls_lead_to_their_topics() -> None:
    """Flows lead to them, and /llms.txt."""
    register = "device_registration_register"
    assert CENTRE.places[register] == f"/reference/device-registration#{register}"


def test_every_call_of_a_flow_is_one_that_there_is() -> None:
    """A call that is renamed, or taken away, is missed in the drawing that shows it."""
    named = [step.call for flow in FLOWS.values() for step in flows.steps(flow) if step.call]
    assert set(named) - set(CENTRE.addresses) == set()
    assert len(named) > len(FLOWS) * 3


def test_a_flow_is_drawn_in_the_colours_of_its_page_and_no_text_of_it_is_more() -> None:
    """By classes, which the stylesheet colours for light and dark."""
    drawn = flows.svg(flows.Flow("<b>", "", "Device -> Gateway: POST /v1/<i>\nGateway: thinks & waits"), lambda _: '"')
    assert not re.search(r'(fill|stroke|style)="', drawn)
    assert "<i>" not in drawn
    assert "<b>" not in drawn
    assert 'href="&quot;"' in drawn
    with pytest.raises(ValueError, match="Broken"):
        flows.steps(flows.Flow("Broken", "", "nobody knows"))


async def test_a_key_is_made_on_the_quickstart_and_stands_in_the_program(
    browser: Browser, edge: RunningEdge, acme: Owner
) -> None:
    """By who may make keys; a device registers with it. Whoever may not, is told whom to ask."""
    person_id = await person_of(acme, "organization.admin")
    async with browsing.tab(browser, edge, person_id) as tab:
        await tab.open("/docs/quickstart?language=python")
        await tab.page.click("text=Make a key")
        program = await tab.page.inner_text(".code code >> nth=0")
        key = re.search(r'HARDWARE_KEY = "(fgh_\w+)"', program)
        assert key is not None
        await tab.check()
    unit = {"hardware_key": key[1], "sn": "QS1", "mac": "02:00:00:00:00:99", "firmware_version": "1.0.0"}
    async with edge.http.post(f"{edge.url}/v1/devices", json=unit) as answer:
        assert answer.status == 201
    reader = await person_of(acme, "project.user", email="reader@example.com")
    async with browsing.tab(browser, edge, reader, expected=("403",)) as tab:
        await tab.open("/docs/quickstart")
        assert "Ask an administrator" in await tab.page.inner_text("main")


async def test_a_device_lives_in_the_browser(browser: Browser, edge: RunningEdge, acme: Owner) -> None:
    """It registers, tells, and takes a command and a config, as the answers to what it tells say."""
    made = await acme.call("POST", f"/models/{acme.model_id}/hardware_keys", {"name": "Line"})
    person_id = await person_of(acme, "project.user")
    async with browsing.tab(browser, edge, person_id) as tab:
        await tab.open("/docs/simulator")
        await tab.page.fill("#hardware_key", made["key"])
        unit = {name: await tab.page.input_value(f"#{name}") for name in ("sn", "mac")}
        await tab.page.click("text=Register >> nth=-1")
        await tab.page.locator("#identity", has_text="Registered as").wait_for()
        claimed = await acme.call("POST", "/devices/claim", {"space_id": str(acme.space_id), **unit})
        await acme.call("POST", f"/devices/{claimed['id']}/commands", {"command": "reboot"})
        await acme.call("PUT", f"/devices/{claimed['id']}/config", {"config": {"interval_s": 7}})
        await tab.page.fill("#temperature", "30.5")
        await tab.page.click("#telemetry button")
        await tab.page.locator("#config", has_text='"interval_s": 7').wait_for()
        await tab.page.click("text=Done")
        await tab.page.locator("#command", has_text="reboot: done").wait_for()
        await tab.check()
    (command,) = (await acme.call("GET", f"/devices/{claimed['id']}/commands"))["items"]
    assert command["status"] == "done"


def test_guides_are_pages_whose_links_lead_somewhere_and_whose_policy_is_kept() -> None:
    """Between guides to their pages; what is beside them in the repository is text."""
    for name in GUIDES:
        shown = guides.guide(name, "/docs/guides/{}".format)
        html = "".join(section.html for section in shown.sections)
        assert shown.title
        links = re.findall(r'href="([^"]*)"', html)
        wrong = [link for link in links if not link.startswith(("https://", "http://"))]
        assert [link for link in wrong if link.removeprefix("/docs/guides/") not in GUIDES] == []
        assert not re.search(r"<script|style=|<!--| on\w+=", html)
        ids = [section.id for section in shown.sections]
        assert len(set(ids)) == len(ids)


async def test_a_guide_is_searched(browser: Browser, edge: RunningEdge, acme: Owner) -> None:
    """In it, and across all; both are addresses."""
    person_id = await person_of(acme, "project.user")
    async with browsing.tab(browser, edge, person_id) as tab:
        for name in GUIDES:
            assert await tab.open(f"/docs/guides/{name}") == 200
            await tab.check(accessible=name == "receivers")
        await tab.open("/docs/guides/receivers?q=x-dt-signature")
        found = await tab.page.locator("#results h2").all_inner_texts()
        assert found == ["Is it really from us, and unchanged?"]
        await tab.open("/docs/guides?q=standby+of+unicorns")
        assert "No guide has these words" in await tab.page.inner_text("main")
        await tab.open("/docs/guides?q=x-dt-signature")
        assert "Receiving webhooks" in await tab.page.inner_text("#results")
