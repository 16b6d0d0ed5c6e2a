"""Data connectors and cloud connectors as people work with them, in a browser; receivers and clouds answer."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from edges import RunningEdge, open_shards, running_edge
from imports import Clock, Imports
from owners import Owner, owner
from playwright.async_api import Browser, Route
from vendors import VendorCloud, manifest, serve
from visitors import person_of
from webhooks import Project, Receiver, answers

from schemas import ids
from schemas.egress import EgressPolicy, GuardedResolver
from schemas.postgres import Pool
from schemas.redis import Redis
from schemas.secrets import VENDOR_CREDENTIALS, Vault
from tests.conftest import MASTER_KEY, SHARDS
from tests.portal import browsing
from tests.portal.browsing import Tab
from tests.portal.furnished import HOSTILE
from workers.egress import LOOKUP_TIMEOUT_S
from workers.importer import leases
from workers.importer.runs import Runs
from workers.names import Names

OPEN = {"egress_allow": "127.0.0.0/8", "egress_http": True}
MANY = [f"room-{n:02}" for n in range(20)]


@pytest.fixture
async def cloud(tmp_path: Path) -> AsyncIterator[VendorCloud]:
    """A vendor's cloud with a manifest `acme`."""
    made = VendorCloud(folder=tmp_path / "manifests")
    made.folder.mkdir()
    (made.folder / "acme.toml").write_text(manifest())
    runner = await serve(made)
    yield made
    await runner.cleanup()


@pytest.fixture
async def near(dsn: str, redis_url: str, redis_client: Redis, cloud: VendorCloud) -> AsyncIterator[RunningEdge]:
    """An edge whose connectors may lead to this machine."""
    await open_shards(redis_client)
    async with running_edge(dsn, redis_url, manifests=str(cloud.folder), **OPEN) as edge:
        yield edge


@pytest.fixture
async def importing(
    near: RunningEdge, cloud: VendorCloud, dsn: str, pool: Pool, redis_client: Redis
) -> AsyncIterator[Imports]:
    """A tenant, and an importer that runs when it is told."""
    holder, vault = ids.new_id(), Vault(MASTER_KEY, VENDOR_CREDENTIALS)
    policy, clock = EgressPolicy(OPEN["egress_allow"], http=True), Clock()  # type: ignore[arg-type]
    names = Names(GuardedResolver(policy), LOOKUP_TIMEOUT_S)
    made = Runs(
        dsn, pool, redis_client, vault, policy, names, holder,
        manifests_folder=str(cloud.folder), shards=SHARDS, clock=clock,
    )  # fmt: skip
    yield Imports(await owner(near, "Acme"), cloud, pool, made, holder, near, vault, clock)
    await names.close()


async def press(tab: Tab, label: str) -> None:
    """Press the button of this name, and wait for the page that it leads to."""
    async with tab.page.expect_navigation():
        await tab.page.get_by_role("button", name=label, exact=True).locator("visible=true").last.click()


async def confirm(tab: Tab, label: str, name: str = "") -> None:
    """Press the button of this name, and what it asks for then."""
    await tab.page.get_by_role("button", name=label, exact=True).first.click()
    if name:
        await tab.page.fill("[name=confirmed]:visible", name)
    await press(tab, label)


async def text(tab: Tab) -> str:
    return await tab.page.inner_text("main")


@contextlib.asynccontextmanager
async def sending(acme: Owner, dsn: str) -> AsyncIterator[Project]:
    """A dispatcher for the tenant's project."""
    project = Project(acme.pool, acme.organization_id, acme.project_id, settings_dsn=dsn)
    async with project.dispatcher():
        yield project


