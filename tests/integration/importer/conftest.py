"""A vendor's cloud, an edge to manage connectors with, and an importer that runs when it is told."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from edges import open_shards, running_edge
from imports import Clock, Imports
from owners import owner
from vendors import VendorCloud, manifest, serve

from schemas import ids
from schemas.egress import EgressPolicy, GuardedResolver
from schemas.postgres import Pool
from schemas.redis import Redis
from schemas.secrets import VENDOR_CREDENTIALS, Vault
from tests.conftest import MASTER_KEY, SHARDS
from workers.egress import LOOKUP_TIMEOUT_S
from workers.importer import requests
from workers.importer.runs import Runs
from workers.names import Names


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What nobody asked for is not waited for."""
    monkeypatch.setattr(requests, "FAILED_PAUSE_S", 0.001)
    monkeypatch.setattr(requests, "BUSY_PAUSE_S", 0.001)


@pytest.fixture
async def cloud(tmp_path: Path) -> AsyncIterator[VendorCloud]:
    """A vendor's cloud with a manifest `acme`."""
    made = VendorCloud(folder=tmp_path / "manifests")
    made.folder.mkdir()
    (made.folder / "acme.toml").write_text(manifest())
    runner = await serve(made)
    yield made
    await runner.cleanup()


@pytest.fixture
async def imports(
    cloud: VendorCloud, dsn: str, pool: Pool, redis_url: str, redis_client: Redis
) -> AsyncIterator[Imports]:
    """All of it."""
    await open_shards(redis_client)
    holder = ids.new_id()
    vault = Vault(MASTER_KEY, VENDOR_CREDENTIALS)
    policy = EgressPolicy("127.0.0.0/8", http=True)
    clock = Clock()
    names = Names(GuardedResolver(policy), LOOKUP_TIMEOUT_S)
    runs = Runs(
        dsn,
        pool,
        redis_client,
        vault,
        policy,
        names,
        holder,
        manifests_folder=str(cloud.folder),
        shards=SHARDS,
        clock=clock,
    )
    opened = {"egress_allow": "127.0.0.0/8", "egress_http": True}
    async with running_edge(dsn, redis_url, manifests=str(cloud.folder), **opened) as edge:
        yield Imports(await owner(edge, "Acme"), cloud, pool, runs, holder, edge, vault, clock)
    await names.close()
