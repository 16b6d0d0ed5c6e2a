"""The config of a device, edited by its owner."""

from typing import Any

from owners import Owner, outbox

from schemas import keys


async def test_each_edit_is_the_next_version_and_the_device_is_told(edge: Any, acme: Owner) -> None:
    """Versions only grow, by one an edit."""
    device_id = await acme.device(name="Door")
    path = f"/devices/{device_id}/config"
    never = await acme.call("GET", path)
    assert never == {
        "name": "Door",
        "version": 0,
        "last_updated": None,
        "config": {},
        "device_id": str(device_id),
        "applied_version": 0,
        "applied_config": None,
    }
    for version in (1, 2):
        stored = await acme.call("PUT", path, {"config": {"interval": version}})
        assert (stored["version"], stored["config"]) == (version, {"interval": version})
        assert await acme.call("GET", path) == stored
    assert await outbox(acme.pool) == [("configChanged", device_id)] * 2
    shard = (await acme.row(device_id))["shard"]
    assert b'"config_version":2' in await edge.services.redis.hget(keys.reply(shard), str(device_id))


async def test_its_owner_is_told_what_the_device_runs(acme: Owner) -> None:
    """While a newer version waits, too; what an unknown version said is not known."""
    device_id = await acme.device()
    path, applied = f"/devices/{device_id}/config", "UPDATE devices SET applied_config_version = $2 WHERE id = $1"
    for version, config in enumerate(({"interval": 1}, {"interval": 2}), start=1):
        stored = await acme.call("PUT", path, {"config": config})
        assert (stored["applied_version"], stored["applied_config"]) == (
            (0, None) if version == 1 else (1, {"interval": 1})
        )
        await acme.pool.execute(applied, device_id, version)
        read = await acme.call("GET", path)
        assert (read["applied_version"], read["applied_config"]) == (version, config)


async def test_an_edit_of_an_old_version_is_refused(acme: Owner) -> None:
    """Who names the version that was edited does not overwrite somebody else's edit."""
    path = f"/devices/{await acme.device()}/config"
    assert (await acme.call("PUT", path, {"config": {}, "version": 0}))["version"] == 1
    answer = await acme.call("PUT", path, {"config": {}, "version": 0})
    assert answer == (422, "Error setting config with old version, latest is 1")
    assert (await acme.call("PUT", path, {"config": {}, "version": 2}))[0] == 422


async def test_a_config_that_does_not_fit_is_refused(acme: Owner) -> None:
    """A config is an object of bounded size and depth."""
    path = f"/devices/{await acme.device()}/config"
    deep: list[Any] = []
    for _ in range(40):
        deep = [deep]
    assert await acme.call("PUT", path, {}) == (422, "Config can't be blank")
    assert (await acme.call("PUT", path, {"config": [1]}))[0] == 422
    assert (await acme.call("PUT", path, {"config": {"a": deep}}))[0] == 422
    assert (await acme.call("PUT", path, {"config": {"a": "x" * 140_000}}))[0] == 413
    assert (await acme.call("PUT", path, {"config": {"a": "\0"}}))[0] == 422


async def test_configs_are_listed_and_found_as_devices_are(acme: Owner, globex: Owner) -> None:
    """Filters and paging as for devices: of a model, a space, a name; each with what its device runs."""
    first, second = await acme.device(name="Door"), await acme.device(name="Gate")
    await globex.device()
    await acme.call("PUT", f"/devices/{second}/config", {"config": {"interval": 5}})
    listed = await acme.call("GET", "/configs")
    assert [one["device_id"] for one in listed["items"]] == [str(first), str(second)]
    assert listed["items"][1] == await acme.call("GET", f"/devices/{second}/config")
    page = await acme.call("GET", "/configs", per_page=1)
    assert (page["next_page"], page["items"]) == (2, listed["items"][:1])
    assert (await acme.call("GET", "/configs", per_page=1, page=2))["items"] == listed["items"][1:]
    for query in ({"search": "gat"}, {"model_id": acme.model_id, "search": "gate"}):
        assert (await acme.call("GET", "/configs", **query))["items"] == listed["items"][1:], query
    assert (await acme.call("GET", "/configs", space_id=globex.space_id))[0] == 404
    assert (await acme.call("GET", "/configs", per_page=101))[0] == 422
