"""Finds cloud connectors that are due and runs them, a few at a time, each under a lease.

Organizations take turns, and none has more than its share of the runs under way: the slow servers of one vendor, or of
one tenant, hold up nobody else's lists.
"""

import asyncio
import logging
import time
from uuid import UUID

from schemas import ids, logs
from schemas.egress import EgressPolicy, GuardedResolver
from schemas.manifests import catalog
from schemas.postgres import Pool, PostgresAway
from schemas.redis import Redis
from schemas.secrets import VENDOR_CREDENTIALS
from schemas.settings import WorkerSettings
from workers.egress import LOOKUP_TIMEOUT_S
from workers.importer import leases
from workers.importer.connector import Connector
from workers.importer.diff import LostRunError
from workers.importer.runs import Runs
from workers.names import Names

log = logging.getLogger(__name__)

INTERVAL_S = 0.5
MANIFESTS_S = 5.0
"""How often manifests are looked at to tell which are skipped; whoever uses one looks at it then."""
GUARD_S = 1.0
"""How often a run's lease is prolonged, and so how soon a person's change ends it."""


class Importer:
    """This process's part of all runs."""

    def __init__(self, settings: WorkerSettings, pool: Pool, redis: Redis, shards: int) -> None:
        self._pool = pool
        self._runs_max = settings.imports_max
        self._of_organization_max = settings.organization_imports_max
        self._holder: UUID = ids.new_id()
        self._running: set[str] = set()
        self._folder = settings.manifests
        self._broken: dict[str, str] = {}
        self._looked_at = -MANIFESTS_S
        policy = EgressPolicy(settings.egress_allow, http=settings.egress_http)
        self._names = Names(GuardedResolver(policy), LOOKUP_TIMEOUT_S)
        self._runs = Runs(
            settings.postgres_dsn,
            pool,
            redis,
            settings.vault(VENDOR_CREDENTIALS),
            policy,
            self._names,
            self._holder,
            manifests_folder=settings.manifests,
            shards=shards,
        )

    def __repr__(self) -> str:
        return f"<Importer running={len(self._running)}>"

    async def run(self, stop: asyncio.Event) -> None:
        """Run what is due until `stop` is set. Runs under way then end, and change nothing."""
        try:
            await self._run_due(stop)
        finally:
            await self._names.close()

    async def _run_due(self, stop: asyncio.Event) -> None:
        async with asyncio.TaskGroup() as group:
            tasks: set[asyncio.Task[None]] = set()
            while not stop.is_set():
                self._look_at_manifests()
                try:
                    for run_id, connector in await self._claimed():
                        task = group.create_task(self._run(connector, run_id), name=f"import {connector.id}")
                        tasks.add(task)
                        task.add_done_callback(tasks.discard)
                except PostgresAway as error:
                    logs.event(log, logging.WARNING, "imports_deferred", cause=repr(error))
                try:
                    await asyncio.wait_for(stop.wait(), INTERVAL_S)
                except TimeoutError:
                    continue
            for task in tasks:
                task.cancel()

    def _look_at_manifests(self) -> None:
        """Say which are skipped, at start and whenever that changes."""
        if time.monotonic() - self._looked_at < MANIFESTS_S:
            return
        self._looked_at = time.monotonic()
        broken = catalog.load(self._folder).broken
        for provider, error in broken.items():
            if self._broken.get(provider) != error:
                logs.event(log, logging.WARNING, "manifest_skipped", provider=provider, cause=error)
        self._broken = broken

    async def _claimed(self) -> list[tuple[int | None, Connector]]:
        free, share = self._runs_max - len(self._running), self._of_organization_max
        if free <= 0 or not await leases.some_due(self._pool):
            return []
        previews = await leases.claim_previews(self._pool, self._holder, free, share)
        due = await leases.claim(self._pool, self._holder, free - len(previews), share) if free > len(previews) else []
        return [*previews, *((None, connector) for connector in due)]

    async def _run(self, connector: Connector, run_id: int | None) -> None:
        self._running.add(connector.id)
        work = asyncio.ensure_future(self._runs.run(connector, run_id))
        guard = asyncio.ensure_future(self._guard(connector, work))
        try:
            await work
        except (LostRunError, asyncio.CancelledError):
            logs.event(log, logging.INFO, "connector_run_void", connector=connector.id)
        except PostgresAway as error:
            logs.event(log, logging.WARNING, "connector_run_cut", connector=connector.id, cause=repr(error))
        finally:
            guard.cancel()
            self._running.discard(connector.id)
            try:
                await leases.release(self._pool, self._holder, connector)
            except PostgresAway as error:
                logs.event(log, logging.WARNING, "lease_kept", connector=connector.id, cause=repr(error))

    async def _guard(self, connector: Connector, work: "asyncio.Future[None]") -> None:
        """Prolong the lease; end the run when it is lost, or when a person changed the connector."""
        held_at = time.monotonic()
        while True:
            await asyncio.sleep(GUARD_S)
            try:
                if not await leases.prolong(self._pool, self._holder, connector):
                    work.cancel()
                    return
                held_at = time.monotonic()
            except PostgresAway:
                if time.monotonic() - held_at > leases.LEASE_S:
                    work.cancel()
                    return
