"""A vendor's firmware and rollouts of it, driven step by step."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from owners import Owner
from prometheus_client import CollectorRegistry

from schemas import ids
from schemas.metrics import Metrics
from schemas.redis import Redis
from workers.rollouts.moving import Url
from workers.rollouts.rollouts import Rollouts


async def firmware(owner: Owner, version: str, **columns: Any) -> UUID:
    """Released firmware of the owner's model, as it stands in the database."""
    columns = {
        "id": ids.new_id(),
        "model_id": owner.model_id,
        "for_model_id": owner.model_id,
        "name": version,
        "file_type": "firmware",
        "version": version,
        "checksum": "ab" * 32,
        "size": 1,
        "status": "released",
    } | columns
    marks = ", ".join(f"${n}" for n in range(1, len(columns) + 1))
    made: UUID = await owner.pool.fetchval(
        f"INSERT INTO files ({', '.join(columns)}) VALUES ({marks}) RETURNING id", *columns.values()
    )
    return made


def _url(device_id: UUID, file_id: UUID, _: datetime) -> str:
    return f"https://gw/v1/devices/{device_id}/files/{file_id}/content?token=t"


@dataclass
class Campaign:
    """A rollout under way, its workers, and a clock that is moved."""

    owner: Owner
    redis: Redis
    id: str
    file_id: UUID
    now: datetime = field(default_factory=lambda: datetime.now(UTC))
    workers: list[Rollouts] = field(default_factory=list)
    url: Url = _url

    @property
    def path(self) -> str:
        return f"/rollouts/{self.id}"

    def worker(self) -> Rollouts:
        """A worker of the role, as one that has just begun."""
        return Rollouts(self.owner.pool, self.redis, Metrics(CollectorRegistry()), self.url)

    async def advance(self, **later: float) -> None:
        """Let time pass, and a worker do all that is due."""
        self.now += timedelta(**later)
        worker = self.workers[0] if self.workers else self.worker()
        while await worker.advance(self.now):
            pass

    async def act(self, action: str, key: str | None = None) -> Any:
        """Do what a person does."""
        return await self.owner.call("POST", f"{self.path}/{action}", key=key)

    async def read(self) -> Any:
        return await self.owner.call("GET", self.path)

    async def status(self) -> str:
        return str((await self.read())["status"])

    async def states(self) -> dict[UUID, str]:
        """Each device's state."""
        rows = await self.owner.pool.fetch(
            "SELECT device_id, state FROM rollout_devices WHERE rollout_id = $1", UUID(self.id)
        )
        return {row["device_id"]: row["state"] for row in rows}

    async def offered(self) -> set[UUID]:
        """Devices that are told of the firmware."""
        rows = await self.owner.pool.fetch("SELECT id FROM devices WHERE latest_fw_file_id = $1", self.file_id)
        return {row["id"] for row in rows}

    async def reports(self, device_id: UUID, version: str) -> None:
        """The device tells its firmware version, as a PUT does."""
        await self.owner.pool.execute(
            "UPDATE devices SET firmware_version = $2, firmware_reported_at = $3 WHERE id = $1",
            device_id,
            version,
            self.now,
        )


async def campaign(
    owner: Owner,
    redis: Redis,
    version: str = "2.0.0",
    *,
    start: bool = True,
    file_id: UUID | None = None,
    **body: Any,
) -> Campaign:
    """A rollout of new firmware, started unless told otherwise."""
    file_id = file_id or await firmware(owner, version)
    made = await owner.call("POST", "/rollouts", {"name": "Spring", "file_id": str(file_id)} | body)
    found = Campaign(owner, redis, made["id"], file_id)
    if start:
        await found.act("start")
    return found
