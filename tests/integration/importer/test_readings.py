"""Telemetry of imported devices: its trouble is its own, and what was told once is not told again."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from aiohttp import web
from edges import open_shards
from flushing import store_all
from imports import Imports
from vendors import manifest

from schemas import keys
from schemas.redis import Redis
from tests.conftest import SHARDS
from workers.importer import leases

ONE_BY_ONE = '[telemetry]\n[telemetry.list]\npath = "/devices/{id}"\nitems = "[@]"\n[telemetry.values]\n'


def _write(imports: Imports, telemetry: str) -> None:
    text = manifest()
    (imports.cloud.folder / "acme.toml").write_text(text[: text.index("[telemetry]")] + telemetry)


async def _poll(imports: Imports, connector: str) -> dict[str, Any]:
    """One run for telemetry."""
    await imports.pool.execute(
        """UPDATE cloud_connectors SET inventory_at = NULL, telemetry_at = now(), lease_until = NULL WHERE id = $1""",
        connector,
    )
    [claimed] = [c for c in await leases.claim(imports.pool, imports.holder, 100) if c.id == connector]
    await imports.runs.run(claimed)
    await leases.release(imports.pool, imports.holder, claimed)
    return await imports.last_run(connector)


async def _ready(imports: Imports) -> str:
    connector = await imports.connector()
    assert (await imports.sync(connector))["error"] is None
    return connector


# Its own trouble --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [400, 403, 404, 422, 500])
async def test_the_telemetry_of_one_device_that_is_refused_stops_nothing(imports: Imports, status: int) -> None:
    """The others' is stored, the connector stays Active, lists are compared; the trouble is shown apart."""
    _write(imports, ONE_BY_ONE + 'temperature = "temperature"\n')
    imports.cloud.has("one", "two", "three", temperature=20)

    def before(request: web.Request, _: int) -> web.Response | None:
        if request.path == "/devices/two":
            return web.json_response({"error": "no"}, status=status)
        return web.json_response({"temperature": 20}) if request.path.startswith("/devices/") else None

    imports.cloud.before = before
    connector = await _ready(imports)
    run = await _poll(imports, connector)
    assert (run["error"], run["found"], run["details"]["failed"]) == (None, 2, 1)
    shown = await imports.shown(connector)
    assert (shown["status"], shown["error"]) == ("Active", None)
    assert "1 of 3 devices tell no telemetry" in shown["telemetry_error"]
    assert (await imports.sync(connector))["error"] is None
    imports.cloud.before = lambda request, _: (
        web.json_response({"temperature": 21}) if request.path.startswith("/devices/") else None
    )
    assert (await _poll(imports, connector))["found"] == 3
    assert (await imports.shown(connector))["telemetry_error"] is None


@pytest.mark.parametrize(
    "answer",
    [
        {"status": 401},
        {"status": 403},
        {"status": 500},
        {"status": 429, "headers": {"Retry-After": "3600"}},
        {"text": "<p>", "content_type": "text/html"},
    ],
)
@pytest.mark.parametrize("telemetry", [ONE_BY_ONE, '[telemetry.list]\npath = "/values"\nitems = "values"\n'])
async def test_telemetry_that_fails_altogether_is_no_error_of_the_connector(
    imports: Imports, answer: dict[str, Any], telemetry: str
) -> None:
    """However often; the list of devices is read as before."""
    _write(imports, telemetry if telemetry == ONE_BY_ONE else "[telemetry]\n" + telemetry)
    imports.cloud.has("one", "two")
    imports.cloud.before = lambda request, _: None if request.path == "/devices" else web.Response(**answer)
    connector = await _ready(imports)
    waits = []
    for _ in range(6):
        await imports.pool.execute("UPDATE cloud_connectors SET rest_until = NULL")
        run = await _poll(imports, connector)
        assert run["error"] is not None
        at = await imports.pool.fetchval("SELECT telemetry_at FROM cloud_connectors")
        waits.append(at - imports.clock())
    assert waits[5] > waits[0] or answer["status"] == 429
    assert max(waits) < timedelta(hours=1.3)
    shown = await imports.shown(connector)
    assert (shown["status"], shown["error"]) == ("Active", None)
    assert shown["telemetry_error"] == run["error"]
    imports.cloud.has("one", "two", "three")
    await imports.pool.execute("UPDATE cloud_connectors SET rest_until = NULL")
    assert (await imports.sync(connector))["created"] == 1


async def test_telemetry_makes_no_stream(imports: Imports, redis_client: Redis) -> None:
    """A shard that lost its stream is rebuilt by its owner; one that a vendor's values made would pass for whole."""
    imports.cloud.has("one", temperature=20)
    connector = await _ready(imports)
    streams = [keys.ingest(shard) for shard in range(SHARDS)]
    await redis_client.delete(*streams)
    assert (await _poll(imports, connector))["error"] == "The message log is not ready for telemetry"
    assert await redis_client.exists(*streams) == 0
    await open_shards(redis_client)
    await imports.pool.execute("UPDATE cloud_connectors SET rest_until = NULL")
    assert (await _poll(imports, connector))["found"] == 1


# What was told once -----------------------------------------------------------------------------------------


async def _stored(imports: Imports, redis_client: Redis) -> tuple[int, Any]:
    """How many telemetry events there are, and when the device was last seen."""
    await store_all(imports.edge, redis_client)
    count = await imports.pool.fetchval("SELECT count(*) FROM events WHERE type = 'telemetry'")
    return count, await imports.pool.fetchval("SELECT max(last_seen_at) FROM device_state")


