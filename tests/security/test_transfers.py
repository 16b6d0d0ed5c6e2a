"""A device that gets another owner is that owner's alone: nothing of the one before stays above or below it."""

from edges import RunningEdge
from owners import Owner

from gateway.stores.change import change
from gateway.stores.devices import moving


async def test_a_device_parts_from_its_parent_and_from_children_that_stay(
    edge: RunningEdge, acme: Owner, globex: Owner
) -> None:
    """Its old owner's gateway device is handed none of its commands, and deleting it deletes nothing of another's."""
    parent, near = (
        await acme.device(),
        await acme.call("POST", "/spaces", {"name": "Near", "project_id": str(acme.project_id)}),
    )
    device = await acme.device(parent_id=parent)
    along, stays = await acme.device(parent_id=device), await acme.device(parent_id=device, space_id=near["id"])
    async with change(edge.services) as changed:
        await moving.move(
            changed, acme.organization_id, device, globex.space_id, to_organization_id=globex.organization_id
        )
    rows = {one: await acme.row(one) for one in (device, along, stays)}
    assert [rows[one]["parent_id"] for one in (device, along, stays)] == [None, device, None]
    await globex.call("POST", f"/devices/{device}/commands", {"command": "reboot"})
    for above in (parent, stays):
        key = edge.services.access_keys.issue(str(above), 0)
        status, waiting = await acme.ask("GET", f"/v1/devices/{above}/command/pending_commands", None, key)
        assert (status, [one for one in waiting if one.get("device_id") == str(device)]) == (200, [])
    await acme.partner("DELETE", f"/devices/{parent}")
    assert (await acme.row(device))["deleted_at"] is None
    await globex.call("DELETE", f"/devices/{device}")
    assert (await acme.row(stays))["deleted_at"] is None


async def test_a_device_that_stays_its_owners_keeps_its_family(edge: RunningEdge, acme: Owner) -> None:
    """Moving within an organization parts nobody."""
    project = await acme.call("POST", "/projects", {"name": "Other"})
    space = await acme.call("POST", "/spaces", {"name": "Far", "project_id": project["id"]})
    parent = await acme.device()
    device = await acme.device(parent_id=parent)
    await acme.call("POST", f"/devices/{device}/move", {"space_id": space["id"]})
    assert (await acme.row(device))["parent_id"] == parent
