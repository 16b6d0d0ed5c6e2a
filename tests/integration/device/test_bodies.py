"""Bodies as devices' libraries make them: packed, behind a byte order mark, whole numbers as floats."""

import gzip
import json
from collections.abc import Mapping
from typing import Any

import pytest
from fleets import Fleet, Unit

NONE: Mapping[str, str] = {}
GZIP = {"content-encoding": "gzip"}
TELEMETRY = b'{"status":"online"}'


async def post(unit: Unit, path: str, body: bytes, headers: Mapping[str, str] = NONE) -> tuple[int, Any]:
    """One POST of a device, of bytes."""
    url = f"{unit.fleet.owner.url}/v1/devices/{unit.id}{path}"
    async with unit.fleet.owner.http.post(url, data=body, headers={"authorization": unit.key, **headers}) as answer:
        return answer.status, await answer.json()


async def test_packed_bodies_are_taken_on_every_route(fleet: Fleet) -> None:
    """Telemetry, many messages, config; and a registration."""
    unit = await fleet.unit()
    for path, body, accepted in (
        ("/telemetry", TELEMETRY, 201),
        ("/children/telemetries", b'{"%b":%b}' % (unit.id.encode(), TELEMETRY), 201),
        ("/config", b'{"a":1}', 200),
    ):
        for coding in ("gzip", "GZIP", "x-gzip", " gzip\t"):
            status, answer = await post(unit, path, gzip.compress(body), {"content-encoding": coding})
            assert status == accepted, (path, answer)
        half = len(body) // 2
        status, _ = await post(unit, path, gzip.compress(body[:half]) + gzip.compress(body[half:]), GZIP)
        assert status == accepted
        assert (await post(unit, path, body, {"content-encoding": "identity"}))[0] == accepted
    body = gzip.compress(json.dumps(fleet.registration()).encode())
    async with fleet.owner.http.post(f"{fleet.owner.url}/v1/devices", data=body, headers=GZIP) as answer:
        assert answer.status == 201


@pytest.mark.parametrize("path", ["/telemetry", "/children/telemetries", "/config"])
async def test_a_packed_body_is_bounded_by_what_it_unpacks_to(fleet: Fleet, path: str) -> None:
    """413 for a small body that unpacks to a gigabyte's thousandth part or more; 400 for one that is no gzip."""
    unit = await fleet.unit()
    bomb = gzip.compress(b" " * (8 * 2**20))
    assert len(bomb) < 10_000
    status, answer = await post(unit, path, bomb, GZIP)
    assert status == 413, answer
    packed = gzip.compress(TELEMETRY)
    damaged = (TELEMETRY, b"", packed[:-9], packed[:5], packed + b"x", packed[:-8] + bytes(8), packed * 17)
    for body in damaged:
        assert await post(unit, path, body, GZIP) == (400, {"error": "Body is not valid gzip"}), body
    for coding in ("br", "deflate", "zstd", "gzip, gzip"):
        status, answer = await post(unit, path, packed, {"content-encoding": coding})
        text = f"Content-Encoding {coding} is not taken: send gzip, or the body as it is"
        assert (status, answer) == (415, {"error": text})


async def test_a_byte_order_mark_is_ignored_on_every_route(fleet: Fleet) -> None:
    """Also inside a packed body."""
    unit = await fleet.unit()
    mark = b"\xef\xbb\xbf"
    for path, body, accepted in (
        ("/telemetry", TELEMETRY, 201),
        ("/children/telemetries", b'{"%b":%b}' % (unit.id.encode(), TELEMETRY), 201),
        ("/config", b'{"a":1}', 200),
    ):
        assert (await post(unit, path, mark + body))[0] == accepted
        assert (await post(unit, path, gzip.compress(mark + body), GZIP))[0] == accepted


async def test_whole_numbers_are_integers_however_they_are_written(fleet: Fleet) -> None:
    """Lua and ArduinoJson know but one kind of number; half a version is none."""
    unit = await fleet.unit()
    assert await post(unit, "/config", b'{"a":1,"version":2.0}') == (200, {"success": True, "version": 2})
    assert await post(unit, "/config", b'{"a":1,"version":3e0}') == (200, {"success": True, "version": 3})
    status, answer = await post(unit, "/config", b'{"version":3.5}')
    assert (status, answer["error"]) == (422, "Version must be a whole number between 0 and 9007199254740991")
    url = f"{fleet.owner.url}/v1/devices/{unit.id}"
    for body, accepted in (
        (b'{"config_version":3.0,"details":{"height":2.5}}', 200),
        (b'{"config_version":3.0,"space_version":1e0}', 200),
        (b'{"config_version":3.25}', 422),
        (b'{"config_version":1e300}', 422),
        (b'{"config_version":"3"}', 422),
        (b'{"config_version":3.0,"x":1}', 400),
    ):
        async with fleet.owner.http.put(url, data=body, headers={"authorization": unit.key}) as answer:
            assert answer.status == accepted, await answer.text()
    assert (await unit.call("GET"))["details"] == {"height": 2.5}


async def test_a_number_that_no_float_can_hold_is_422(fleet: Fleet) -> None:
    """It is good JSON, but nothing here can keep it; a long integer can be kept."""
    unit = await fleet.unit()
    for number in (b"1e999", b"-1e999", b"9" * 5_000):
        assert await post(unit, "/config", b'{"a":%b}' % number) == (422, {"error": "A number is out of range"})
    assert (await post(unit, "/config", b'{"a":%d}' % 2**70))[0] == 200
    assert (await unit.call("GET", "/config"))["config"] == {"a": 2**70}