async def test_an_unchanged_reading_makes_no_row_and_is_no_sign_of_life(imports: Imports, redis_client: Redis) -> None:
    """Polled three times, stored once; another value is stored again."""
    _write(imports, '[telemetry]\n[telemetry.values]\ntemperature = "temperature"\n')
    imports.cloud.has("one", temperature=20)
    connector = await _ready(imports)
    assert (await _poll(imports, connector))["found"] == 1
    first = await _stored(imports, redis_client)
    for _ in range(2):
        imports.clock.move(hours=1)
        assert (await _poll(imports, connector))["found"] == 0
    assert await _stored(imports, redis_client) == first
    imports.cloud.has("one", temperature=21)
    assert (await _poll(imports, connector))["found"] == 1
    assert (await _stored(imports, redis_client))[0] == first[0] + 1


TIMES = [
    datetime(2026, 11, 26, 3, 10, tzinfo=UTC),
    datetime(2026, 11, 26, 3, 20, tzinfo=UTC),
]


@pytest.mark.parametrize(
    "written",
    [
        lambda at: at.isoformat(),
        lambda at: at.strftime("%Y-%m-%dT%H:%MZ"),
        lambda at: at.timestamp(),
        lambda at: int(at.timestamp()),
        lambda at: int(at.timestamp() * 1000),
        lambda at: str(int(at.timestamp())),
        lambda at: at.strftime("%Y-%m-%d %H:%M:%S"),
    ],
)
async def test_a_reading_has_the_time_that_the_vendor_says(imports: Imports, redis_client: Redis, written: Any) -> None:
    """In any form; the same value taken later is a new reading."""
    _write(imports, '[telemetry]\ntime = "at"\nonline = "online"\n[telemetry.values]\ntemperature = "temperature"\n')
    connector = None
    for at in (TIMES[0], TIMES[0], TIMES[1]):
        imports.cloud.has("one", temperature=20, at=written(at), online=True)
        connector = connector or await _ready(imports)
        await _poll(imports, connector)
    await store_all(imports.edge, redis_client)
    rows = await imports.pool.fetch("SELECT ts FROM events WHERE type = 'telemetry' ORDER BY seq")
    assert [row["ts"] for row in rows if row["ts"] in TIMES] == TIMES


@pytest.mark.parametrize("at", ["yesterday", True, [1], {}, "", 1e300, -1e300, "9" * 400, "2026-99-99"])
async def test_a_time_that_is_none_counts_for_nothing(imports: Imports, at: Any) -> None:
    """The reading is one of now."""
    _write(imports, '[telemetry]\ntime = "at"\n[telemetry.values]\ntemperature = "temperature"\n')
    imports.cloud.has("one", temperature=20, at=at)
    assert (await _poll(imports, await _ready(imports)))["found"] == 1


async def test_a_vendor_that_says_online_gives_a_sign_of_life_once_in_a_while(
    imports: Imports, redis_client: Redis
) -> None:
    """Often enough that a device whose values do not change is not taken for silent; offline gives none."""
    _write(imports, '[telemetry]\nonline = "online"\n[telemetry.values]\ntemperature = "temperature"\n')
    imports.cloud.has("one", temperature=20, online=True)
    connector = await _ready(imports)
    counts = []
    for _ in range(5):
        counts.append((await _poll(imports, connector))["found"])
        imports.clock.move(minutes=6)
    assert counts == [1, 0, 0, 1, 0]
    imports.cloud.has("one", temperature=20, online=False)
    counts = []
    for _ in range(5):
        counts.append((await _poll(imports, connector))["found"])
        imports.clock.move(minutes=6)
    assert counts == [1, 0, 0, 0, 0]


@pytest.mark.parametrize(
    "value", ['"\\ud83d"', '"\\u0000"', "1e400", "9" * 30, "9" * 400, f'"{"x" * 1001}"', "[1]", "{}"]
)
async def test_a_value_that_no_device_could_send_costs_nothing_else(imports: Imports, value: str) -> None:
    """Half a character, a number beyond all bounds, too long a text: the device's other values are stored."""
    _write(imports, '[telemetry]\n[telemetry.values]\na = "a"\nb = "b"\n')
    rows = f'{{"id": "1", "name": "X", "a": {value}, "b": 1}}'
    imports.cloud.before = lambda request, _: web.Response(
        text=f'{{"devices": [{rows if request.query["page"] == "1" else ""}]}}', content_type="application/json"
    )
    run = await _poll(imports, await _ready(imports))
    assert (run["error"], run["found"]) == (None, 1)


async def test_texts_of_vendors_are_stored_without_what_no_text_may_hold(imports: Imports, redis_client: Redis) -> None:
    """U+0000 goes, as it goes from names; the rest of the text stays."""
    _write(imports, '[telemetry]\n[telemetry.values]\na = "a"\n')
    imports.cloud.before = lambda request, _: web.Response(
        text='{"devices": [%s]}'
        % (r'{"id": "1", "name": "X", "a": "b\u0000c"}' if request.query["page"] == "1" else ""),
        content_type="application/json",
    )
    assert (await _poll(imports, await _ready(imports)))["found"] == 1
    assert (await _stored(imports, redis_client))[0] == 1
    assert '"a":"bc"' in await imports.pool.fetchval("SELECT data::text FROM events WHERE type = 'telemetry'")
