"""The vendor's side: devices of its own models, whoever owns them, to read and to delete."""

from typing import Any

from owners import Owner, ago

from schemas import ids, keys


async def test_a_partner_sees_the_devices_of_its_models_whoever_owns_them(acme: Owner, globex: Owner) -> None:
    """Claimed by others, unclaimed, filtered by model, serial and MAC; not the devices it owns of other makes."""
    sold = await globex.device(model_id=acme.model_id, mac="02:aa:00:00:00:01")
    unsold = await acme.device(claimed=False, sn="U1")
    other = await acme.call("POST", "/models", {"vendor": "Acme", "name": "Other"})
    third = await acme.device(claimed=False, model_id=other["id"])
    await acme.device(model_id=globex.model_id)

    async def listed(**query: Any) -> list[str]:
        return [device["id"] for device in (await acme.partner("GET", "/devices", **query))["items"]]

    assert await listed() == sorted(str(one) for one in (sold, unsold, third))
    assert await listed(model_id=other["id"]) == [str(third)]
    assert await listed(sn="U1") == [str(unsold)]
    assert await listed(mac="02-AA-00-00-00-01") == [str(sold)]
    assert await listed(sn="U1", mac="02-AA-00-00-00-01") == []
    for model_id in (globex.model_id, ids.new_id()):
        assert await acme.partner("GET", "/devices", model_id=model_id) == (404, "Model not found")
    assert await acme.partner("GET", "/devices", mac="nonsense") == (422, "Mac is not a MAC address")
    first = await acme.partner("GET", "/devices", per_page=2)
    second = await acme.partner("GET", "/devices", per_page=2, page=first["next_page"])
    assert [one["id"] for one in first["items"] + second["items"]] == await listed()
    shown = await acme.partner("GET", f"/devices/{unsold}")
    assert (shown["status"], shown["space"], shown["claimed_at"]) == ("offline", None, None)


async def test_a_partner_key_shows_whose_it_is_and_how_cloud_ids_begin(acme: Owner, globex: Owner) -> None:
    """Name, short code and counts of what it makes, whoever owns it; an organization's key shows the same code."""
    await globex.device(model_id=acme.model_id)
    await acme.device(claimed=False)
    await acme.device(model_id=globex.model_id)
    shown, own = await acme.partner("GET", "/info"), await acme.call("GET", "/info")
    assert shown.pop("counts") == {"models": 1, "devices": 2}
    assert shown["short_code"]
    assert shown == {name: own[name] for name in ("id", "name", "short_code", "created_at")}


async def test_a_partner_reads_state_config_commands_and_history(acme: Owner, globex: Owner) -> None:
    """The same representations as the owner's, whatever project the device was in."""
    device_id = await acme.device(claimed=False)
    await acme.message(device_id, ago(minutes=3), telemetries={"n": 1})
    await acme.pool.execute(
        """UPDATE devices SET organization_id = $2, project_id = $3, space_id = $4, claimed_at = now() WHERE id = $1""",
        device_id,
        globex.organization_id,
        globex.project_id,
        globex.space_id,
    )
    await acme.message(device_id, ago(minutes=2), telemetries={"n": 2})
    await acme.seen(device_id, "online", n=2)
    sent = await globex.call("POST", f"/devices/{device_id}/commands", {"command": "reboot"})
    config = await globex.call("PUT", f"/devices/{device_id}/config", {"config": {"a": 1}})
    path = f"/devices/{device_id}"
    telemetries = await acme.partner("GET", f"{path}/telemetries")
    assert telemetries == {
        "device_id": str(device_id),
        "telemetries": {"n": 2, "status": "online"},
        "timestamp": "2026-05-04T12:00:00Z",
        "last_seen_at": "2026-05-04T12:00:00Z",
    }
    assert await acme.partner("GET", f"{path}/config") == config
    assert (await acme.partner("GET", f"{path}/commands"))["items"] == [sent]
    history = await acme.partner("GET", f"{path}/history", per_page=1)
    assert (history["items"][0]["telemetries"], history["next_page"]) == ({"n": 2}, 2)
    history = await acme.partner("GET", f"{path}/history", per_page=1, page=2)
    assert (history["items"][0]["telemetries"], history["next_page"]) == ({"n": 1}, None)
    assert len((await globex.call("GET", "/devices/histories"))["items"]) == 1


async def test_a_partner_cannot_send_commands(acme: Owner) -> None:
    """There is no such call."""
    path = f"/core/v1/partner/devices/{await acme.device()}/commands"
    async with acme.http.post(
        acme.url + path, json={"command": "reboot"}, headers={"authorization": acme.partner_key}
    ) as answer:
        assert answer.status == 405


async def test_a_partner_deletes_a_device_of_its_model(edge: Any, acme: Owner, globex: Owner) -> None:
    """Its keys end; the owner does not have it any more."""
    device_id = await globex.device(model_id=acme.model_id)
    assert await acme.partner("DELETE", f"/devices/{device_id}") == {"success": True}
    assert await acme.partner("DELETE", f"/devices/{device_id}") == (404, "Device not found")
    assert await globex.call("GET", f"/devices/{device_id}") == (404, "Device not found")
    shard = (await acme.row(device_id))["shard"]
    assert (await edge.services.redis.hget(keys.reply(shard), str(device_id))).endswith(b"x")
