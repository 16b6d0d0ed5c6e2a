"""The simulated device as the gateway hears it: events, and incidents of its own."""

from collections import Counter
from typing import Any
from uuid import UUID

from fleets import Fleet
from owners import Owner

from gateway.cli.simulated.agent import DISK_FULL, watched
from gateway.cli.simulated.client import Device, Memory
from gateway.cli.simulated.happenings import Happenings


def device_of(fleet: Fleet, memory: Memory, happenings: Happenings, registration: dict[str, Any]) -> Device:
    """A device that measures nothing."""
    owner = fleet.owner
    return Device(
        owner.http,
        owner.url,
        registration,
        lambda: {"disk": 1.0},
        memory=memory,
        remember=lambda _: None,
        tell=lambda _: None,
        interval_s=1,
        counts=Counter(),
        follow_hub_url=False,
        happenings=happenings,
    )


async def test_a_device_tells_what_happened_and_what_is_wrong(edge: Any, fleet: Fleet, acme: Owner) -> None:
    """Events once each; an incident while it lasts; after a restart what it had opened before is closed."""
    happenings, registration = Happenings(), fleet.registration()
    device = device_of(fleet, Memory(), happenings, registration)
    await device.step()
    device_id = UUID(device.memory.id)
    happenings.events.append({"name": "disk_cleaned", "category": "storage", "int_key_1": 5})
    happenings.wrong["disk"] = "Disk is full"

    async def known() -> list[tuple[str, bool]]:
        rows = await acme.pool.fetch(
            "SELECT title, closed_at IS NULL AS open FROM incidents WHERE device_id = $1 ORDER BY id", device_id
        )
        return [(row["title"], row["open"]) for row in rows]

    for _ in range(2):
        await device.step()
        assert await known() == [("Disk is full", True)]
    assert edge.services.metrics.device_events.labels("dropped")._value.get() == 2  # nobody claimed it
    happenings.wrong.clear()
    await device.step()
    assert await known() == [("Disk is full", False)]
    happenings.wrong["disk"] = "Disk is full again"
    await device.step()
    await acme.pool.execute("UPDATE incidents SET closed_at = now() WHERE closed_at IS NULL")  # as a person would
    happenings.wrong.clear()
    await device.step()
    happenings.wrong["disk"] = "Disk is full still"
    await device.step()
    await device_of(fleet, device.memory, Happenings(), registration).step()
    assert [is_open for _, is_open in await known()] == [False] * 3


def test_an_agents_disk_that_is_full_is_wrong_for_as_long() -> None:
    """And nothing else."""
    happenings = Happenings()
    for disk, wrong in ((10.0, {}), (DISK_FULL, {"disk": "Disk is full"}), (10.0, {})):
        assert watched({"disk": disk}, happenings) == {"disk": disk}
        assert happenings.wrong == wrong
