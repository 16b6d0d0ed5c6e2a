"""What a vendor does for its customers: it makes organizations, and reads the history of its devices."""

from datetime import datetime, timedelta

import pytest
from owners import Owner, ago

from gateway.partner import organizations


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
    """By device, model, serial number, status and time; nothing of others' models, and of no more than 20 at once."""
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
    for _ in range(19):
        await acme.device()
    assert await acme.partner("GET", path) == (422, "Device id must be given: more than 20 devices fit")
