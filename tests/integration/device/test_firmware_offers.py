"""Which firmware is a device's: the highest released version above its own whose stepping stone it has reached."""

import random
from typing import Any
from uuid import UUID

import pytest
from fleets import Fleet

from schemas import ids

ORDER = (
    "0.0.1",
    "1.0.0-0",
    "1.0.0-2",
    "1.0.0-10",
    "1.0.0-alpha",
    "1.0.0-alpha.1",
    "1.0.0-alpha.beta",
    "1.0.0-alpha-b",
    "1.0.0-beta",
    "1.0.0-beta.2",
    "1.0.0-beta.11",
    "1.0.0-rc.1",
    "1.0.0",
    "1.0.10",
    "1.2.0",
    "1.10.0",
    "2.0.0",
    "10.0.0",
    f"{10**40}.0.0",
)
"""As SemVer 2.0.0, section 11, orders them."""


async def released(fleet: Fleet, version: str, **columns: Any) -> UUID:
    """Firmware of the fleet's model, as it stands in the database when it is released."""
    columns = {
        "id": ids.new_id(),
        "model_id": fleet.owner.model_id,
        "for_model_id": fleet.owner.model_id,
        "name": version,
        "file_type": "firmware",
        "version": version,
        "checksum": "ab" * 32,
        "size": 1,
        "status": "released",
    } | columns
    marks = ", ".join(f"${n}" for n in range(1, len(columns) + 1))
    made: UUID = await fleet.owner.pool.fetchval(
        f"INSERT INTO files ({', '.join(columns)}) VALUES ({marks}) RETURNING id", *columns.values()
    )
    return made


async def test_versions_sort_as_semantic_versions_do(fleet: Fleet) -> None:
    """Numbers by value however long, pre-releases before the release, build metadata not at all."""
    mixed = list(ORDER)
    random.Random(1).shuffle(mixed)
    key = 'semver_key(v) COLLATE "C"'
    rows = await fleet.owner.pool.fetch(f"SELECT v FROM unnest($1::text[]) AS v ORDER BY {key}", mixed)
    assert [row["v"] for row in rows] == list(ORDER)
    assert await fleet.owner.pool.fetchval("SELECT semver_key('1.2.3+a') = semver_key('1.2.3+b')")
    for none in ("", "1.0", "v1.0.0", "one"):
        assert await fleet.owner.pool.fetchval("SELECT semver_key($1)", none) is None


async def test_a_device_is_told_of_the_highest_release_from_its_first_message_on(fleet: Fleet) -> None:
    """Not of drafts, of what was withdrawn, of older versions, of other types and models."""
    other = await fleet.owner.call("POST", "/models", {"vendor": "Acme", "name": "Other"})
    await released(fleet, "1.5.0")
    best = await released(fleet, "2.0.0")
    await released(fleet, "0.9.0")
    await released(fleet, "3.0.0", status="draft")
    await released(fleet, "3.1.0", status="withdrawn")
    await released(fleet, "3.2.0", file_type="manual")
    await released(fleet, "3.3.0", model_id=UUID(other["id"]), for_model_id=UUID(other["id"]))
    unit = await fleet.unit(firmware_version="v1.0")
    reply = await unit.waits()
    assert (reply["latest_fw_version"], reply["latest_fw_file_id"]) == ("2.0.0", str(best))


async def test_what_a_device_reports_decides_what_it_is_offered_next(fleet: Fleet) -> None:
    """Its new version takes the offer away; a lower one, after a fall back, brings it again."""
    await released(fleet, "2.0.0")
    unit = await fleet.unit()
    for version, offered in (("2.0.0", None), ("1.9.9", "2.0.0"), ("2.0.0-rc.1", "2.0.0"), ("2.1.0", None)):
        await unit.call("PUT", "", {"firmware_version": version})
        assert (await unit.waits())["latest_fw_version"] == offered, version


@pytest.mark.parametrize(("own", "offered"), [("1.0.0", "1.5.0"), ("1.5.0", "2.0.0"), ("1.6.0", "2.0.0")])
async def test_a_stepping_stone_comes_first(fleet: Fleet, own: str, offered: str) -> None:
    """2.0.0 takes at least 1.5.0: who is below is offered that first."""
    await released(fleet, "1.5.0")
    await released(fleet, "2.0.0", min_version="1.5.0")
    assert (await (await fleet.unit(firmware_version=own)).waits())["latest_fw_version"] == offered


async def test_an_organizations_firmware_is_for_its_own_devices_of_that_model(fleet: Fleet) -> None:
    """Claiming brings the offer; whoever nobody claimed is not offered it."""
    unit = await fleet.unit()
    await released(fleet, "4.0.0", model_id=None, organization_id=fleet.owner.organization_id)
    assert (await unit.waits())["latest_fw_version"] is None
    await unit.claim()
    assert (await unit.waits())["latest_fw_version"] == "4.0.0"
