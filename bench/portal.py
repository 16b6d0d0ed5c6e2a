"""What people wait for: the first byte of every page of the portal, with a whole fleet behind it.

A person with every role in the organization opens each page that needs no id, the pages of one device and of its model,
and the list of devices with its filters, in turns; each warm. What is held against the limit is the p95 of the slowest
page. How devices are seen is worked out before by the worker that keeps it.

Then the live pages of two hundred people follow devices that send all the time, round by round, and what the gateway
takes of telemetry meanwhile is compared with what it takes without them.
"""

import asyncio
import contextlib
import itertools
import random
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from statistics import median, quantiles
from typing import Any
from uuid import UUID

import aiohttp
from starlette.responses import Response

from bench import load
from bench.results import Report
from bench.rig import FILL_S, REST, START_S, UNDER_TEST, Rig, open_shards, until_ready, without_indexes
from gateway.api import session_cookie
from gateway.portal.pages import PAGES
from gateway.stores.accounts import members
from gateway.stores.people import accounts, sessions
from schemas import ids, postgres
from schemas.postgres import Pool
from workers.standings import Standings

LIMIT_MS = 150
READING_S = 0.25
"""Between two pages: without it the long reads of one organization would wait for each other, as they should."""
FIRMWARE = ("1.0.0", "1.1.0", "2.0.0")
FILTERS = (
    "status=offline", "status=error", "search=", "label=floor=7", "firmware_version=2.0.0", "silent_for=day",
    "columns=state.temperature", "search=Device", "status=ok&label=floor=7&firmware_version=2.0.0",
    "status=error&search=Device", "label=floor=7&silent_for=hour",
)  # fmt: skip
WATCHING = 200
PEOPLE = 4
"""Who watch: of one person no more than 50 live pages are told."""
BETWEEN = 25_000
"""Messages of others between two of a device that is watched: about those of a second."""
CONNECTIONS = 64
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
_EVENTS_OF_ALL = """
    INSERT INTO events (shard, seq, stored_at, type, device_id, project_id, ts, data)
    SELECT shard, 10000 + row_number() OVER (), now(), 'telemetry', id, project_id, now(),
           '{"telemetry":{"status":"online","telemetries":{"temperature":21.5}}}'
      FROM devices
"""
WARM_S = 10.0
"""After the first look at each page, whose long reads rest for it."""


async def run(rig: Rig, report: Report, *, rounds: int, seconds: float) -> None:
    """Every page, `rounds` × 5 times; then telemetry beside live pages, for so many seconds each time."""
    valkey = rig.valkey("everysec")
    await open_shards(valkey)
    pool = await postgres.create_pool(rig.postgres.dsn(), "bench", 4)
    await _furnish(rig, pool, report)
    url, _ = rig.edge(valkey, REST)
    await until_ready(url)
    cookies = {session_cookie.name_of(url): await _signed_in(pool)}
    headers = {"accept": "text/html"}
    waited: dict[str, list[float]] = {}
    async with aiohttp.ClientSession(cookies=cookies, cookie_jar=aiohttp.CookieJar(unsafe=True)) as http:
        http.cookie_jar.update_cookies(cookies)
        addresses = _addresses(rig)
        first = (0, next(iter(addresses.values())))
        for number, (name, path) in itertools.product(range(-1, 5 * rounds), addresses.items()):
            await asyncio.sleep(WARM_S if (number, path) == first else READING_S)
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
    await _watched(rig, pool, report, rounds=rounds, seconds=seconds)
    await pool.close()


async def _furnish(rig: Rig, pool: Pool, report: Report) -> None:
    """Names, labels, firmware, states and a message for all devices, many of one; then how they are seen.

    What an earlier run left is taken where the rig is kept.
    """
    furnished = rig.folder / "furnished"
    if furnished.exists():
        return
    report.progress(f"{len(rig.device_ids):,} devices get names, labels, states and a message each")
    async with pool.acquire() as connection:
        await connection.execute("SET session_replication_role = replica")  # no trigger follows
        async with without_indexes(connection, "devices"):
            await connection.execute(_DEVICES, FIRMWARE, timeout=FILL_S)
        await connection.execute("RESET session_replication_role")
        await connection.execute(_STATES, timeout=FILL_S)
        await connection.execute(_EVENTS, rig.device_ids[0], 1_400, timeout=FILL_S)
        await connection.execute(_EVENTS_OF_ALL, timeout=FILL_S)
    for table in ("devices", "device_state", "events"):
        await pool.execute(f"VACUUM ANALYZE {table}", timeout=FILL_S)
    await pool.execute("INSERT INTO standings_due DEFAULT VALUES")
    keeping, began = Standings(pool), time.monotonic()
    while await keeping.step():
        pass
    took_s = time.monotonic() - began
    for table in ("device_standings", "device_labels"):
        await pool.execute(f"VACUUM ANALYZE {table}", timeout=FILL_S)
    report.add("portal", "how all devices are seen, worked out anew", f"{took_s:,.0f} s", seconds=took_s)
    furnished.touch()


