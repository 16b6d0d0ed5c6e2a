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
from gateway.organization import devices, incidents
from gateway.stores.devices import fleet, fleet_filters, project_view
from gateway.stores.events import examining
from gateway.stores.tenants import space_tree
from schemas.events import EventType
from schemas.postgres_errors import TranslatingConnection
from schemas.redis import Redis

MANY = 2_000
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
    monkeypatch.setattr(space_tree, "EXAMINED_MAX", EXAMINED)
    monkeypatch.setattr(fleet, "WALKED_MAX", EXAMINED)
    monkeypatch.setattr(fleet_filters, "FEW", EXAMINED)
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
    """The rows that the scans of a plan looked at, by table; what the driver asks of types it asks once."""
    found: Counter[str] = Counter()
    for node in _nodes(plan["Plan"]):
        if not node.get("Relation Name", "pg_").startswith("pg_"):
            rows = sum(node.get(key, 0) for key in ROWS)
            found[node["Relation Name"]] += int(rows * node["Actual Loops"])
    return found


async def fill(tenant: Owner) -> None:
    """Very many of all that grows, of a tenant; of files as many as there may be."""
    device_id = await tenant.device()
    for statement in FILLING:
        count = 2 if "$2" in statement else statement.count("$1")
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
    """INSERT INTO audit_log (id, at, organization_id, actor, action, target, address)
       SELECT gen_random_uuid(), now() - make_interval(secs => n), d.organization_id, 'command:root', 'rename', '/', ''
         FROM devices d, generate_series(1, $2::int) n WHERE d.id = $1""",
    "INSERT INTO device_state (shard, device_id, last_seen_at) SELECT shard, id, now() FROM devices",
    """INSERT INTO notes (id, organization_id, device_id, content, author, created_at)
       SELECT gen_random_uuid(), d.organization_id, d.id, 'N', 'key', now()
         FROM devices d, generate_series(1, $2::int) n WHERE d.id = $1""",
    """INSERT INTO tickets (id, organization_id, vendor_id, device_id, title, created_at)
       SELECT gen_random_uuid(), d.organization_id, m.organization_id, d.id, 'T', now()
         FROM devices d JOIN device_models m ON m.id = d.model_id, generate_series(1, $2::int) n WHERE d.id = $1""",
    """INSERT INTO dumps (id, device_id, organization_id, file_name, media_type, size)
       SELECT gen_random_uuid(), id, organization_id, 'core', 'text/plain', 1
         FROM devices, generate_series(1, $2::int) n WHERE id = $1""",
    """INSERT INTO files (id, organization_id, for_model_id, name, file_type, version)
       SELECT gen_random_uuid(), m.organization_id, m.id, 'F' || n, 'firmware', '1.0.' || n
         FROM devices d JOIN device_models m ON m.id = d.model_id, generate_series(1, least($2::int, 1000)) n
        WHERE d.id = $1""",
    """INSERT INTO rollouts (id, organization_id, as_vendor, name, file_id, model_id, channel, dynamic, created_by,
                             created_at, settled_at)
       SELECT gen_random_uuid(), f.organization_id, n % 2 = 0, 'R', f.id, f.for_model_id, 'command', false, 'key',
              now(), now()
         FROM (SELECT files.* FROM files JOIN devices ON devices.id = $1 LIMIT 1) f, generate_series(1, $2::int) n""",
    """INSERT INTO rollout_devices (rollout_id, device_id, position, wave, state)
       SELECT r.id, d.id, 1, 1, 'waiting'
         FROM (SELECT DISTINCT ON (as_vendor) id FROM rollouts ORDER BY as_vendor, id) r, devices d""",
    """INSERT INTO cloud_connectors (id, organization_id, project_id, space_id, provider, name)
       SELECT 'cccccccccccccccccccc', d.organization_id, d.project_id, d.space_id, 'simulated', 'C'
         FROM devices d WHERE d.id = $1""",
    """INSERT INTO cloud_devices (connector_id, vendor_id, device_id, name)
       SELECT 'cccccccccccccccccccc', id::text, id, 'D' FROM devices""",
    """INSERT INTO cloud_runs (connector_id, kind)
       SELECT 'cccccccccccccccccccc', 'inventory' FROM devices, generate_series(1, $2::int) WHERE devices.id = $1""",
)


