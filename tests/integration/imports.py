"""A tenant that imports from a vendor's cloud: connectors made by API, run when a test says so."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
from owners import Owner
from vendors import VendorCloud

from gateway.stores.connectors import authorization_links
from schemas.cloud import Credentials
from schemas.postgres import Pool
from schemas.secrets import Vault
from workers.importer import leases
from workers.importer.connector import Connector
from workers.importer.runs import Runs


class Clock:
    """The importer's clock, which a test moves on."""

    def __init__(self) -> None:
        self.ahead = timedelta()

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.ahead

    def move(self, **by: float) -> None:
        """Let so much time pass."""
        self.ahead += timedelta(**by)


@dataclass
class Imports:
    """A tenant with a vendor's cloud; connectors are made by API and run by hand."""

    acme: Owner
    cloud: VendorCloud
    pool: Pool
    runs: Runs
    holder: UUID
    edge: Any
    vault: Vault
    clock: "Clock"

    async def connector(
        self, *, authorised: bool = True, provider: str = "acme", settings: dict[str, str] | None = None
    ) -> str:
        """A connector to the cloud; its id."""
        made = await self.acme.call(
            "POST",
            "/connectors",
            {
                "provider": provider,
                "project_id": str(self.acme.project_id),
                "space_id": str(self.acme.space_id),
                "settings": {"url": self.cloud.url} if settings is None else settings,
            },
        )
        connector_id = str(made["connector"]["id"])
        if authorised:
            await self.authorise(connector_id, token=self.cloud.token)
        return connector_id

    async def authorise(self, connector_id: str, **entered: str) -> None:
        """Store credentials as the form does."""
        sealed = self.vault.seal(msgspec.json.encode(Credentials(entered=entered)), connector_id)
        await authorization_links.authorise(self.pool, connector_id, sealed)

    async def claim(self, connector_id: str) -> Connector:
        """Make it due and lease it."""
        await self.pool.execute(
            "UPDATE cloud_connectors SET inventory_at = now(), lease_until = NULL WHERE id = $1", connector_id
        )
        return next(c for c in await leases.claim(self.pool, self.holder, 100) if c.id == connector_id)

    async def sync(self, connector_id: str) -> dict[str, Any]:
        """One inventory; the run as the API shows it."""
        connector = await self.claim(connector_id)
        try:
            await self.runs.run(connector)
        finally:
            await leases.release(self.pool, self.holder, connector)
        return await self.last_run(connector_id)

    async def last_run(self, connector_id: str) -> dict[str, Any]:
        """The newest run."""
        found = await self.acme.call("GET", f"/connectors/{connector_id}/runs")
        return dict(found["items"][0])

    async def shown(self, connector_id: str) -> dict[str, Any]:
        """The connector."""
        return dict(await self.acme.call("GET", f"/connectors/{connector_id}"))

    async def devices(self, connector_id: str, **query: Any) -> dict[str, dict[str, Any]]:
        """Imported devices by vendor id."""
        found = await self.acme.call("GET", f"/connectors/{connector_id}/devices", **query)
        return {device["vendor_id"]: device for device in found["items"]}

    async def outbox(self) -> list[tuple[str, str]]:
        """(type, vendor id) of the events so far, which are then forgotten."""
        rows = await self.pool.fetch(
            """WITH gone AS (DELETE FROM event_outbox RETURNING id, type, device_id)
               SELECT type, coalesce(c.vendor_id, gone.device_id::text) AS vendor_id
                 FROM gone LEFT JOIN cloud_devices c USING (device_id) ORDER BY gone.id"""
        )
        return [(row["type"], row["vendor_id"]) for row in rows]
