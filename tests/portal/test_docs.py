"""The developer centre: read by whom it is for, complete, and its calls are sent from the page itself."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

from edges import RunningEdge, running_edge
from owners import Owner
from playwright.async_api import Browser
from visitors import person_of

from gateway.api import openapi
from gateway.app import ENDPOINTS
from gateway.developers.centre import Centre
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
    """The real answer is shown; the key is known on the next page too, in this tab only."""
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
