"""Databases of earlier versions come up to date with all their rows."""

import asyncio
import os
import sys
from asyncio.subprocess import PIPE, STDOUT
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from gateway.cli.local.embedded import EmbeddedPostgres
from schemas import distribution, ids, placement, postgres
from schemas.postgres import Connection
from schemas.settings import SettingsError
from tests.conftest import MASTER_KEY, SHARDS
from workers.dispatcher import slices, store

DAYS = 3
EVENTS_A_DAY = 50
KEYS = {
    "device_reported": "shard,device_id,type",
    "device_state": "shard,device_id",
    "events": "shard,seq,stored_at",
    "ingest_ledger": "shard,outcome",
    "ingest_quarantine": "shard,id",
    "shards": "shard",
}


@pytest.fixture
async def empty(postgres_server: EmbeddedPostgres) -> AsyncIterator[str]:
    """The connection string of a database without a schema."""
    admin = await asyncpg.connect(postgres_server.dsn("postgres"))
    await admin.execute("CREATE DATABASE migrated")
    yield postgres_server.dsn("migrated")
    await admin.execute("DROP DATABASE migrated WITH (FORCE)")
    await admin.close()


async def migrate(connection: Connection) -> list[str]:
    return await postgres.migrate(connection, shards=SHARDS, master_key=MASTER_KEY)


