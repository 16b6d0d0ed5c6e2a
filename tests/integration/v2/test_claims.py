"""Claims, as the public client makes them."""

from typing import Any

import disruptive as dt
import pytest
from disruptive import errors
from owners import Owner, outbox
from projects import account_of


async def test_the_client_looks_up_and_claims_devices(edge: Any, acme: Owner) -> None:
    """By what is printed on them: a pair here. Children come along; what is claimed has an id, an event and a space."""
    boss, project = await account_of(acme, "organization.admin"), str(acme.project_id)
    device_id = await acme.device(claimed=False)
    child = await acme.device(claimed=False, parent_id=device_id, vouched_for=True)
    row = await acme.row(device_id)
    printed = f"{row['mac'].upper()}/{row['sn']}"
    info = await boss.client(dt.Claim.claim_info, printed, str(acme.organization_id))
    assert (info.type, info.claimed_item.device_id, info.claimed_item.is_claimed) == ("DEVICE", printed, False)
    tried, failed = await boss.client(dt.Claim.claim, project, device_ids=[printed])
    assert ([device.is_claimed for device in tried], failed) == ([False], [])
    assert (await acme.row(device_id))["organization_id"] is None
    claimed, failed = await boss.client(
        dt.Claim.claim, project, kit_ids=["kit"], device_ids=[printed, "nothing"], dry_run=False
    )
    assert [(device.device_id, device.is_claimed) for device in claimed] == [(str(device_id), True)]
    assert [type(error) for error in failed] == [errors.ClaimErrorDeviceNotFound, errors.ClaimErrorKitNotFound]
    assert (await acme.row(child))["organization_id"] == acme.organization_id
    assert (await acme.call("GET", f"/devices/{device_id}"))["space"]["full_path"] == "Unsorted"
    assert sorted(await outbox(acme.pool)) == sorted([("deviceClaimed", device_id), ("deviceClaimed", child)])
    again = await boss.client(dt.Claim.claim, project, device_ids=[printed], dry_run=False)
    assert [type(error) for error in again[1]] == [errors.ClaimErrorDeviceAlreadyClaimed]
    info = await boss.client(dt.Claim.claim_info, printed)
    assert (info.claimed_item.device_id, info.claimed_item.is_claimed) == (str(device_id), True)


async def test_a_cloud_id_is_a_proof_and_the_id_of_a_device_is_none(acme: Owner, globex: Owner) -> None:
    """Of another organization's devices nothing is told, whatever is shown."""
    boss, project = await account_of(acme, "organization.admin"), str(acme.project_id)
    await acme.pool.execute("UPDATE device_models SET authentication = 'cloud_id' WHERE id = $1", acme.model_id)
    free = await acme.device(claimed=False, mac=None, cloud_id="CID/1")
    theirs = await globex.device()
    row = await globex.row(theirs)
    for unknown in (str(free), str(theirs), f"{row['mac']}/{row['sn']}", f"{row['mac']}/", "/"):
        with pytest.raises(errors.NotFound):
            await boss.client(dt.Claim.claim_info, unknown)
        _, failed = await boss.client(dt.Claim.claim, project, device_ids=[unknown], dry_run=False)
        assert [type(error) for error in failed] == [errors.ClaimErrorDeviceNotFound]
    with pytest.raises(errors.NotFound):
        await boss.client(dt.Claim.claim_info, "CID/1", str(globex.organization_id))
    claimed, _ = await boss.client(dt.Claim.claim, project, device_ids=["CID/1"] * 2, dry_run=False)
    assert [device.device_id for device in claimed] == [str(free)]