async def test_a_data_connector_from_its_making_to_its_end(browser: Browser, near: RunningEdge, dsn: str) -> None:
    """Made with checks while it is typed, tested, switched, synchronized, replayed, changed, deleted by name."""
    acme = await owner(near, "Acme")
    person_id = await person_of(acme, "project.developer")
    async with (
        Receiver() as receiver,
        sending(acme, dsn),
        browsing.tab(browser, near, person_id, expected=("422",)) as tab,
    ):
        await tab.open("/data-connectors")
        await tab.page.click("text=New data connector")
        await tab.page.fill("[name=displayName]", HOSTILE[:200])
        await tab.page.fill("[name='httpConfig.url']", "https://10.0.0.1/")
        await tab.page.fill("[name='httpConfig.headers.key'] >> nth=0", "Host")
        await tab.page.fill("[name='httpConfig.headers.value'] >> nth=0", "x")
        await tab.page.press("[name='httpConfig.headers.value'] >> nth=0", "Tab")
        await tab.page.wait_for_selector("#check-httpConfig-headers:has-text('gateway itself')")
        assert await tab.page.inner_text("#check-httpConfig-url")
        await press(tab, "Make it")
        assert await tab.page.input_value("[name='httpConfig.url']") == "https://10.0.0.1/"
        assert await tab.page.input_value("[name='httpConfig.headers.key'] >> nth=0") == "Host"
        assert await tab.page.locator("#field-create-httpConfig-url-error").count() == 1
        await tab.check()
        await tab.page.fill("[name='httpConfig.url']", receiver.url)
        await tab.page.fill("[name='httpConfig.headers.key'] >> nth=0", "X-Name")
        await press(tab, "Make it")
        assert await tab.page.inner_text("h1") == HOSTILE[:200]
        receiver.behave = answers(503, HOSTILE)
        await press(tab, "Send a test event")
        assert "it failed (status 503)" in await text(tab)
        await tab.page.click("details.answer summary")
        assert HOSTILE in await tab.page.inner_text("details.answer")
        assert await tab.page.title() != "taken"
        await tab.page.select_option("[name=result]", "delivered")
        await tab.page.wait_for_selector("text=No attempt fits")
        receiver.behave = answers(200)
        await press(tab, "Send a test event")
        assert "answered 200" in await text(tab)
        await tab.check()
        await tab.page.click(".tabs >> text=Queue")
        await press(tab, "Synchronize")
        await tab.page.get_by_label("From").fill("2026-01-02T00:00:00")
        await tab.page.get_by_label("Until").fill("2026-01-01T00:00:00")
        await press(tab, "Replay")
        assert "must be after" in await text(tab)
        assert await tab.page.get_by_label("From").input_value() == "2026-01-02T00:00"
        await tab.page.get_by_label("Until").fill("2026-01-03T00:00:00")
        await press(tab, "Replay")
        await tab.page.wait_for_selector("#jobs >> text=Replay of")
        await tab.page.wait_for_selector("#jobs:not([hx-get])")
        assert (await tab.page.locator("#jobs .badge").all_inner_texts()) == ["done", "done"]
        await tab.page.click(".tabs >> text=Settings")
        await tab.page.fill("[name=displayName]", "Mine")
        await tab.page.click("summary:has-text('Event types')")
        await tab.page.check("[name=events][value=telemetry]")
        await press(tab, "Save")
        assert await tab.page.inner_text("h1") == "Mine: settings"
        assert await tab.page.is_checked("[name=events][value=telemetry]")
        await tab.page.uncheck("[name=events][value=telemetry]")
        await tab.page.fill("[name='httpConfig.headers.key'] >> nth=0", "")
        await tab.page.fill("[name='httpConfig.headers.value'] >> nth=0", "")
        await press(tab, "Save")
        row = await acme.pool.fetchrow("SELECT event_types, headers, secret FROM data_connectors")
        assert row is not None
        assert (row["event_types"], row["headers"]) == ([], b"")
        assert row["secret"]
        await tab.page.click(".tabs >> text=Overview")
        async with tab.page.expect_navigation():
            await tab.page.get_by_role("switch", name="Mine: send events").click()
        assert "Switched off" in await text(tab)
        await tab.check()
        await tab.page.click(".tabs >> text=Settings")
        await confirm(tab, "Delete this data connector", "Mine")
        assert "No data connector yet" in await text(tab)