SEARCHES = {
    "/core/v1/organization/devices/histories": {"space_id"},
    "/core/v1/organization/devices": set(devices.SEARCHED),
    "/core/v1/organization/configs": set(devices.SEARCHED),
    "/core/v1/organization/incidents": set(incidents.SEARCHED),
    "/core/v1/partner/incidents": set(incidents.SEARCHED),
    "/core/v1/organization/connectors": {""},
    "/core/v1/organization/connectors/{connector_id}/devices": {"state"},
    "/core/v1/organization/rollouts": {"status", "file_id"},
    "/core/v1/organization/rollouts/{rollout_id}/devices": {"state", "wave"},
    "/core/v1/partner/rollouts": {"status", "file_id"},
    "/core/v1/partner/rollouts/{rollout_id}/devices": {"state", "wave"},
    "/v2/projects": {"", "organization", "query"},
    "/v2/projects/{project}/devices": {"order_by"},
}
"""Lists that take a look at all spaces, or devices, of the caller's: bounded by the turns of long reads, and by no
number of rows."""
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
        elif name in ("created_after", "created_before", "since", "until"):
            chosen = ["2000-01-01T00:00:00Z", "2100-01-01T00:00:00Z"]
        elif name == "mac":
            chosen = ["02:00:00:00:00:99"]
        elif name == "label_filters":
            chosen = ["a=b", "a"]
        elif name == "wave":
            chosen = ["1", "2"]
        elif name not in UNLIKE_TEXT and not chosen:
            chosen = list(WORDS)
        yield from ({name: str(value)} for value in chosen)


UNLIKE_TEXT = {"page", "per_page", "page_size", "page_token", "from", "to", "start_time", "end_time", "priority"}
UNLIKE_TEXT |= {"seen_since", "seen_before"}


async def test_no_list_reads_more_than_it_shows_or_may_look_at(
    edge: RunningEdge, acme: Owner, plans: list[Any]
) -> None:
    """Each of every API, unnarrowed and by each filter, where all of large tables belongs to the caller."""
    await fill(acme)
    await acme.settled()
    await acme.pool.execute("ANALYZE device_standings")
    account = await account_of(acme, "organization.admin")
    device_id, project_id = str(acme.devices[0]), str(acme.project_id)
    places = {
        "device_id": device_id,
        "device": device_id,
        "project": project_id,
        "project_id": project_id,
        "space_id": str(acme.space_id),
        "parent_id": str(acme.space_id),
        "model_id": str(acme.model_id),
        "organization": str(acme.organization_id),
        "connector_id": "c" * 20,
        "account": account.id,
    }
    of = "SELECT as_vendor, id FROM rollouts WHERE id IN (SELECT rollout_id FROM rollout_devices)"
    rollouts = {row["as_vendor"]: str(row["id"]) for row in await acme.pool.fetch(of)}
    keys = {"/core/v1/organization": acme.key, "/core/v1/partner": acme.partner_key}
    asked: Counter[str] = Counter()
    beyond: list[tuple[str, dict[str, str], Counter[str]]] = []
    for endpoint in ENDPOINTS:
        if not _is_list(endpoint):
            continue
        places["rollout_id"] = rollouts["/partner/" in endpoint.path]
        path = endpoint.path.format(**places)
        key = keys.get("/".join(path.split("/")[:4]), account.basic)
        for query in queries(endpoint, places):
            plans.clear()
            async with acme.http.get(acme.url + path, params=query, headers={"authorization": key}) as answer:
                status, shown = answer.status, await answer.text()
            assert status == 200 or endpoint.path in REFUSED, (path, query, shown)
            looked = sum((read(plan) for plan in plans), Counter())
            searched = next(iter(query), "") in SEARCHES.get(endpoint.path, ())
            if looked.total() > ROWS_MAX and not searched:
                beyond.append((path, query, looked))
            asked[endpoint.path] += 1
    assert not beyond, "\n".join(f"{p} {q} {dict(found)}" for p, q, found in beyond)
    assert len(asked) > 30
    assert asked.keys() >= SEARCHES.keys()


REFUSED = {"/v2/projects/-/members"}
"""Lists that are refused to whoever names no organization, or no other filter beside it."""


def _is_list(endpoint: Endpoint) -> bool:
    if endpoint.method != "GET" or endpoint.query is None or endpoint.caller is None:
        return False
    return bool({field.encode_name for field in msgspec.structs.fields(endpoint.query)} & {"per_page", "page_size"})


@pytest.mark.parametrize("path", SEARCHES)
def test_what_takes_a_look_at_everything_is_a_long_read(path: str) -> None:
    """So it takes turns with others of its organization, and rests."""
    [endpoint] = [one for one in ENDPOINTS if (one.method, one.path) == ("GET", path)]
    for name in SEARCHES[path]:
        value: Any = UUID(int=1) if name.endswith("_id") else 1 if name == "wave" else "reported.touch.updateTime"
        assert endpoint.query(**({name: value} if name else {})).is_long(), name
