"""The device's side of the protocol takes firmware: piece by piece, checked, installed, reported."""

import functools
from collections import Counter
from typing import Any
from uuid import UUID

import pytest
from campaigns import campaign
from edges import RunningEdge
from fleets import Fleet, fleet_of
from owners import Owner
from test_downloads import DATA, Shelf

from gateway.cli.simulated.client import Device, Memory
from gateway.cli.simulated.firmware import CorruptError, Download, RefusedError
from schemas import download_tokens
from schemas.redis import Redis


@pytest.fixture
async def shelf(acme: Owner) -> Shelf:
    return Shelf(await fleet_of(acme))


def agent(edge: RunningEdge, fleet: Fleet, counts: Counter[str]) -> Device:
    """An agent that has not registered yet."""
    return Device(
        edge.http,
        edge.url,
        fleet.registration(),
        lambda: {"cpu": 1.0},
        memory=Memory(),
        remember=lambda _: None,
        tell=lambda _: None,
        interval_s=1.0,
        counts=counts,
        follow_hub_url=False,
    )


@pytest.mark.parametrize("channel", ["reply", "command"])
async def test_an_agent_takes_the_firmware_that_a_rollout_offers(
    edge: RunningEdge, acme: Owner, shelf: Shelf, redis_client: Redis, channel: str
) -> None:
    """By the answer to its telemetry with a piece each time, by the command in one go; then it reports the version."""
    counts: Counter[str] = Counter()
    device = agent(edge, shelf.fleet, counts)
    await device.step()
    await acme.call("POST", "/devices/claim", _claim(acme, device))
    file_id = UUID(await shelf.file(version="2.0.0"))
    spring = await campaign(acme, redis_client, file_id=file_id, channel=channel)
    spring.url = functools.partial(download_tokens.url, edge.url, edge.services.master_keys)
    await spring.advance(seconds=1)
    seen = []
    while device.memory.firmware_version != "2.0.0":
        await device.step()
        await spring.advance(seconds=1)
        seen.append((await spring.states())[UUID(device.memory.id)])
    await spring.advance(seconds=1)
    assert seen[-1] == "succeeded"
    if channel == "reply":
        assert "downloading" in seen
    assert (await acme.row(UUID(device.memory.id)))["firmware_version"] == "2.0.0"
    assert (counts["firmware installed"], await spring.status()) == (1, "finished")


async def test_a_download_goes_on_where_it_was_cut_off(edge: RunningEdge, shelf: Shelf) -> None:
    """By ranges of the same bytes; what does not add up to the checksum is not installed."""
    unit = await shelf.fleet.unit(claimed=True)
    url = f"{edge.url}/v1/devices/{unit.id}/files/{await shelf.file(version='2.0.0')}/content"
    key = {"authorization": unit.key}
    whole = Download(url, "00" * 32, key, piece_bytes=300_000)
    assert [await whole.piece(edge.http), await whole.piece(edge.http), whole.offset] == [False, False, 600_000]
    await edge.http.get(url)  # nobody else's requests matter to it
    with pytest.raises(CorruptError):
        await whole.piece(edge.http)
    with pytest.raises(RefusedError, match="404"):
        await Download(url + "x", "00" * 32, key).piece(edge.http)
    assert len(DATA) > 600_000


def _claim(acme: Owner, device: Device) -> dict[str, Any]:
    registration = device._registration
    return {"space_id": str(acme.space_id), "mac": registration["mac"], "sn": registration["sn"]}