async def migrate_to(pattern: str, connection: Connection, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Apply only the migrations whose names fit, as an earlier version would."""
    with monkeypatch.context() as before:
        for path in sorted(postgres.MIGRATIONS.glob(pattern)):
            (folder / path.name).write_text(path.read_text())
        before.setattr(postgres, "MIGRATIONS", folder)
        await migrate(connection)


async def fill(connection: Connection) -> None:
    """Two devices with state, reports and several days of events, and a connector in the middle of the log."""
    devices = [ids.new_id(), ids.new_id()]
    now = datetime.now(UTC)
    organization, project, model = ids.new_id(), ids.new_id(), ids.new_id()
    await connection.execute("INSERT INTO organizations (id, name) VALUES ($1, 'Acme')", organization)
    await connection.execute(
        "INSERT INTO projects (id, organization_id, name) VALUES ($1, $2, 'P')", project, organization
    )
    await connection.execute(
        """INSERT INTO device_models (id, organization_id, vendor, name, authentication)
           VALUES ($1, $2, 'V', 'M', 'mac_sn')""",
        model,
        organization,
    )
    for day in range(DAYS):
        await connection.execute(
            f"""CREATE TABLE IF NOT EXISTS "events_{now - timedelta(days=day):%Y%m%d}" PARTITION OF events
                FOR VALUES FROM ('{now - timedelta(days=day):%Y-%m-%d} 00:00+00')
                             TO ('{now - timedelta(days=day - 1):%Y-%m-%d} 00:00+00')"""
        )
    for shard, device_id in enumerate(devices):
        await connection.execute(
            "INSERT INTO devices (id, shard, model_id, firmware_version) VALUES ($1, $2, $3, '1')",
            device_id,
            shard,
            model,
        )
        await connection.execute(
            "INSERT INTO device_state (device_id, shard, status, last_seen_at) VALUES ($1, $2, 'online', $3)",
            device_id,
            shard,
            now,
        )
        await connection.execute(
            """INSERT INTO device_reported (device_id, type, ts, shard, seq, stored_at, data)
               VALUES ($1, 'temperature', $2, $3, 7, $2, '{}')""",
            device_id,
            now,
            shard,
        )
        await connection.execute(
            "INSERT INTO ingest_quarantine (shard, entry_id, position, reason, message) VALUES ($1, '1-1', 0, 'r', '')",
            shard,
        )
        await connection.executemany(
            """INSERT INTO events (shard, seq, stored_at, type, device_id, project_id, ts, data)
               VALUES ($1, $2, $3, 'telemetry', $4, $5, $3, '{}')""",
            [
                (shard, 1 + n, now - timedelta(days=DAYS - 1 - n // EVENTS_A_DAY), device_id, project)
                for n in range(DAYS * EVENTS_A_DAY)
            ],
        )
        await connection.execute("UPDATE shards SET next_seq = $2 WHERE shard = $1", shard, 1 + DAYS * EVENTS_A_DAY)
    await connection.execute(
        "INSERT INTO data_connectors (id, project_id, status, url) VALUES ($1, $2, 'ACTIVE', 'https://x')",
        ids.new_xid(),
        project,
    )
    await connection.execute(
        "UPDATE connector_positions SET seq = seq - 10, stored_at = $1 WHERE shard < 2", now - timedelta(days=DAYS)
    )


async def rows(connection: Connection) -> dict[str, Any]:
    """What the tables of the data plane hold, and where connectors are. Columns of later migrations are left out."""
    return {
        table: await connection.fetch(
            f"SELECT jsonb_strip_nulls(to_jsonb(t) - 'check_at')::text FROM {table} t ORDER BY 1"
        )
        for table in [*KEYS, "connector_positions"]
    }


async def test_the_data_plane_is_cut_by_shard_and_no_row_is_lost(
    empty: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From 0003 with rows on several days: all of them are there, and every key begins with the shard.

    What a run that was killed left behind is no obstacle, and a connector's backlog is still counted when it ends.
    """
    connection = await postgres.connect(empty, "tests")
    await migrate_to("000[123]_*.sql", connection, tmp_path, monkeypatch)
    await fill(connection)
    found = await rows(connection)
    assert len(found["events"]) == 2 * DAYS * EVENTS_A_DAY
    today = f"events_{datetime.now(UTC):%Y%m%d}"
    await connection.execute(f"CREATE UNIQUE INDEX {today}_by_shard ON {today} (shard, seq, stored_at)")
    await connection.execute(
        "UPDATE pg_index SET indisvalid = false WHERE indexrelid = $1::text::regclass", f"{today}_by_shard"
    )
    assert (await migrate(connection))[0] == "0004_data_plane"
    assert await rows(connection) == found

    keys = await connection.fetch(
        """SELECT conrelid::regclass::text AS name, conindid, string_agg(attname, ',' ORDER BY place) AS columns
             FROM pg_constraint, unnest(conkey) WITH ORDINALITY AS k (number, place)
             JOIN pg_attribute a ON a.attnum = number
            WHERE contype = 'p' AND a.attrelid = conrelid AND conrelid = ANY($1::text[]::regclass[]) GROUP BY 1, 2""",
        list(KEYS),
    )
    assert {row["name"]: row["columns"] for row in keys} == KEYS
    partitions = await connection.fetchval("SELECT count(*) FROM pg_inherits WHERE inhparent = 'events'::regclass")
    attached = await connection.fetchval(
        """SELECT count(*) FROM pg_inherits JOIN pg_index ON indexrelid = inhrelid
            WHERE inhparent = 'events_pkey'::regclass AND indisprimary AND indisvalid"""
    )
    assert attached == partitions >= DAYS
    assert await connection.fetchval("SELECT to_regclass('events_log')") is None
    foreign = await connection.fetch(
        "SELECT conname FROM pg_constraint WHERE contype = 'f' AND conrelid = ANY($1::text[]::regclass[])", list(KEYS)
    )
    assert foreign == []
    with pytest.raises(asyncpg.UniqueViolationError):
        await connection.execute("INSERT INTO events SELECT * FROM events WHERE shard = 0 LIMIT 1")

    await connection.execute("UPDATE data_connectors SET status = 'USER_DISABLED'")
    while jobs := await store.jobs(connection):
        await slices.work(connection, *jobs[0])
    connector = await connection.fetchrow("SELECT accepted, dropped FROM data_connectors")
    assert connector is not None
    assert tuple(connector) == (20, 20)
    behind = await connection.fetchval(
        "SELECT count(*) FROM connector_positions p JOIN shards USING (shard) WHERE seq < next_seq"
    )
    assert behind == 0
    await connection.close()


async def test_whoever_claimed_devices_can_go_on_and_short_codes_become_prefix_free(
    empty: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Models of which others own devices are public from then on, children of a parent's making come along, and of two
    codes that begin alike one that opens no Cloud ID is another one."""
    connection = await postgres.connect(empty, "tests")
    await migrate_to("000[1-7]_*.sql", connection, tmp_path, monkeypatch)
    await connection.execute(
        """INSERT INTO organizations (id, name, short_code)
           SELECT ('00000000-0000-0000-0000-00000000000' || n)::uuid, 'O', code
             FROM (VALUES (1, '1F55'), (2, '1f55ME'), (3, 'ZZZZ')) t (n, code);
           INSERT INTO projects (id, organization_id, name)
           SELECT id, id, 'P' FROM organizations WHERE short_code = 'ZZZZ';
           INSERT INTO spaces (id, project_id, name, full_path) SELECT id, id, 'S', 'S' FROM projects;
           INSERT INTO device_models (id, organization_id, vendor, name, authentication)
           SELECT id, id, 'V', 'M', CASE WHEN short_code = '1f55ME' THEN 'cloud_id' ELSE 'mac_sn' END
             FROM organizations;
           INSERT INTO devices
                  (id, shard, model_id, firmware_version, organization_id, project_id, space_id, claimed_at)
           SELECT o.id, 0, o.id, '1', s.id, s.id, s.id, now() FROM organizations o, spaces s
            WHERE o.short_code = '1F55';
           INSERT INTO devices (id, shard, model_id, firmware_version, parent_id)
           SELECT gen_random_uuid(), 0, model_id, '1', id FROM devices"""
    )
    assert "0008_claims" in await migrate(connection)
    models = await connection.fetch(
        "SELECT o.short_code, m.public FROM device_models m JOIN organizations o USING (id)"
    )
    assert [row["public"] for row in models] == [row["short_code"] not in ("1f55ME", "ZZZZ") for row in models]
    assert await connection.fetchval("SELECT array_agg(vouched_for ORDER BY parent_id) FROM devices") == [True, False]
    codes = [row["short_code"].lower() for row in models]
    assert {"1f55me", "zzzz"} < set(codes)
    assert not [(a, b) for a in codes for b in codes if a is not b and a.startswith(b)]
    await connection.close()


async def test_migrations_that_race_wait_for_each_other(empty: str) -> None:
    """Each is applied once, also those that build indexes while others wait for their turn."""
    connections = [await postgres.connect(empty, "tests") for _ in range(3)]
    applied = await asyncio.gather(*map(migrate, connections))
    assert sorted(name for names in applied for name in names) == sorted(
        p.stem for p in postgres.MIGRATIONS.glob("*.sql")
    )
    for connection in connections:
        await connection.close()


async def ended_with(module: str, dsn: str, redis_url: str) -> tuple[int, str]:
    """The exit code of a process that was started on this database, and the last line that it said."""
    environment = {
        **os.environ,
        "FLEETGATE_POSTGRES_DSN": dsn,
        "FLEETGATE_REDIS_URL": redis_url,
        "FLEETGATE_MASTER_KEY": MASTER_KEY,
        "FLEETGATE_BIND": "127.0.0.1:0",
    }
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", *module.split()), env=environment, stdout=PIPE, stderr=STDOUT
    )
    async with asyncio.timeout(20):
        said, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, said.decode().strip().splitlines()[-1]


PROGRAMS = ("gateway", "workers", "gateway.cli.main migrate")


@pytest.mark.parametrize("module", PROGRAMS)
async def test_a_database_that_is_newer_than_the_program_is_refused(dsn: str, redis_url: str, module: str) -> None:
    """By edge, worker and migrate: none of them knows what its tables mean by now."""
    connection = await asyncpg.connect(dsn)
    await connection.execute("INSERT INTO migrations (name) VALUES ('9999_of_next_year')")
    await connection.close()
    code, sentence = await ended_with(module, dsn, redis_url)
    assert code == 2
    assert sentence.endswith(
        ": the database has the migrations 9999_of_next_year, which this program does not know: "
        "it was migrated by a newer fleetgate, run that version"
    )


@pytest.mark.parametrize("module", PROGRAMS)
async def test_a_migration_whose_text_changed_after_it_was_applied_is_refused(
    dsn: str, redis_url: str, module: str
) -> None:
    """The schema is not the one that this program was written for."""
    connection = await asyncpg.connect(dsn)
    await connection.execute("UPDATE migrations SET sha256 = repeat('0', 64) WHERE name = '0001_foundation'")
    await connection.close()
    code, sentence = await ended_with(module, dsn, redis_url)
    assert code == 2
    assert sentence.endswith(
        ": the migrations 0001_foundation were applied to the database with another text than they have here: "
        "run the fleetgate that migrated it"
    )


async def test_a_changed_migration_is_found_before_a_new_one_is_applied(
    empty: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The database stays as it is."""
    connection = await postgres.connect(empty, "tests")
    await migrate(connection)
    for path in postgres.MIGRATIONS.glob("*.sql"):
        (tmp_path / path.name).write_text(path.read_text())
    (tmp_path / "0001_foundation.sql").write_text("-- Something else.")
    (tmp_path / "9999_new.sql").write_text("CREATE TABLE made_by_a_new_migration ()")
    monkeypatch.setattr(postgres, "MIGRATIONS", tmp_path)
    with pytest.raises(SettingsError, match="0001_foundation were applied"):
        await migrate(connection)
    assert await connection.fetchval("SELECT to_regclass('made_by_a_new_migration')") is None
    await connection.close()


async def test_migrations_of_before_there_were_checksums_get_theirs(empty: str) -> None:
    """At the next migrate; until then edges and workers take them as they are."""
    connection = await postgres.connect(empty, "tests")
    await migrate(connection)
    kept = await connection.fetch("SELECT name, sha256 FROM migrations ORDER BY name")
    assert all(len(row["sha256"]) == 64 for row in kept)
    await connection.execute("ALTER TABLE migrations DROP COLUMN sha256")
    assert (await postgres.installation(connection)).shards == SHARDS
    assert await migrate(connection) == []
    assert await connection.fetch("SELECT name, sha256 FROM migrations ORDER BY name") == kept
    await connection.close()


async def test_a_database_without_the_extension_is_not_distributed(dsn: str) -> None:
    """A sentence says what is missing; tests/citus has the rest, on a cluster."""
    connection = await postgres.connect(dsn, "tests")
    with pytest.raises(SettingsError, match="has no extension citus"):
        await distribution.distribute(connection)
    assert not (await placement.find(connection)).distributed
    await connection.close()