async def test_a_check_that_the_browser_gives_up_is_no_error(browser: Browser, near: RunningEdge) -> None:
    """Loading is stopped while a check is under way: the console stays empty, and the next check is made."""
    acme = await owner(near, "Acme")
    person_id = await person_of(acme, "project.developer")
    asked: asyncio.Queue[Route] = asyncio.Queue()
    async with browsing.tab(browser, near, person_id) as tab:
        await tab.open(f"/data-connectors/{acme.project_id}/new")
        await tab.page.route("**/check", asked.put)
        await tab.page.fill("[name='httpConfig.url']", "https://10.0.0.1/")
        await tab.page.press("[name='httpConfig.url']", "Tab")
        await asked.get()
        await tab.page.evaluate("window.stop()")
        await tab.page.fill("[name='httpConfig.url']", "https://10.0.0.2/")
        await tab.page.press("[name='httpConfig.url']", "Tab")
        await (await asked.get()).continue_()
        await tab.page.wait_for_selector("#check-httpConfig-url:has-text('10.0.0.2')")


async def test_what_the_system_disabled_says_why_and_what_to_do(
    browser: Browser, edge: RunningEdge, acme: Owner
) -> None:
    """Since when, the last answer, what was dropped, and a replay that begins where it was missed."""
    connector_id, since = ids.new_xid(), datetime.now(UTC) - timedelta(days=5)
    await acme.pool.execute(
        "INSERT INTO data_connectors (id, project_id, status, url, failing_since) VALUES ($1, $2, 'ACTIVE', 'x', $3)",
        connector_id,
        acme.project_id,
        since,
    )
    await acme.pool.execute("UPDATE data_connectors SET status = 'SYSTEM_DISABLED'")
    await acme.pool.execute("UPDATE connector_jobs SET state = 'DONE', events = 1832")
    await acme.pool.execute(
        "INSERT INTO connector_notices (connector_id, at, kind, failing_since) VALUES ($1, now(), $2, $3)",
        connector_id,
        "system_disabled",
        since,
    )
    await acme.pool.execute(
        """INSERT INTO delivery_attempts (connector_id, at, event_id, attempt, status, cause, latency_ms, answer)
           VALUES ($1, now(), 'e', 9, 503, 'status', 12, $2)""",
        connector_id,
        HOSTILE,
    )
    person_id = await person_of(acme, "project.developer")
    async with browsing.tab(browser, edge, person_id, width=browsing.NARROW, dark=True) as tab:
        await tab.open(f"/data-connectors/{acme.project_id}/{connector_id}")
        shown = await text(tab)
        assert "Disabled by the system" in shown
        assert "1\u202f832 events that it owed were dropped" in shown
        assert HOSTILE in shown
        await tab.check()
        await tab.page.click("text=Replay what was missed")
        begins = await tab.page.get_by_label("From").input_value()
        assert begins == since.strftime("%Y-%m-%dT%H:%M:%S")
    reader = await person_of(acme, "project.user", email="reader@example.com")
    async with browsing.tab(browser, edge, reader) as tab:
        for path in ("", "/attempts", "/queue", "/settings"):
            await tab.open(f"/data-connectors/{acme.project_id}/{connector_id}{path}")
            assert await tab.page.locator("main form[method=post]").count() == 0, path


async def test_a_list_of_one_project_is_of_one_that_the_person_sees(
    browser: Browser, edge: RunningEdge, acme: Owner, globex: Owner
) -> None:
    """Another's is not found; filters that are left empty are none."""
    person_id = await person_of(acme, "project.user")
    async with browsing.tab(browser, edge, person_id, expected=("404",)) as tab:
        assert await tab.open(f"/data-connectors?project={acme.project_id}&page=") == 200
        assert await tab.open(f"/data-connectors?project={globex.project_id}") == 404


