"""A page of a list costs what it shows, whatever it is narrowed by: no list of any API reads a table that is large."""

import typing
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from typing import Any
from uuid import UUID

import asyncpg
import msgspec
import pytest
from edges import RunningEdge, open_shards, running_edge
from owners import Owner
from projects import account_of

from gateway.api.endpoint import Endpoint
from gateway.app import ENDPOINTS
from gateway.organization.incidents import SEARCHED
from gateway.stores.devices import project_view
from gateway.stores.events import examining
from gateway.stores.tenants import spaces
from schemas.events import EventType
from schemas.postgres_errors import TranslatingConnection
from schemas.redis import Redis

MANY = 4_000
"""Rows of everything that grows."""
EXAMINED, ROWS_MAX = 200, 1_200
ROWS = ("Actual Rows", "Rows Removed by Filter", "Rows Removed by Index Recheck")
"""Events that a page may look at here, and rows that all scans of its statements may read."""
PLANS = """
    ALTER DATABASE {name} SET session_preload_libraries = 'auto_explain';
    ALTER DATABASE {name} SET auto_explain.log_min_duration = 0;
    ALTER DATABASE {name} SET auto_explain.log_analyze = on;
    ALTER DATABASE {name} SET auto_explain.log_timing = off;
    ALTER DATABASE {name} SET auto_explain.log_format = 'json';
    ALTER DATABASE {name} SET seq_page_cost = 100;
    ALTER DATABASE {name} SET client_min_messages = 'log'"""
"""Plans are told as they were executed, and made as for tables too large to be read whole."""


