"""One run of one connector: its inventory, its telemetry, or a preview of what an inventory would change."""

import asyncio
import logging
import random
import traceback
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec

from schemas import ids, logs, postgres
from schemas.cloud import Credentials
from schemas.egress import EgressPolicy
from schemas.manifests import catalog
from schemas.postgres import Connection, Pool, PostgresAway, PostgresTimeout
from schemas.redis import Redis
from schemas.secrets import SecretError, Vault
from workers.importer import comparing, diff, holding, imported, intake, leases, loading, run_records, telemetry
from workers.importer.comparing import Changes
from workers.importer.connector import Connector
from workers.importer.diff import LostRunError, Target
from workers.importer.holding import Digests
from workers.importer.vendor import Vendor, VendorError
from workers.names import Names, NamesOfTenant

log = logging.getLogger(__name__)

INVENTORY_S = 15 * 60
TELEMETRY_S = 5 * 60
JITTER = 0.2
BACK_OFF_S, BACK_OFF_MAX_S = 60.0, 3600.0
KEEP_ATTEMPTS, KEEP_AGAIN_S = 10, 1.0
"""A refresh token that the vendor has already changed is worth waiting for Postgres."""
FAILURES_MAX = 5


class Runs:
    """Runs connectors that are leased to `holder`."""

    def __init__(
        self,
        dsn: str,
        pool: Pool,
        redis: Redis,
        vault: Vault,
        policy: EgressPolicy,
        names: Names,
        holder: UUID,
        *,
        manifests_folder: str = "",
        shards: int,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._clock = clock
        self._dsn = dsn
        self._pool = pool
        self._redis = redis
        self._vault = vault
        self._policy = policy
        self._names = names
        self._holder = holder
        self._folder = manifests_folder
        self._shards = shards
        self.random = random.Random().random  # noqa: S311 (jitter)

    async def run(self, connector: Connector, preview: int | None = None) -> None:
        """Do what is due. A failure is noted; LostRunError says that nothing may be."""
        now = self._clock()
        kind = "inventory" if connector.inventory_due else "telemetry" if preview is None else "preview"
        run_id: int | None = None
        try:
            run_id = await run_records.start_run(self._pool, connector.id, kind, now, preview)
            vendor = self._vendor(connector)
            try:
                if kind == "telemetry":
                    await self._telemetry(connector, vendor, run_id)
                else:
                    await self._inventory(connector, vendor, run_id, preview=kind == "preview")
            finally:
                await vendor.close()
        except VendorError as error:
            await self._failed(connector, run_id, error, kind)
        except LostRunError:
            raise
        except Exception as error:
            if isinstance(error, PostgresAway) and not isinstance(error, PostgresTimeout):
                raise
            # One connector's trouble is not to be that of the whole process. Its text may hold what a vendor said.
            where = traceback.extract_tb(error.__traceback__)[-1]
            details = {"cause": type(error).__name__, "place": f"{where.filename}:{where.lineno}"}
            logs.event(log, logging.ERROR, "connector_run_broke", connector=connector.id, **details)
            sentence = VendorError(f"The list could not be read or stored ({type(error).__name__})")
            await self._failed(connector, run_id, sentence, kind)

    def _vendor(self, connector: Connector) -> Vendor:
        known = catalog.load(self._folder)
        if connector.provider in known.broken:
            raise VendorError(f"The manifest cannot be used: {known.broken[connector.provider]}")
        manifest = known.manifests.get(connector.provider)
        if manifest is None:
            raise VendorError(f"There is no manifest {connector.provider} any more")
        try:
            opened = self._vault.open(connector.credentials, connector.id)
        except SecretError as error:
            raise VendorError(f"The credentials cannot be read: {error}", unauthorized=True) from None
        credentials = msgspec.json.decode(opened or b"{}", type=Credentials)

        async def keep(renewed: Credentials) -> None:
            sealed = self._vault.seal(msgspec.json.encode(renewed), connector.id)
            for attempt in range(KEEP_ATTEMPTS):
                try:
                    await leases.keep_credentials(self._pool, connector, sealed)
                    return
                except PostgresAway:
                    if attempt + 1 == KEEP_ATTEMPTS:
                        raise
                    await asyncio.sleep(KEEP_AGAIN_S)

        async def rest(seconds: float) -> None:
            await leases.rest(self._pool, connector.id, self._clock() + timedelta(seconds=seconds))

        rested_s = 0.0 if connector.rest_until is None else (connector.rest_until - self._clock()).total_seconds()
        return Vendor(
            manifest,
            connector.settings,
            credentials,
            self._policy,
            NamesOfTenant(self._names, connector.organization_id),
            keep,
            rest=rest,
            rested_s=max(rested_s, 0.0),
        )

    # Inventory

    async def _inventory(self, connector: Connector, vendor: Vendor, run_id: int, *, preview: bool) -> None:
        connection = await postgres.connect(self._dsn, "importer")
        try:
            await loading.begin(connection)
            read = await intake.load_list(connection, vendor)
            twice = read.pages > 1 and await loading.lacks(connection, connector.id)
            if twice:
                await loading.begin_again(connection)
                read.add(await intake.load_list(connection, vendor))
            async with connection.transaction():
                changes = await comparing.compare(connection, connector.id, excludes=not read.doubts, twice=twice)
                reason = holding.why(changes, read.skipped)
                digests = Digests("", "")
                if reason is not None:
                    digests = Digests(*await comparing.digests(connection))
                held = reason is not None and not holding.permitted(connector.held, changes, digests, self._clock())
                details: dict[str, Any] = {"skips": [skip._asdict() for skip in read.skips]}
                if read.doubts:
                    details["nothing_excluded"] = read.doubts
                if held:
                    details["why_held"] = reason
                if preview:
                    details["held"] = held
                if preview or held:
                    details |= await comparing.shown(connection)
                else:
                    details |= await self._said(connection, changes)
                    changes = await self._apply(connection, connector, vendor, changes)
                await run_records.finish_run(
                    connection, run_id, self._clock(), changes, skipped=read.skipped, held=held, details=details
                )
                # Last, so that nobody who changes the connector waits for a long list to be applied.
                if not await leases.still_ours(connection, self._holder, connector):
                    raise LostRunError
                next_at = self._in(INVENTORY_S)
                if held and reason is not None and not preview:
                    agreeing = connector.held.agreeing(digests, self._clock())
                    await run_records.hold(connection, connector, run_id, changes, digests, reason, agreeing, next_at)
                elif not preview:
                    telemetry_at = self._clock() if vendor.manifest.telemetry is not None else None
                    await run_records.applied(connection, connector, changes.found, next_at, telemetry_at)
        finally:
            await connection.close(timeout=5)
        logs.event(
            log,
            logging.INFO,
            "list_compared",
            connector=connector.id,
            outcome="previewed" if preview else "held" if held else "applied",
            found=changes.found,
            created=changes.created,
            excluded=changes.excluded,
            skipped=read.skipped,
        )

    async def _said(self, connection: Connection, changes: Changes) -> dict[str, Any]:
        """What a run tells of beyond its numbers: it may be a surprise to people."""
        kinds = [kind for kind in ("reenrolled", "moved") if getattr(changes, kind)]
        return await comparing.shown(connection, *kinds) if kinds else {}

    async def _apply(self, connection: Connection, connector: Connector, vendor: Vendor, changes: Changes) -> Changes:
        model_id = await imported.model_of(self._pool, connector.organization_id, ids.new_id(), vendor.manifest.title)
        place = (connector.organization_id, connector.project_id, connector.space_id)
        target = Target(connector.id, *place, model_id, self._shards, connector.follow_spaces)
        return await diff.apply(connection, target, changes, self._clock())

    # Telemetry

    async def _telemetry(self, connector: Connector, vendor: Vendor, run_id: int) -> None:
        if vendor.manifest.telemetry is None:
            await run_records.telemetry_next(self._pool, self._holder, connector, None)
            return
        count, failed = await telemetry.collect(vendor, connector, self._pool, self._redis, self._clock())
        sentence = failed.sentence()
        await run_records.telemetry_next(self._pool, self._holder, connector, self._in(TELEMETRY_S), sentence)
        details = {"failed": failed.count, "first_failure": failed.first} if failed.count else {}
        await run_records.finish_run(self._pool, run_id, self._clock(), Changes(found=count), details=details)

    # Failures and times

    async def _failed(self, connector: Connector, run_id: int | None, error: VendorError, kind: str) -> None:
        now = self._clock()
        await run_records.finish_run(self._pool, run_id, now, Changes(), error=str(error))
        logs.event(log, logging.WARNING, "connector_run_failed", connector=connector.id, cause=str(error))
        if kind == "preview":
            return
        if kind == "telemetry":
            # Its own trouble: the devices are listed all the same.
            wait_s = min(TELEMETRY_S * 2 ** min(connector.telemetry_failures, 4), BACK_OFF_MAX_S)
            again_at = max(self._in(wait_s), self._clock() + timedelta(seconds=error.retry_after_s or 0.0))
            await run_records.telemetry_next(self._pool, self._holder, connector, again_at, str(error))
            return
        failures = connector.failures_in_a_row + 1
        wait_s = min(BACK_OFF_S * 2 ** min(failures - 1, 10), BACK_OFF_MAX_S)
        next_at = None if error.unauthorized else self._in(wait_s)
        if next_at is not None and error.retry_after_s is not None:
            next_at = max(next_at, self._clock() + timedelta(seconds=error.retry_after_s))
        sentence = str(error) if error.unauthorized or failures >= FAILURES_MAX else None
        await run_records.failed(self._pool, self._holder, connector, error=sentence, next_at=next_at)

    def _in(self, seconds: float) -> datetime:
        """So many seconds from now, give or take a fifth."""
        return self._clock() + timedelta(seconds=seconds * (1 + JITTER * (2 * self.random() - 1)))
