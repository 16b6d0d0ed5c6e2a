"""Metrics are read with their own token, from wherever a call seems to come."""

import pytest
from edges import METRICS_TOKEN, RunningEdge, open_shards, running_edge

from schemas.environment import load
from schemas.redis import Redis
from schemas.settings import EdgeSettings, SettingsError

FORGED = [{}, {"x-forwarded-for": "127.0.0.1"}, {"x-forwarded-for": "garbage"}, {"forwarded": "for=127.0.0.1"}]


@pytest.mark.parametrize("headers", FORGED)
async def test_nobody_reads_them_without_the_token(edge: RunningEdge, headers: dict[str, str]) -> None:
    """401, also for this machine: behind a proxy everybody is."""
    for given in ({}, {"authorization": "Bearer x"}, {"authorization": f"Bearer {METRICS_TOKEN[:-1]}"}):
        async with edge.http.get(f"{edge.url}/metrics", headers=headers | given) as answer:
            assert answer.status == 401, given
    async with edge.http.get(
        f"{edge.url}/metrics", headers=headers | {"authorization": f"Bearer {METRICS_TOKEN}"}
    ) as answer:
        assert answer.status == 200


async def test_where_no_token_is_set_they_are_closed(dsn: str, redis_url: str, redis_client: Redis) -> None:
    """403, whoever asks."""
    await open_shards(redis_client)
    async with running_edge(dsn, redis_url, metrics_token="") as edge:
        for headers in (*FORGED, {"authorization": ""}, {"authorization": "Bearer "}):
            async with edge.http.get(f"{edge.url}/metrics", headers=headers) as answer:
                assert answer.status == 403, headers


def test_a_token_that_can_be_guessed_is_no_setting() -> None:
    """At least 16 characters, none of them a space."""
    given = {"FLEETGATE_POSTGRES_DSN": "postgresql://x", "FLEETGATE_REDIS_URL": "redis://x"}
    given["FLEETGATE_MASTER_KEY"] = "5a" * 32
    for token in ("x", "m" * 15, "m" * 16 + " "):
        with pytest.raises(SettingsError, match=r"FLEETGATE_METRICS_TOKEN is not usable: .*16 characters"):
            load(EdgeSettings, given | {"FLEETGATE_METRICS_TOKEN": token})
    assert load(EdgeSettings, given | {"FLEETGATE_METRICS_TOKEN": "m" * 16}).metrics_token == "m" * 16


@pytest.mark.parametrize("path", ["/v1/devices", "/core/v1/organization/devices", "/metrics", "/nothing"])
async def test_a_forged_origin_breaks_nothing(edge: RunningEdge, path: str) -> None:
    """Headers of proxies with garbage in them, and a Host that is none: refused as ever, never a 500."""
    for headers in (*FORGED, {"host": "a b"}, {"host": "\xe4"}, {"x-forwarded-proto": "javascript"}):
        async with edge.http.get(edge.url + path, headers=headers, allow_redirects=False) as answer:
            assert answer.status in (400, 401, 404, 405), (path, headers)
            assert "location" not in answer.headers