async def run_previews(importing: Imports) -> None:
    """Do the previews that people asked for."""
    [(run_id, claimed)] = await leases.claim_previews(importing.pool, importing.holder, 10)
    await importing.runs.run(claimed, run_id)
    await leases.release(importing.pool, importing.holder, claimed)


async def test_a_cloud_connector_from_its_making_to_its_end(browser: Browser, importing: Imports) -> None:
    """Link and passcode, a preview, a held list that is kept and then applied, restoring, and deleting by its name."""
    acme, cloud = importing.acme, importing.cloud
    person_id = await person_of(acme, "organization.admin")
    cloud.devices = [{"id": name, "name": f"{HOSTILE[:150]} {name}"} for name in MANY]
    async with browsing.tab(browser, importing.edge, person_id, expected=("422", "409")) as tab:
        await tab.open("/cloud-connectors")
        await tab.page.click("text=New cloud connector >> nth=0")
        await tab.page.click("text=Acme Cloud")
        await tab.page.select_option("[name=space_id]", str(acme.space_id))
        await tab.page.fill("[name='settings.value']", "nowhere")
        await tab.page.fill("[name=name]", "Rooms")
        await press(tab, "Make it")
        assert await tab.page.input_value("[name=name]") == "Rooms"
        assert await tab.page.locator("fieldset .wrong").count() == 1
        await tab.page.fill("[name='settings.value']", cloud.url)
        await press(tab, "Make it")
        shown = await text(tab)
        assert f"{importing.edge.url}/connect/" in shown
        await tab.check()
        await tab.page.click("text=Done")
        assert "It was never authorised" in await text(tab)
        connector_id = tab.page.url.rpartition("/")[2]
        await importing.authorise(connector_id, token=cloud.token)
        await tab.page.reload()
        await press(tab, "Preview")
        await run_previews(importing)
        await tab.page.wait_for_selector("text=What a sync would change")
        assert "Come: 20" in await text(tab)
        await tab.check()
        await importing.sync(connector_id)
        cloud.has(*MANY[:5])
        await importing.sync(connector_id)
        await tab.open(f"/cloud-connectors/{connector_id}")
        shown = await text(tab)
        assert "15 of 20 devices would go" in shown
        assert "room-19" in shown
        await tab.check()
        await press(tab, "Keep the devices")
        assert "You keep these devices" in await text(tab)
        cloud.has(*MANY[:4])
        await importing.sync(connector_id)
        await confirm(tab, "Apply this list")
        assert "Another list is held by now" in await text(tab)
        await confirm(tab, "Apply this list")
        await importing.sync(connector_id)
        await tab.open(f"/cloud-connectors/{connector_id}/devices?state=excluded")
        assert "missing from the vendor's list" in await text(tab)
        device_id = (await importing.devices(connector_id))[MANY[0]]["device_id"]
        await acme.call("DELETE", f"/devices/{device_id}")
        await tab.page.reload()
        await press(tab, f"Restore {(await importing.devices(connector_id))[MANY[0]]['name']}")
        await importing.sync(connector_id)
        assert (await importing.devices(connector_id))[MANY[0]]["state"] == "active"
        await tab.page.click(".tabs >> text=Runs")
        await tab.check()
        await tab.page.click(".tabs >> text=Settings")
        await press(tab, "Disable")
        assert "Somebody stopped it" in await text(tab)
        await press(tab, "Enable")
        await tab.page.click(".tabs >> text=Settings")
        await confirm(tab, "New link and passcode")
        assert "The link before does not work any more" in await text(tab)
        await tab.page.click("text=Done")
        await tab.page.click(".tabs >> text=Settings")
        await confirm(tab, "Delete with its 20 devices", "Rooms")
        assert "No cloud connector yet" in await text(tab)
        assert await acme.pool.fetchval("SELECT count(*) FROM devices WHERE deleted_at IS NULL") == 0