@pytest.fixture
def plans(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The plans of all statements, as they were executed."""
    found: list[Any] = []

    def take(_: Any, fields: dict[str, str], __: Any) -> None:
        _, is_plan, text = fields.get("M", "").partition("plan:\n")
        if is_plan:
            found.append(msgspec.json.decode(text))

    monkeypatch.setattr(TranslatingConnection, "_process_log_message", take)
    monkeypatch.setattr(examining, "EXAMINED_MAX", EXAMINED)
    monkeypatch.setattr(project_view, "EXAMINED_MAX", EXAMINED)
    monkeypatch.setattr(spaces, "EXAMINED_MAX", EXAMINED)
    return found


@pytest.fixture
async def edge(dsn: str, redis_url: str, redis_client: Redis) -> AsyncIterator[RunningEdge]:
    """An edge on a database that tells how it executes what it is asked for."""
    admin = await asyncpg.connect(dsn)
    name = await admin.fetchval("SELECT current_database()")
    await admin.execute(PLANS.format(name=name))
    await admin.close()
    await open_shards(redis_client)
    async with running_edge(dsn, redis_url) as running:
        yield running


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", []):
        yield from _nodes(child)


def read(plan: dict[str, Any]) -> Counter[str]:
    """The rows that the scans of a plan looked at, by table."""
    found: Counter[str] = Counter()
    for node in _nodes(plan["Plan"]):
        if "Relation Name" in node:
            rows = sum(node.get(key, 0) for key in ROWS)
            found[node["Relation Name"]] += int(rows * node["Actual Loops"])
    return found


async def fill(tenant: Owner) -> None:
    """Very many devices, events, commands, spaces, incidents, licences of a tenant."""
    device_id = await tenant.device()
    for statement in FILLING:
        count = statement.count("$")
        await tenant.pool.execute(statement, *(device_id, MANY)[:count])
    await tenant.pool.execute("ANALYZE")


FILLING = (
    """INSERT INTO spaces (id, project_id, parent_id, name, full_path)
       SELECT gen_random_uuid(), d.project_id, d.space_id, 'S' || n, 'Hall/S' || n
         FROM devices d, generate_series(1, $2::int) n WHERE d.id = $1""",
    """INSERT INTO devices (id, shard, model_id, sn, mac, firmware_version, organization_id, project_id, space_id,
                            claimed_at, space_data_version, name)
       SELECT gen_random_uuid(), n % 4, d.model_id, 'N' || n, NULL, '1.0.0', d.organization_id, d.project_id,
              d.space_id, now(), 1, 'D' || n % 2
         FROM devices d, generate_series(1, $2::int) n WHERE d.id = $1""",
    """INSERT INTO events (shard, seq, stored_at, type, device_id, project_id, ts, data)
       SELECT d.shard, n, now(), CASE n % 2 WHEN 0 THEN 'telemetry' ELSE 'touch' END, d.id, d.project_id,
              now() - make_interval(secs => n), '{"telemetry":{"telemetries":{}}}'
         FROM devices d, generate_series(1, $2::int) n WHERE d.id = $1""",
    """INSERT INTO commands (id, device_id, name, friendly_name, status, timeout_s, expires_at, finished_at)
       SELECT gen_random_uuid(), $1, 'reboot', 'Restart', 'done', 60, now(), now()
         FROM generate_series(1, $2::int) n""",
    """INSERT INTO incidents (id, device_id, issue, title, opened_at, closed_at)
       SELECT gen_random_uuid(), $1, n::text, 'T', now() - make_interval(secs => n), now()
         FROM generate_series(1, $2::int) n""",
    """INSERT INTO device_reported (shard, device_id, type, ts, seq, stored_at, data)
       SELECT shard, id, 'touch', now(), 1, now(), '{"touch":{}}' FROM devices""",
    """INSERT INTO license_keys (id, organization_id, algorithm, private, public)
       SELECT 'k', m.organization_id, 'rsa', '', '' FROM devices d JOIN device_models m ON m.id = d.model_id
        WHERE d.id = $1""",
    """INSERT INTO licenses (id, model_id, device_id, data, signature, key_id, state, created_at, updated_at)
       SELECT gen_random_uuid(), d.model_id, d.id, '', '', 'k', 'inuse', now(), now()
         FROM devices d, generate_series(1, $2::int) n WHERE d.id = $1""",
    """INSERT INTO device_audit (device_id, organization_id, at, actor, actor_id, action)
       SELECT id, organization_id, now(), 'owner', 'key', 'key_rotated' FROM devices, generate_series(1, $2::int)
        WHERE id = $1""",
    "INSERT INTO device_state (shard, device_id, last_seen_at) SELECT shard, id, now() FROM devices",
)


SEARCHES = {
    "/core/v1/organization/devices/histories": {"space_id"},
    "/core/v1/organization/devices": {"space_id"},
    "/core/v1/organization/incidents": set(SEARCHED),
    "/core/v1/partner/incidents": set(SEARCHED),
    "/v2/projects": {"", "organization", "query"},
    "/v2/projects/{project}/devices": {"order_by"},
}
"""Lists that take a look at all spaces, or devices, of the caller's: bounded by the turns of long reads, and by no
number of rows."""
NOT_FILLED = {"connector_id", "rollout_id", "account"}
"""What stands in the paths of lists that are short, or tried elsewhere."""
WORDS = ("nothing", "D1")


def queries(endpoint: Endpoint, places: dict[str, str]) -> Iterator[dict[str, str]]:
    """A list unnarrowed, and narrowed by each of its filters so that much of it fits, or nothing does."""
    yield {}
    for field in msgspec.structs.fields(endpoint.query):
        name, kinds = field.encode_name, [field.type, *typing.get_args(field.type)]
        chosen = [
            value for kind in kinds if typing.get_origin(kind) is typing.Literal for value in typing.get_args(kind)
        ]
        if name == "order_by":
            chosen = ["-name", "type", "labels.a", "reported.touch.updateTime"]
        elif EventType in kinds:
            chosen = ["touch", "contact"]
        elif name == "organization":
            chosen = [f"organizations/{places[name]}"]
        elif UUID in kinds:
            chosen = [places.get(name, str(UUID(int=1)))]
        elif name == "mac":
            chosen = ["02:00:00:00:00:99"]
        elif name == "label_filters":
            chosen = ["a=b", "a"]
        elif name not in UNLIKE_TEXT and not chosen:
            chosen = list(WORDS)
        yield from ({name: str(value)} for value in chosen)


UNLIKE_TEXT = {"page", "per_page", "page_size", "page_token", "from", "to", "start_time", "end_time", "priority"}


async def test_no_list_reads_more_than_it_shows_or_may_look_at(
    edge: RunningEdge, acme: Owner, plans: list[Any]
) -> None:
    """Each of every API, unnarrowed and by each filter, where all of large tables belongs to the caller."""
    await fill(acme)
    account = await account_of(acme, "organization.admin")
    device_id, project_id = str(acme.devices[0]), str(acme.project_id)
    places = {
        "device_id": device_id,
        "device": device_id,
        "project": project_id,
        "project_id": project_id,
        "space_id": str(acme.space_id),
        "model_id": str(acme.model_id),
        "organization": str(acme.organization_id),
    }
    keys = {"/core/v1/organization": acme.key, "/core/v1/partner": acme.partner_key}
    asked: Counter[str] = Counter()
    for endpoint in ENDPOINTS:
        names = {part.partition("}")[0] for part in endpoint.path.split("{")[1:]}
        if not _is_list(endpoint) or names & NOT_FILLED:
            continue
        path = endpoint.path.format(**places)
        key = keys.get("/".join(path.split("/")[:4]), account.basic)
        for query in queries(endpoint, places):
            plans.clear()
            async with acme.http.get(acme.url + path, params=query, headers={"authorization": key}) as answer:
                status, shown = answer.status, await answer.text()
            assert status == 200 or endpoint.path in REFUSED, (path, query, shown)
            looked = sum((read(plan) for plan in plans), Counter())
            searched = next(iter(query), "") in SEARCHES.get(endpoint.path, ())
            assert (looked.total() > ROWS_MAX) <= searched, (path, query, looked)
            asked[endpoint.path] += 1
    assert len(asked) > 30
    assert asked.keys() >= SEARCHES.keys()


REFUSED = {"/v2/projects/-/members", "/core/v1/partner/devices/histories"}
"""Lists that are refused to whoever names no organization, no other filter beside it, or none of very many devices."""


def _is_list(endpoint: Endpoint) -> bool:
    if endpoint.method != "GET" or endpoint.query is None or endpoint.caller is None:
        return False
    return bool({field.encode_name for field in msgspec.structs.fields(endpoint.query)} & {"per_page", "page_size"})


@pytest.mark.parametrize("path", SEARCHES)
def test_what_takes_a_look_at_everything_is_a_long_read(path: str) -> None:
    """So it takes turns with others of its organization, and rests."""
    [endpoint] = [one for one in ENDPOINTS if (one.method, one.path) == ("GET", path)]
    for name in SEARCHES[path]:
        value: Any = UUID(int=1) if name.endswith("_id") else "reported.touch.updateTime"
        assert endpoint.query(**({name: value} if name else {})).is_long(), name