async def _watched(rig: Rig, pool: Pool, report: Report, *, rounds: int, seconds: float) -> None:
    """Telemetry with nobody and with two hundred live pages, in turns, all of which see something new each second.

    All devices send, so that few come near their limits: calls of those are counted for all edges together.
    """
    valkey = rig.valkey("everysec")
    rig.worker(valkey)
    url, _ = rig.edge(valkey, UNDER_TEST)
    await until_ready(url)
    secrets = [await _signed_in(pool) for _ in range(PEOPLE)]
    watched, others = rig.device_ids[:WATCHING], rig.device_ids[WATCHING:]
    turns = [[*watched, *others[n : n + BETWEEN]] for n in range(0, len(others), BETWEEN)]
    sending = rig.folder / "sending.txt"
    sending.write_text("".join(f"{one} {rig.key(one)}\n" for one in itertools.chain(*turns)))
    rates: dict[int, list[float]] = {0: [], WATCHING: []}
    told = 0
    for _, pages in itertools.product(range(rounds), rates):
        async with _live_pages(url, secrets, rig.device_ids[:pages]) as news:
            outcome = await load.closed(url, sending, connections=CONNECTIONS, seconds=seconds)
            told += news[0]
        assert outcome.accepted == outcome.answered, f"{outcome.statuses}"
        rates[pages].append(outcome.rate)
    alone, beside = (median(found) for found in rates.values())
    shown = f"{beside:,.0f} of {alone:,.0f}/s"
    report.add("portal", f"telemetry beside {WATCHING} live pages", shown, alone=alone, beside=beside, told=told)
    report.ratio("telemetry_beside_live_pages", beside / alone, at_least=0.95)


@contextlib.asynccontextmanager
async def _live_pages(url: str, secrets: list[str], device_ids: list[str]) -> AsyncIterator[list[int]]:
    """Open the live page of each of these devices, people taking turns; how often they are told something new."""
    news = [0]
    begun: asyncio.Queue[str] = asyncio.Queue()

    async def follow(http: aiohttp.ClientSession, device_id: str, secret: str) -> None:
        cookies = {session_cookie.name_of(url): secret}
        async with http.get(f"{url}/devices/{device_id}/live", cookies=cookies) as answer:
            assert answer.status == 200, answer.status
            begun.put_nowait(device_id)
            async for line in answer.content:
                news[0] += line.startswith(b"event: state")

    timeout = aiohttp.ClientTimeout(total=None)
    async with aiohttp.ClientSession(timeout=timeout, connector=aiohttp.TCPConnector(limit=0)) as http:
        following = [
            asyncio.create_task(follow(http, device_id, secret), name="live page")
            for device_id, secret in zip(device_ids, itertools.cycle(secrets), strict=False)
        ]
        for _ in following:
            await asyncio.wait_for(begun.get(), START_S)
        yield news
        for task in following:
            task.cancel()
        found = await asyncio.gather(*following, return_exceptions=True)
    assert all(isinstance(one, asyncio.CancelledError) for one in found), found


def _addresses(rig: Rig) -> dict[str, str]:
    """What is opened: names of pages, and their addresses; no files and no streams."""
    found: dict[str, str] = {}
    for page in PAGES:
        path = page.path.replace("{device_id}", rig.device_ids[0]).replace("{model_id}", str(rig.model_id))
        if page.method == "GET" and page.answer is not Response and "{" not in path:
            found[page.path] = path
    found |= {f"/devices?{one}": f"/devices?{one}" for one in FILTERS}
    some = random.Random(1).choice(rig.device_ids)
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
