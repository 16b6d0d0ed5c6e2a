"""A fleet as its owner sees it: devices found by what is known of them, and counted by how they are."""

from datetime import timedelta
from typing import Any

import pytest
from owners import NOW, Owner

from gateway.organization import fleet
from gateway.stores.devices import fleet as fleet_store
from gateway.stores.devices import fleet_filters
from gateway.stores.devices.fleet_filters import Filters


async def found(owner: Owner, **filters: Any) -> list[str]:
    """The serial numbers of all devices that fit, page by page."""
    serials, page = [], 1
    while page:
        answer = await owner.call("GET", "/devices", page=page, **filters)
        serials += [device["sn"] for device in answer["items"]]
        page = answer["next_page"]
    return serials


@pytest.fixture
async def fleet_of_five(acme: Owner) -> Owner:
    """One device of each kind that filters tell apart."""
    plain = await acme.device(sn="P-1", name="Pump north")
    await acme.seen(plain)
    silent = await acme.device(sn="S-1", labels={"site": "Oslo"}, firmware_version="2.0.0")
    await acme.seen(silent, offline=True)
    broken = await acme.device(sn="B-1", mac="02:aa:00:00:00:01", cloud_id="ABC-1")
    await acme.seen(broken)
    await acme.incident(broken, 1)
    worn = await acme.device(sn="W-1", labels={"site": "Bergen"})
    await acme.seen(worn)
    await acme.incident(worn, 5)
    await acme.device(sn="N-1", name="pump_south")
    await acme.settled()
    return acme


async def test_devices_are_found_by_what_is_known_of_them(fleet_of_five: Owner) -> None:
    """By the beginning of a name or serial number in any case; by a whole MAC, Cloud ID or id; by how they are seen."""
    owner = fleet_of_five
    assert await found(owner, search="PUMP") == ["P-1", "N-1"]
    assert await found(owner, search="pump_") == ["N-1"]
    assert await found(owner, search="b-") == ["B-1"]
    assert await found(owner, search="02:AA:00:00:00:01") == ["B-1"]
    assert await found(owner, search="abc-1") == ["B-1"]
    assert await found(owner, search=str(owner.devices[3])) == ["W-1"]
    assert await found(owner, search="%") == []
    for status, serial in (
        ("ok", "P-1"),
        ("offline", "S-1"),
        ("error", "B-1"),
        ("warning", "W-1"),
        ("never_seen", "N-1"),
    ):
        assert await found(owner, status=status) == [serial]
    assert await found(owner, label="site") == ["S-1", "W-1"]
    assert await found(owner, label="site=Oslo") == ["S-1"]
    assert await found(owner, firmware_version="2.0.0") == ["S-1"]
    assert await found(owner, seen_since=NOW.isoformat()) == ["P-1", "S-1", "B-1", "W-1"]
    assert await found(owner, seen_before=(NOW + timedelta(1)).isoformat(), status="error") == ["B-1"]
    assert await found(owner, model_id=owner.model_id, label="site") == ["S-1", "W-1"]


