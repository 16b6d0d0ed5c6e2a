"""What people wait for: the first byte of every page of the portal, with a whole fleet behind it.

A person with every role in the organization opens each page that needs no id, the pages of one device, and the list of
devices with its filters, in turns; each warm. What is held against the limit is the p95 of the slowest page.
"""

import asyncio
import itertools
import random
import time
from datetime import UTC, datetime
from statistics import quantiles
from typing import Any
from uuid import UUID

import aiohttp
from starlette.responses import Response

from bench.results import Report
from bench.rig import REST, Rig, open_shards, until_ready
from gateway.api import session_cookie
from gateway.portal.pages import PAGES
from gateway.stores.accounts import members
from gateway.stores.people import accounts, sessions
from schemas import ids, postgres
from schemas.postgres import Pool

LIMIT_MS = 150
READING_S = 0.25
"""Between two pages: without it the long reads of one organization would wait for each other, as they should."""
FIRMWARE = ("1.0.0", "1.1.0", "2.0.0")
FILTERS = (
    "status=offline", "status=error", "search=", "label=floor=7", "firmware_version=2.0.0", "silent_for=day",
    "columns=state.temperature",
)  # fmt: skip
SEED_S = 900.0
_DEVICES = """
    UPDATE devices SET labels = jsonb_build_object('floor', (('x' || right(id::text, 4))::bit(16)::int % 20)::text),
                       name = 'Device ' || right(id::text, 8),
                       firmware_version = ($1::text[])[1 + ('x' || right(id::text, 4))::bit(16)::int % 3]
"""
_STATES = """
    INSERT INTO device_state (shard, device_id, status, telemetries, state_at, last_seen_at, offline)
    SELECT shard, id, CASE WHEN right(id::text, 2) < '02' THEN 'error' ELSE 'online' END,
           '{"temperature":21.5,"humidity":40}', now(), now() - random() * interval '2 days', right(id::text, 1) = '0'
      FROM devices
"""
_EVENTS = """
    INSERT INTO events (shard, seq, stored_at, type, device_id, project_id, ts, data)
    SELECT d.shard, n, now(), 'telemetry', d.id, d.project_id, now() - n * interval '1 minute',
           '{"telemetry":{"status":"online","telemetries":{"temperature":21.5}}}'
      FROM generate_series(1, $2::integer) n, devices d WHERE d.id = $1
"""


async def run(rig: Rig, report: Report, *, rounds: int) -> None:
    """Every page, `rounds` × 5 times."""
    valkey = rig.valkey("everysec")
    await open_shards(valkey)
    pool = await postgres.create_pool(rig.postgres.dsn(), "bench", 4)
    report.progress(f"{len(rig.device_ids):,} devices get names, labels and states")
    await pool.execute(_DEVICES, FIRMWARE, timeout=SEED_S)
    await pool.execute(_STATES, timeout=SEED_S)
    await pool.execute(_EVENTS, rig.device_ids[0], 1_400, timeout=SEED_S)
    for table in ("devices", "device_state", "events"):
        await pool.execute(f"VACUUM ANALYZE {table}", timeout=SEED_S)
    url, _ = rig.edge(valkey, REST)
    await until_ready(url)
    cookies = {session_cookie.name_of(url): await _signed_in(pool)}
    headers = {"accept": "text/html"}
    waited: dict[str, list[float]] = {}
    async with aiohttp.ClientSession(cookies=cookies, cookie_jar=aiohttp.CookieJar(unsafe=True)) as http:
        http.cookie_jar.update_cookies(cookies)
        addresses = _addresses(rig.device_ids)
        for number, (name, path) in itertools.product(range(-1, 5 * rounds), addresses.items()):
            await asyncio.sleep(READING_S)
            began = time.perf_counter()
            async with http.get(url + path, headers=headers, allow_redirects=False) as answer:
                took_ms = (time.perf_counter() - began) * 1e3
                assert answer.status in (200, 303, 410, 422), f"{path}: {answer.status}"
                await answer.read()
            if number >= 0 and answer.status < 400:  # else a page that must be told more
                waited.setdefault(name, []).append(took_ms)
    slowest = 0.0
    for name, times in sorted(waited.items()):
        p95 = quantiles(times, n=20)[-1]
        slowest = max(slowest, p95)
        mark = "" if p95 <= LIMIT_MS else "  over"
        report.add("portal", name, f"p95 {p95:,.0f} ms{mark}", p95_ms=p95)
    report.ratio("slowest_page_p95_ms", slowest, at_most=LIMIT_MS)
    await pool.close()


def _addresses(device_ids: list[str]) -> dict[str, str]:
    """What is opened: names of pages, and their addresses; no files and no streams."""
    found: dict[str, str] = {}
    device_id = device_ids[0]
    for page in PAGES:
        if (
            page.method == "GET"
            and page.answer is not Response
            and page.path.replace("{device_id}", "").count("{") == 0
        ):
            found[page.path] = page.path.replace("{device_id}", device_id)
    found |= {f"/devices?{one}": f"/devices?{one}" for one in FILTERS}
    some = random.Random(1).choice(device_ids)
    return found | {"/devices?search=(a serial number)": f"/devices?search={some}"}


async def _signed_in(pool: Pool) -> str:
    """What the cookie of a person with every role holds."""
    organization_id: UUID = await pool.fetchval("SELECT id FROM organizations ORDER BY id LIMIT 1")
    async with pool.acquire() as connection:
        person = await accounts.find_or_create(connection, f"bench-{ids.new_id()}@example.com")
        roles: tuple[Any, ...] = ("organization.admin", "partner.admin")
        for role in roles:
            member = await members.add(connection, organization_id, None, role, email=person.email)
            await members.accept(connection, member.membership_id, person.id)
        return await sessions.begin(connection, person.id, datetime.now(UTC), "127.0.0.1", "bench")
