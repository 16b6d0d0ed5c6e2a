"""Tenants and devices to test the owner's side with, and a client that speaks as one of them."""

import itertools
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from gateway.stores import models
from gateway.stores.accounts import credentials
from gateway.stores.commands import definitions
from gateway.stores.commands.definitions import CommandField
from gateway.stores.tenants import organizations, projects, spaces
from schemas import ids
from schemas.postgres import Executor, Pool
from workers.standings import Standings

NOW = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)
_numbers = itertools.count(1)


@dataclass
class Owner:
    """A tenant with one of everything."""

    pool: Pool
    http: Any
    url: str
    shards: int
    organization_id: UUID
    project_id: UUID
    space_id: UUID
    model_id: UUID
    key_id: UUID
    key: str
    partner_key: str
    devices: list[UUID] = field(default_factory=list)

    async def call(self, method: str, path: str, body: Any = None, key: str | None = None, **query: Any) -> Any:
        """Call the organization API; returns the answer's JSON, or `(status, error)` of a refusal."""
        status, answer = await self.ask(method, f"/core/v1/organization{path}", body, key, **query)
        return answer if status in (200, 201) else (status, answer["error"])

    async def partner(self, method: str, path: str, body: Any = None, **query: Any) -> Any:
        """Call the partner API likewise."""
        status, answer = await self.ask(method, f"/core/v1/partner{path}", body, self.partner_key, **query)
        return answer if status in (200, 201) else (status, answer["error"])

    async def ask(
        self, method: str, path: str, body: Any = None, key: str | None = None, **query: Any
    ) -> tuple[int, Any]:
        """One request; returns status and JSON."""
        names = {"since": "from", "until": "to"}
        given = {names.get(name, name): str(value) for name, value in query.items()}
        headers = {"authorization": self.key if key is None else key}
        async with self.http.request(method, self.url + path, json=body, headers=headers, params=given) as answer:
            return answer.status, await answer.json()

    async def device(self, *, claimed: bool = True, space_id: UUID | None = None, **columns: Any) -> UUID:
        """A registered device; claimed by this tenant unless told otherwise."""
        number = next(_numbers)
        device_id = ids.new_id()
        columns = {
            "id": device_id,
            "shard": ids.shard_of(str(device_id).encode(), self.shards),
            "model_id": self.model_id,
            "sn": f"SN{number:06}",
            "mac": f"02:00:00:00:{number >> 8:02x}:{number & 255:02x}",
            "firmware_version": "1.0.0",
            "registered_at": NOW - timedelta(days=365),
        } | columns
        if claimed:
            space_id = space_id or self.space_id
            columns |= {
                "organization_id": self.organization_id,
                "project_id": await self.pool.fetchval("SELECT project_id FROM spaces WHERE id = $1", space_id),
                "space_id": space_id,
                "claimed_at": NOW,
                "space_data_version": 1,
            }
        marks = ", ".join(f"${n}" for n in range(1, len(columns) + 1))
        await self.pool.execute(f"INSERT INTO devices ({', '.join(columns)}) VALUES ({marks})", *columns.values())
        self.devices.append(device_id)
        return device_id

    async def row(self, device_id: UUID) -> Any:
        """The device's row."""
        return await self.pool.fetchrow("SELECT * FROM devices WHERE id = $1", device_id)

    async def trusts(self, vendor: "Owner") -> None:
        """Make another tenant this one's partner: devices of its models may be claimed."""
        code = await self.pool.fetchval("SELECT short_code FROM organizations WHERE id = $1", vendor.organization_id)
        await self.call("POST", "/partners", {"short_code": code})

    async def seen(
        self, device_id: UUID, status: str | None = "online", *, offline: bool = False, **values: Any
    ) -> None:
        """Store a state of the device."""
        await self.pool.execute(
            """INSERT INTO device_state (device_id, shard, status, telemetries, state_at, last_seen_at, offline)
               SELECT id, shard, $2, $3, $4, $4, $5 FROM devices WHERE id = $1""",
            device_id,
            status,
            values,
            NOW,
            offline,
        )
        await self.pool.execute("INSERT INTO standings_due (device_id) VALUES ($1)", device_id)

    async def settled(self) -> None:
        """Work out how devices are seen, as a worker does within a second."""
        await Standings(self.pool).settle()

    async def incident(self, device_id: UUID, priority: int, issue: str = "leak", **columns: Any) -> UUID:
        """Open an incident of the device; its id."""
        incident_id = ids.new_id()
        columns |= {"id": incident_id, "device_id": device_id, "issue": issue, "title": "T", "priority": priority}
        marks = ", ".join(f"${n}" for n in range(1, len(columns) + 1))
        await self.pool.execute(f"INSERT INTO incidents ({', '.join(columns)}) VALUES ({marks})", *columns.values())
        return incident_id

    async def message(self, device_id: UUID, ts: datetime, **told: Any) -> None:
        """Store one telemetry message in the log."""
        await self.pool.execute(
            """INSERT INTO events (shard, seq, stored_at, type, device_id, project_id, ts, data)
               SELECT shard, (SELECT coalesce(max(seq), 0) + 1 FROM events), now(), 'telemetry', id, project_id, $2, $3
                 FROM devices WHERE id = $1""",
            device_id,
            ts,
            {"telemetry": {"telemetries": {}} | told},
        )


async def owner(edge: Any, name: str) -> Owner:
    """A new tenant."""
    pool = edge.services.postgres
    async with pool.acquire() as connection:
        organization = await organizations.create(connection, name)
        project = await projects.create(connection, organization.id, "Main")
        space = await spaces.create(connection, organization.id, project.id, "Hall")
        model = await models.create(connection, organization.id, vendor=name, name="Sensor")
        await definitions.add(connection, model.id, name="reboot", friendly_name="Restart")
        await definitions.add(
            connection,
            model.id,
            name="tune",
            fields=[
                CommandField("level", "integer", required=True),
                CommandField("gain", "number"),
                CommandField("label", "string"),
                CommandField("loud", "boolean"),
            ],
        )
        key = await credentials.mint_and_store(connection, "organization", owner_id=organization.id, name="tests")
        partner = await credentials.mint_and_store(connection, "partner", owner_id=organization.id, name="tests")
    return Owner(
        pool=pool,
        http=edge.http,
        url=edge.url,
        shards=edge.services.shards,
        organization_id=organization.id,
        project_id=project.id,
        space_id=space.id,
        model_id=model.id,
        key_id=key.id,
        key=key.text,
        partner_key=partner.text,
    )


async def outbox(connection: Executor) -> list[tuple[str, UUID]]:
    """What waits for the event log: type and device."""
    rows = await connection.fetch("SELECT type, device_id FROM event_outbox ORDER BY id")
    return [(row["type"], row["device_id"]) for row in rows]


def ago(**time: float) -> datetime:
    """A moment before now."""
    return datetime.now(UTC) - timedelta(**time)