async def test_a_page_looks_at_a_bounded_number_of_devices_and_goes_on_behind_them(
    fleet_of_five: Owner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where every filter fits many: pages may be empty, and all that fit come in the end."""
    owner = fleet_of_five
    monkeypatch.setattr(fleet_filters, "FEW", 0)
    monkeypatch.setattr(fleet_store, "WALKED_MAX", 2)
    first = await owner.call("GET", "/devices", search="n-", model_id=owner.model_id, per_page=1)
    assert (first["items"], first["has_next_page"]) == ([], True)
    for filters in ({"label": "site"}, {"search": "w-", "label": "site=Bergen"}, {"model_id": owner.model_id}):
        assert await found(owner, **filters, per_page=1) == await found(owner, **filters), filters
    assert await found(owner, label="site", per_page=1) == ["S-1", "W-1"]
    assert await found(owner, space_id=owner.space_id, search="n-") == ["N-1"]
    await owner.pool.execute("UPDATE device_standings SET seen_at = '-infinity'")
    monkeypatch.setattr(fleet_store, "STEP", 1)
    monkeypatch.setattr(fleet_store, "EXAMINED_MAX", 2)
    first = await owner.call("GET", "/devices", seen_before=NOW.isoformat(), per_page=1)
    assert (first["items"], first["has_next_page"]) == ([], True)
    assert await found(owner, seen_before=NOW.isoformat()) == ["N-1"]


async def test_a_device_is_never_listed_as_what_it_is_no_more(fleet_of_five: Owner) -> None:
    """How devices are seen is kept a moment behind: what is found by it is compared with the truth."""
    owner = fleet_of_five
    await owner.pool.execute("UPDATE device_state SET offline = false")
    assert await found(owner, status="offline") == []
    assert await found(owner, status="ok", per_page=1) == ["P-1"]
    await owner.pool.execute("INSERT INTO standings_due (device_id) SELECT id FROM devices")
    await owner.settled()
    assert await found(owner, status="ok") == ["P-1", "S-1"]


async def test_a_list_is_whole_before_anything_is_kept_of_its_devices(fleet_of_five: Owner) -> None:
    """As after an update of the gateway: devices are looked at themselves, and not counted yet."""
    owner = fleet_of_five
    for table in ("device_standings", "device_labels", "standings_due"):
        await owner.pool.execute(f"DELETE FROM {table}")
    await owner.pool.execute("INSERT INTO standings_due DEFAULT VALUES")
    assert await found(owner, status="error") == ["B-1"]
    assert await found(owner, label="site", status="warning") == ["W-1"]
    assert await found(owner, seen_before=NOW.isoformat()) == ["N-1"]
    assert (await owner.call("GET", "/devices/counts"))["counted_at"] is None
    await owner.settled()
    assert await found(owner, label="site", status="warning") == ["W-1"]
    assert (await owner.call("GET", "/devices/counts"))["total"] == 5


async def test_a_list_tells_how_many_it_has(fleet_of_five: Owner, monkeypatch: pytest.MonkeyPatch) -> None:
    """As far as that is found out by looking at a bounded number of devices."""

    async def told(**filters: Any) -> tuple[int | None, bool]:
        return await fleet_store.tally(fleet_of_five.pool, fleet_of_five.organization_id, Filters(**filters))

    assert await told(label=("site", None)) == (2, True)
    assert await told(label=("site", "Oslo"), status="offline") == (1, True)
    assert await told(search="pump", firmware_version="1.0.0") == (2, True)
    monkeypatch.setattr(fleet_filters, "FEW", 1)
    assert await told(firmware_version="1.0.0") == (1, False)
    assert await told(firmware_version="1.0.0", search="p") == (None, False)
    assert await told(search="p-1", firmware_version="1.0.0") == (1, True)


async def test_a_search_finds_nothing_of_another_tenant(fleet_of_five: Owner, globex: Owner) -> None:
    """Neither by a whole MAC nor by an id."""
    for text in ("02:aa:00:00:00:01", "ABC-1", str(fleet_of_five.devices[0]), "P"):
        assert await found(globex, search=text) == []


async def test_devices_are_counted_by_how_they_are_seen(fleet_of_five: Owner, globex: Owner) -> None:
    """Those of one project, too; and spaces know how many are in them and below."""
    counts = await fleet_of_five.call("GET", "/devices/counts")
    assert counts["by_status"] == dict.fromkeys(("ok", "offline", "error", "warning", "never_seen"), 1)
    assert counts["total"] == 5
    of_project = await fleet_of_five.call("GET", "/devices/counts", project_id=fleet_of_five.project_id)
    assert of_project["total"] == 5
    assert (await globex.call("GET", "/devices/counts"))["total"] == 0
    assert (await fleet_of_five.call("GET", "/devices/counts", project_id=globex.project_id))[0] == 404
    tree = await fleet_of_five.call("GET", "/spaces/tree")
    assert [(one["name"], one["devices"]) for one in tree["children"]] == [("Hall", 5)]


async def test_a_fleet_is_counted_by_one_caller_at_a_time(
    fleet_of_five: Owner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others are told what was counted last, and when; and what was just counted is not counted again."""
    monkeypatch.setattr(fleet, "KEPT_S_MIN", 60)
    first = await fleet_of_five.call("GET", "/devices/counts")
    await fleet_of_five.device()
    assert await fleet_of_five.call("GET", "/devices/counts") == first
