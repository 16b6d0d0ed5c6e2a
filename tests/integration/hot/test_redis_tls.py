"""Redis behind TLS, with a certificate that a private authority signed."""

import asyncio
import ssl
from pathlib import Path

import pytest
from certificates import self_signed
from connections import BODY, Client
from edges import open_shards, running_edge
from redis.asyncio import Redis as SingleRedis
from webhooks import until

from gateway.cli.local.embedded import EmbeddedValkey
from gateway.ingest.nodes import Nodes
from gateway.ingest.pipe import Address, Pipe
from schemas import keys, redis
from schemas.redis import Redis, RedisAway
from schemas.settings import SettingsError
from tests.conftest import SHARDS
from tests.faults.proxy import Proxy


async def test_a_private_authority_may_vouch_for_redis(tmp_path: Path) -> None:
    """Given as a file, for the hot path and all else alike; one that cannot be read is told at start."""
    certificate, _ = self_signed(tmp_path)
    url = "rediss://127.0.0.1:1"
    client = redis.connect(url, str(certificate))
    assert isinstance(client, SingleRedis)
    assert client.connection_pool.connection_kwargs["ssl_ca_certs"] == str(certificate)
    [address] = {*await Nodes(url, client, 1, str(certificate))._addresses()}
    assert (address.tls, address.ca) == (True, str(certificate))
    assert len(redis.authorities(address.ca).get_ca_certs()) == 1
    with pytest.raises(SettingsError, match="FLEETGATE_REDIS_CA is not usable"):
        redis.connect(url, str(tmp_path / "missing.pem"))


async def test_authorities_that_are_gone_for_a_moment_end_no_edge(
    valkey_server: EmbeddedValkey, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As when somebody copies new ones over them while Redis is away: it stays away until they are there."""
    certificate, key = self_signed(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    proxy = Proxy(valkey_server.port)
    await proxy.start(context)
    certificate.rename(tmp_path / "aside")
    pipe = Pipe(Address(host="127.0.0.1", port=proxy.port, tls=True, ca=str(certificate)), lambda: None)
    running = asyncio.create_task(pipe.run())
    await until(lambda: "redis_away" in caplog.messages)
    (tmp_path / "aside").rename(certificate)
    await until(lambda: pipe.connected)
    running.cancel()
    await proxy.stop()


async def test_telemetry_goes_to_a_redis_behind_tls_with_a_private_authority(
    dsn: str, redis_url: str, redis_client: Redis, valkey_server: EmbeddedValkey, tmp_path: Path
) -> None:
    """The hot path and all else; without that authority neither trusts it."""
    await open_shards(redis_client)
    certificate, key = self_signed(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    proxy = Proxy(valkey_server.port)
    await proxy.start(context)
    url = f"rediss://127.0.0.1:{proxy.port}/0"
    async with running_edge(dsn, url, redis_ca=str(certificate)) as edge:
        client = await Client(edge).connect()
        client.writer.write(client.head() + BODY)
        assert (await client.answer())[0] == 201
        client.writer.close()
        assert await edge.services.redis.get("nothing") is None
    assert sum([await redis_client.xlen(keys.ingest(shard)) for shard in range(SHARDS)]) == 1
    stranger = redis.connect(url)
    with pytest.raises(RedisAway, match="certificate verify failed"):
        await stranger.get("nothing")
    pipe = Pipe(Address(host="127.0.0.1", port=proxy.port, tls=True), lambda: None)
    with pytest.raises(ssl.SSLCertVerificationError):
        await pipe._connect()
    await stranger.aclose()
    await proxy.stop()
