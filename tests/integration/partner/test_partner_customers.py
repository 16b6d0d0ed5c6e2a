"""What a vendor does for its customers: it makes organizations, and reads the history of its devices."""

from datetime import datetime, timedelta
from uuid import UUID

import pytest
from owners import Owner, ago

from gateway.partner import histories, organizations


async def test_a_vendor_makes_an_organization_that_trusts_it(acme: Owner) -> None:
    """Its key is the customer's; the vendor sees nothing of it."""
    made = await acme.partner("POST", "/organizations", {"name": "Customer"})
    info = await acme.call("GET", "/info", key=made["organization_key"])
    assert (info["id"], info["name"], info["short_code"]) == (made["id"], "Customer", made["short_code"])
    trusted = await acme.call("GET", "/partners", key=made["organization_key"])
    assert [one["id"] for one in trusted["items"]] == [str(acme.organization_id)]
    project = await acme.call("POST", "/projects", {"name": "Main"}, key=made["organization_key"])
    assert (await acme.call("GET", f"/projects/{project['id']}"))[0] == 404
    assert (await acme.partner("POST", "/organizations", {"name": ""}))[0] == 422


async def test_a_vendor_makes_so_many_organizations(acme: Owner, monkeypatch: pytest.MonkeyPatch) -> None:
    """And no more, of which nothing is left."""
    monkeypatch.setattr(organizations, "MADE_MAX", 2)
    for _ in range(2):
        assert (await acme.partner("POST", "/organizations", {"name": "Customer"}))["name"] == "Customer"
    assert (await acme.partner("POST", "/organizations", {"name": "Customer"}))[0] == 422
    assert await acme.pool.fetchval("SELECT count(*) FROM organizations WHERE name = 'Customer'") == 2


async def test_a_vendor_reads_the_histories_of_its_devices(acme: Owner, globex: Owner) -> None:
    """By device, model, serial number, status and time; nothing of others' models."""
    first, second, foreign = await acme.device(sn="S1"), await acme.device(claimed=False), await globex.device()
    moments = [ago(minutes=n) for n in range(4)]
    for device_id, moment, status in zip(
        (first, second, first, foreign), moments, ("online", "error", "error", "online"), strict=True
    ):
        await acme.message(device_id, moment, telemetries={"n": 1}, status=status)
    since = datetime.timestamp(moments[-1] - timedelta(minutes=1))
    path = "/devices/histories"
    for query, wanted in (
        ({}, [first, second, first]),
        ({"device_id": first}, [first, first]),
        ({"sn": " s1 ".strip().upper()}, [first, first]),
        ({"model_id": acme.model_id, "status": "error"}, [second, first]),
        ({"per_page": 1, "page": 2}, [second]),
    ):
        items = (await acme.partner("GET", path, since=since, **query))["items"]
        assert [item["device_id"] for item in items] == [str(device_id) for device_id in wanted], query
    assert await acme.partner("GET", path, device_id=foreign) == (404, "Device not found")
    assert await acme.partner("GET", path, model_id=globex.model_id) == (404, "Model not found")


async def test_a_vendor_reads_the_histories_of_however_many_devices(
    acme: Owner, globex: Owner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of every device, once: some devices at a time, newest first among these; a page costs the same always."""
    monkeypatch.setattr(histories, "GROUP", 2)
    other = UUID((await acme.call("POST", "/models", {"vendor": "Acme", "name": "Other"}))["id"])
    devices = [await acme.device(model_id=other if n % 2 else acme.model_id) for n in range(5)]
    await globex.message(await globex.device(), ago(minutes=1), telemetries={"n": 99})
    for n in range(9):
        await acme.message(devices[n % 4], ago(minutes=n + 1), telemetries={"n": n})
    groups = [[0, 1, 4, 5, 8], [2, 3, 6, 7], []]
    for per_page, pages in ((50, groups), (2, [[0, 1], [4, 5], [8], [2, 3], [6, 7], []])):
        found: list[list[int]] = []
        page: int | None = 1
        while page:
            answer = await acme.partner("GET", "/devices/histories", page=page, per_page=per_page)
            assert answer["has_next_page"] is (answer["next_page"] is not None)
            found.append([item["telemetries"]["n"] for item in answer["items"]])
            page = answer["next_page"]
        assert found == pages
    of_model = await acme.partner("GET", "/devices/histories", model_id=other)
    assert [item["telemetries"]["n"] for item in of_model["items"]] == [1, 3, 5, 7]
