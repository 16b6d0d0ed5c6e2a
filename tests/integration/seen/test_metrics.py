"""What a scrape tells, who may read it, and what the logs keep to themselves."""

import logging
from typing import Any

import pytest
from edges import METRICS_TOKEN
from flushing import flusher_of
from owners import NOW, Owner
from prometheus_client.parser import text_string_to_metric_families

from gateway.cli.local.embedded import EmbeddedValkey
from schemas.logs import _Formatter
from schemas.redis import Redis
from tests.conftest import SHARDS


async def scrape(edge: Any) -> dict[tuple[str, ...], float]:
    """Samples by name and label values."""
    headers = {"authorization": f"Bearer {METRICS_TOKEN}"}
    async with edge.http.get(f"{edge.url}/metrics", headers=headers) as response:
        assert response.status == 200
        text = await response.text()
    families = text_string_to_metric_families(text)
    return {(s.name, *s.labels.values()): s.value for family in families for s in family.samples}


async def test_open_incidents_are_counted_by_who_opened_them(edge: Any, acme: Owner) -> None:
    """Those that are closed are not."""
    device_id = await acme.device()
    for number, kind in enumerate(("device", "device", "rule")):
        await acme.incident(device_id, 3, f"issue {number}", kind=kind)
    await acme.incident(device_id, 3, "over", kind="user", closed_at=NOW)
    found = await scrape(edge)
    assert {key[1]: value for key, value in found.items() if key[0] == "fleetgate_incidents_open"} == {
        "device": 2, "rule": 1,
    }  # fmt: skip


async def test_the_ledger_adds_up_from_the_edge_to_postgres(edge: Any, acme: Owner, redis_client: Redis) -> None:
    """received = accepted + refused at the edge; accepted = stored + rejected + what still waits."""
    kept, deleted = await acme.device(), await acme.device()
    edge_metrics = edge.services.metrics

    async def send(device_id: Any, body: bytes, key: str | None = None) -> int:
        headers = {"authorization": key or edge.services.access_keys.issue(str(device_id), 0)}
        url = f"{edge.url}/v1/devices/{device_id}/telemetry"
        async with edge.http.post(url, data=body, headers=headers) as response:
            return int(response.status)

    statuses = [await send(kept, b'{"status":"online"}') for _ in range(3)]
    statuses += [await send(deleted, b'{"status":"online"}')]
    statuses += [
        await send(kept, b'{"status":"online"}', "0" * 32),
        await send(kept, b"{"),
        await send(kept, b" " * 140_000),
    ]
    assert statuses == [201, 201, 201, 201, 401, 400, 413]
    await acme.pool.execute("UPDATE devices SET deleted_at = now() WHERE id = $1", deleted)
    accepted = edge_metrics.accepted._value.get()
    refused = sum(child._value.get() for child in edge_metrics.refused._metrics.values())
    assert edge_metrics.received._value.get() == accepted + refused == 7
    waiting = await scrape(edge)
    assert sum(value for (name, *_), value in waiting.items() if name == "fleetgate_backlog_entries") >= 1
    assert max(value for (name, *_), value in waiting.items() if name == "fleetgate_backlog_age_seconds") > 0
    flusher = flusher_of(edge, redis_client)
    for shard in range(SHARDS):
        await flusher.open(shard)
    while await flusher.flush():
        pass
    found = await scrape(edge)
    ledger = {labels[0]: value for (name, *labels), value in found.items() if name == "fleetgate_ledger_messages_total"}
    assert ledger == {"stored": 3, "rejected_deleted": 1}
    assert sum(ledger.values()) == accepted
    assert found["fleetgate_redis_up",] == found["fleetgate_postgres_up",] == 1


async def test_a_store_that_is_away_costs_its_gauges_only(edge: Any, valkey_server: EmbeddedValkey) -> None:
    """The scrape says so, and still has the rest."""
    valkey_server.stop()
    try:
        found = await scrape(edge)
    finally:
        valkey_server.start()
    assert (found["fleetgate_redis_up",], found["fleetgate_postgres_up",]) == (0, 1)
    assert ("fleetgate_outbox_events",) in found
    assert found[("fleetgate_cloud_connectors_held",)] == 0


async def test_requests_are_counted_by_route_not_by_path(edge: Any, acme: Owner) -> None:
    """A million devices, or a scanner, make no million series."""
    device_id = await acme.device()
    await acme.call("GET", f"/devices/{device_id}")
    async with edge.http.get(f"{edge.url}/no/such/path") as response:
        assert (response.status, await response.json()) == (404, {"error": "Not found"})
    labels = set(edge.services.metrics.requests._metrics)
    assert ("GET", "/core/v1/organization/devices/{device_id}", "200") in labels
    assert not any("such" in route for _, route, _ in labels)


async def test_no_secret_reaches_the_logs(
    edge: Any, acme: Owner, valkey_server: EmbeddedValkey, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither of a good call nor of a bad one, nor while a store is away, at the most talkative level."""
    caplog.set_level(logging.DEBUG)
    device_id = await acme.device()
    key = edge.services.access_keys.issue(str(device_id), 0)
    secrets = [key, acme.key, acme.partner_key, edge.services.settings.master_key]
    await acme.call("GET", "/devices")
    await acme.call("GET", "/devices", key=acme.key[:-1])
    await acme.partner("GET", "/devices")
    for headers in ({"authorization": key}, {"authorization": f"Basic {key}"}):
        async with edge.http.get(f"{edge.url}/v1/devices/{device_id}/config", headers=headers):
            pass
    valkey_server.stop()
    try:
        status, _ = await acme.ask("POST", f"/core/v1/organization/devices/{device_id}/commands", {"command": "reboot"})
        async with edge.http.get(
            f"{edge.url}/v1/devices/{device_id}/command", headers={"authorization": key}
        ) as answer:
            assert (status, answer.status) == (201, 200)
    finally:
        valkey_server.start()
    lines = "\n".join(_Formatter("edge").format(record) for record in caplog.records)
    assert "reply_deferred" in lines
    assert not [secret for secret in secrets if secret in lines or secret[-32:] in lines]
