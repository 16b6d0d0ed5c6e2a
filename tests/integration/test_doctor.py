"""What `fleetgate doctor` says a fail-over can lose, as the stores and the settings are."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from webhooks import until

from gateway.cli.local.embedded import EmbeddedPostgres, EmbeddedValkey, free_port
from gateway.cli.servers import Servers
from gateway.operations import findings
from gateway.operations.findings import Finding
from schemas.postgres import Pool
from schemas.redis import Redis
from tests.conftest import MASTER_KEY


async def said(looks: AsyncIterator[Finding], word: str) -> list[tuple[bool, str]]:
    """What is said about this, and whether it is well."""
    return [(finding.good, finding.text) async for finding in looks if word in finding.text]


async def test_replicas_of_redis_that_nobody_waits_for_are_to_be_fixed(
    dsn: str, valkey_server: EmbeddedValkey, redis_client: Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A 2xx does not mean that a replica has the message, unless edges wait for it."""
    servers = Servers(postgres_dsn=dsn, redis_url=valkey_server.url, master_key=MASTER_KEY)
    assert await said(findings.of_redis(servers.redis_url, ""), "replicas") == []
    replica = EmbeddedValkey(tmp_path / "replica", port=free_port(), fsync="no")
    replica.start(replicaof=f"127.0.0.1 {valkey_server.port}")
    try:

        async def follows() -> bool:
            return bool((await redis_client.info("replication"))["connected_slaves"])

        await until(follows)
        [(good, text)] = await said(findings.of_redis(servers.redis_url, ""), "replicas")
        assert (good, "loses what they did not have yet" in text) == (False, True)
        monkeypatch.setenv("FLEETGATE_REDIS_REPLICAS_MIN", "1")
        [(good, text)] = await said(findings.of_redis(servers.redis_url, ""), "replicas")
        assert (good, "1 of them have the message too" in text) == (True, True)
    finally:
        replica.stop()


async def test_a_standby_that_lags_is_to_be_fixed(
    dsn: str,
    postgres_server: EmbeddedPostgres,
    pool: Pool,
    valkey_server: EmbeddedValkey,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What it lacks at a fail-over is lost, unless workers keep as much in Redis."""
    servers = Servers(postgres_dsn=dsn, redis_url=valkey_server.url, master_key=MASTER_KEY)
    assert await said(findings.of_postgres(servers.postgres_dsn, servers), "standby") == []
    command = [str(postgres_server._binaries / "pg_receivewal"), "-D", str(tmp_path), "-U", "fleetgate"]
    receiver = await asyncio.create_subprocess_exec(*command, "-h", str(postgres_server.sockets))
    try:
        await until(lambda: pool.fetchval("SELECT EXISTS (SELECT FROM pg_stat_replication WHERE state = 'streaming')"))
        [(good, text)] = await said(findings.of_postgres(servers.postgres_dsn, servers), "standby")
        assert (good, "is lost, though devices heard 2xx" in text) == (False, True)
        monkeypatch.setenv("FLEETGATE_STREAM_KEEP_S", "60")
        [(good, text)] = await said(findings.of_postgres(servers.postgres_dsn, servers), "standby")
        assert (good, "of the last 60 s" in text) == (True, True)
    finally:
        receiver.terminate()
        await receiver.wait()
