"""A vendor's fleet: registers devices and speaks as any of them."""

import itertools
from dataclasses import dataclass
from typing import Any

from owners import Owner

from gateway.stores.accounts import credentials

_numbers = itertools.count(1)


@dataclass
class Unit:
    """One registered device, as it speaks."""

    fleet: "Fleet"
    id: str
    key: str
    sn: str
    mac: str

    async def ask(self, method: str, path: str = "", body: Any = None, key: str | None = None) -> tuple[int, Any]:
        """One call of this device: status and JSON."""
        return await self.fleet.ask(method, f"/v1/devices/{self.id}{path}", body, self.key if key is None else key)

    async def call(self, method: str, path: str = "", body: Any = None) -> Any:
        """One call that must succeed; its JSON."""
        status, answer = await self.ask(method, path, body)
        assert status in (200, 201), answer
        return answer

    async def waits(self) -> dict[str, Any]:
        """The response map of the next message."""
        answer: dict[str, Any] = await self.call("POST", "/telemetry", {"status": "online"})
        return answer

    async def claim(self) -> None:
        """Be claimed by the tenant of the fleet."""
        owner = self.fleet.owner
        body = {"space_id": str(owner.space_id), "mac": self.mac, "sn": self.sn}
        answer = await owner.call("POST", "/devices/claim", body)
        assert answer["id"] == self.id


@dataclass
class Fleet:
    """Registers devices of one tenant's model."""

    owner: Owner
    hardware_key: str

    async def ask(self, method: str, path: str, body: Any = None, key: str = "") -> tuple[int, Any]:
        """One request: status and JSON."""
        headers = {"authorization": key} if key else {}
        data = {"data": body} if isinstance(body, bytes) else {"json": body}
        if body is None:
            data = {}
        async with self.owner.http.request(method, self.owner.url + path, headers=headers, **data) as answer:
            return answer.status, await answer.json()

    def registration(self, **members: Any) -> dict[str, Any]:
        """A good one, but for `members`; those that are None are left out."""
        number = next(_numbers)
        usual = {
            "hardware_key": self.hardware_key,
            "sn": f"U{number:05}",
            "mac": f"02:01:00:00:{number >> 8:02x}:{number & 255:02x}",
            "firmware_version": "1.0.0",
        }
        return {name: value for name, value in (usual | members).items() if value is not None}

    async def unit(self, *, claimed: bool = False, **members: Any) -> Unit:
        """A device, registered over HTTP."""
        body = self.registration(**members)
        status, answer = await self.ask("POST", "/v1/devices", body)
        assert status == 201, answer
        made = Unit(self, answer["id"], answer["access_key"], body["sn"], body.get("mac", ""))
        if claimed:
            await made.claim()
        return made


async def fleet_of(owner: Owner) -> Fleet:
    """A fleet of a tenant's model."""
    async with owner.pool.acquire() as connection:
        key = await credentials.mint_and_store(connection, "hardware", owner_id=owner.model_id, name="tests")
    return Fleet(owner, key.text)
