"""One run of one connector: its inventory, its telemetry, or a preview of what an inventory would change."""

import logging
import random
import traceback
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec

from schemas import ids, logs, manifests, postgres
from schemas.cloud import Credentials
from schemas.egress import EgressPolicy
from schemas.manifests import ManifestError
from schemas.postgres import Connection, Pool, PostgresAway, PostgresTimeout
from schemas.redis import Redis
from schemas.secrets import SecretError, Vault
from workers.importer import diff, store, telemetry
from workers.importer.devices import Mapper, Skipped
from workers.importer.diff import AGREEING_RUNS, Changes, LostRunError, Target
from workers.importer.lists import pages
from workers.importer.store import Connector
from workers.importer.vendor import Vendor, VendorError

log = logging.getLogger(__name__)

INVENTORY_S = 15 * 60
TELEMETRY_S = 5 * 60
JITTER = 0.2
BACK_OFF_S, BACK_OFF_MAX_S = 60.0, 3600.0
FAILURES_MAX = 5
SKIPS_KEPT = 20


class Runs:
    """Runs connectors that are leased to `holder`."""

    def __init__(
        self,
        dsn: str,
        pool: Pool,
        redis: Redis,
        vault: Vault,
        policy: EgressPolicy,
        holder: UUID,
        *,
        manifests_folder: str = "",
        shards: int,
    ) -> None:
        self._dsn = dsn
        self._pool = pool
        self._redis = redis
        self._vault = vault
        self._policy = policy
        self._holder = holder
        self._folder = manifests_folder
        self._shards = shards
        self.random = random.Random().random  # noqa: S311 (jitter)

    async def run(self, connector: Connector, preview: int | None = None) -> None:
        """Do what is due. A failure is noted; LostRunError says that nothing may be."""
        now = datetime.now(UTC)
        kind = "inventory" if connector.inventory_due else "telemetry" if preview is None else "preview"
        run_id: int | None = None
        try:
            run_id = await store.start_run(self._pool, connector.id, kind, now, preview)
            vendor = self._vendor(connector)
            try:
                if kind == "telemetry":
                    await self._telemetry(connector, vendor, run_id)
                else:
                    await self._inventory(connector, vendor, run_id, preview=kind == "preview")
            finally:
                await vendor.close()
        except VendorError as error:
            await self._failed(connector, run_id, error, preview=kind == "preview")
        except ManifestError as error:
            await self._failed(connector, run_id, VendorError(str(error)), preview=kind == "preview")
        except LostRunError:
            raise
        except Exception as error:
            if isinstance(error, PostgresAway) and not isinstance(error, PostgresTimeout):
                raise
            # One connector's trouble is not to be that of the whole process. Its text may hold what a vendor said.
            where = traceback.extract_tb(error.__traceback__)[-1]
            told = {"cause": type(error).__name__, "place": f"{where.filename}:{where.lineno}"}
            logs.event(log, logging.ERROR, "connector_run_broke", connector=connector.id, **told)
            sentence = VendorError(f"The list could not be read or stored ({type(error).__name__})")
            await self._failed(connector, run_id, sentence, preview=kind == "preview")

    def _vendor(self, connector: Connector) -> Vendor:
        manifest = manifests.available(self._folder).get(connector.provider)
        if manifest is None:
            raise VendorError(f"There is no manifest {connector.provider} any more")
        try:
            opened = self._vault.open(connector.credentials, connector.id)
        except SecretError as error:
            raise VendorError(f"The credentials cannot be read: {error}", unauthorized=True) from None
        credentials = msgspec.json.decode(opened or b"{}", type=Credentials)

        async def keep(renewed: Credentials) -> None:
            sealed = self._vault.seal(msgspec.json.encode(renewed), connector.id)
            await store.keep_credentials(self._pool, self._holder, connector, sealed)

        return Vendor(manifest, connector.settings, credentials, self._policy, keep)

    # Inventory

    async def _inventory(self, connector: Connector, vendor: Vendor, run_id: int, *, preview: bool) -> None:
        connection = await postgres.connect(self._dsn, "importer")
        try:
            skipped, total = await self._read(connection, vendor)
            async with connection.transaction():
                changes = await diff.compare(connection, connector.id)
                details: dict[str, Any] = {"skips": [skip._asdict() for skip in skipped]}
                held = changes.excludes_much and not _agreed(connector, changes)
                if preview:
                    details |= await diff.shown(connection)
                    details["held"] = held
                elif not held:
                    await self._apply(connection, connector, vendor)
                await store.finish_run(
                    connection, run_id, datetime.now(UTC), changes, skipped=total, held=held, details=details
                )
                # Last, so that nobody who changes the connector waits for a long list to be applied.
                if not await store.still_ours(connection, self._holder, connector):
                    raise LostRunError
                if held and not preview:
                    await self._hold(connection, connector, changes)
                elif not preview:
                    telemetry_at = datetime.now(UTC) if vendor.manifest.telemetry is not None else None
                    next_at = self._in(INVENTORY_S)
                    await store.applied(connection, connector, changes.found, next_at, telemetry_at)
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
            skipped=total,
        )

    async def _read(self, connection: Connection, vendor: Vendor) -> tuple[list[Skipped], int]:
        """Load the list; returns the first items that are no devices, and how many there are."""
        mapper = Mapper(vendor.manifest.device)
        skipped: list[Skipped] = []
        total = 0
        await diff.begin(connection)
        async for items in pages(vendor, vendor.manifest.list):
            listed = []
            for item in items:
                found = mapper.read(item)
                if isinstance(found, Skipped):
                    total += 1
                    skipped += [found] if len(skipped) < SKIPS_KEPT else []
                else:
                    listed.append(found)
            await diff.load(connection, listed)
        for vendor_id in await diff.end_of_list(connection):
            total += 1
            skipped += [Skipped(vendor_id, "comes twice in the list")] if len(skipped) < SKIPS_KEPT else []
        return skipped, total

    async def _apply(self, connection: Connection, connector: Connector, vendor: Vendor) -> None:
        model_id = await store.model_of(self._pool, connector.organization_id, ids.new_id(), vendor.manifest.title)
        place = (connector.organization_id, connector.project_id, connector.space_id)
        target = Target(connector.id, *place, model_id, self._shards)
        await diff.apply(connection, target, datetime.now(UTC))

    async def _hold(self, connection: Connection, connector: Connector, changes: Changes) -> None:
        agreed = connector.held_in_a_row + 1 if connector.held_digest == changes.gone_digest else 1
        sentence = (
            f"The vendor's list has {changes.found} devices and would exclude {changes.excluded} of"
            f" {changes.active}: confirm it, or see that the vendor lists them again"
        )
        await store.hold(connection, connector, changes, sentence, agreed, self._in(INVENTORY_S))

    # Telemetry

    async def _telemetry(self, connector: Connector, vendor: Vendor, run_id: int) -> None:
        if vendor.manifest.telemetry is None:
            await store.telemetry_next(self._pool, self._holder, connector, None)
            return
        count = await telemetry.collect(vendor, connector, self._pool, self._redis)
        await store.telemetry_next(self._pool, self._holder, connector, self._in(TELEMETRY_S))
        await store.finish_run(self._pool, run_id, datetime.now(UTC), Changes(found=count))

    # Failures and times

    async def _failed(self, connector: Connector, run_id: int | None, error: VendorError, *, preview: bool) -> None:
        now = datetime.now(UTC)
        await store.finish_run(self._pool, run_id, now, Changes(), error=str(error))
        logs.event(log, logging.WARNING, "connector_run_failed", connector=connector.id, cause=str(error))
        if preview:
            return
        failures = connector.failures_in_a_row + 1
        wait_s = min(BACK_OFF_S * 2 ** min(failures - 1, 10), BACK_OFF_MAX_S)
        next_at = None if error.unauthorized else self._in(max(wait_s, error.retry_after_s or 0.0))
        told = str(error) if error.unauthorized or failures >= FAILURES_MAX else None
        await store.failed(self._pool, self._holder, connector, error=told, next_at=next_at)

    def _in(self, seconds: float) -> datetime:
        """So many seconds from now, give or take a fifth."""
        return datetime.now(UTC) + timedelta(seconds=seconds * (1 + JITTER * (2 * self.random() - 1)))


def _agreed(connector: Connector, changes: Changes) -> bool:
    """Whether a list that excludes much may be applied: a person said so, or it came often enough."""
    if connector.held_confirmed is not None and changes.excluded <= connector.held_confirmed:
        return True
    return connector.held_digest == changes.gone_digest and connector.held_in_a_row + 1 >= AGREEING_RUNS
