"""Postgres behind TLS, with a certificate that a private authority signed, as its DSN says."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from certificates import self_signed

from gateway.cli.local.embedded import EmbeddedPostgres
from schemas import postgres
from schemas.postgres import PostgresAway
from schemas.settings import SettingsError

TLS_ASKED_FOR = (8).to_bytes(4, "big") + (80877103).to_bytes(4, "big")


@pytest.fixture
async def port(postgres_server: EmbeddedPostgres, tmp_path: Path) -> AsyncIterator[int]:
    """Speaks TLS in front of the server of all tests, which was built without."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*self_signed(tmp_path))
    [socket] = postgres_server.sockets.glob(".s.PGSQL.[0-9]*[0-9]")

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            assert await reader.readexactly(len(TLS_ASKED_FOR)) == TLS_ASKED_FOR, "somebody speaks without TLS"
            writer.write(b"S")
            await writer.start_tls(context)
            answers, requests = await asyncio.open_unix_connection(str(socket))
            await asyncio.gather(forward(reader, requests), forward(answers, writer))

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    server.close()


async def test_a_private_authority_may_vouch_for_postgres(
    port: int, dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sessions and pools alike; without that authority nobody trusts it."""
    url = f"postgresql://fleetgate@127.0.0.1:{port}/{dsn.partition('@/')[2].partition('?')[0]}?sslmode=verify-full"
    trusting = f"{url}&sslrootcert={tmp_path / 'certificate.pem'}"
    await postgres.check_sessions(trusting)
    pool = await postgres.create_pool(trusting, "tests", 1)
    assert await pool.fetchval("SELECT count(*) FROM devices") == 0
    await pool.close()
    (tmp_path / "other").mkdir()
    other, _ = self_signed(tmp_path / "other")
    with pytest.raises(PostgresAway, match="certificate verify failed"):
        await postgres.connect(f"{url}&sslrootcert={other}", "tests")
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(SettingsError, match="root certificate file"):
        await postgres.connect(url, "tests")


async def test_authorities_that_cannot_be_read_are_told_at_start(tmp_path: Path) -> None:
    """Where they are missing, or no certificates; nobody waits for a server that is "away"."""
    (tmp_path / "words.pem").write_text("no certificate")
    for name in ("missing.pem", "words.pem"):
        with pytest.raises(SettingsError, match=f"sslrootcert of FLEETGATE_POSTGRES_DSN is not usable: .*{name}"):
            await postgres.check_sessions(
                f"postgresql://127.0.0.1:1/none?sslmode=verify-full&sslrootcert={tmp_path / name}"
            )
