"""`fleetgate admin connectors check`: what a person sees who writes a manifest."""

import asyncio
import os
import sys
from typing import Any

import pytest
from aiohttp import web
from vendors import VendorCloud, manifest

OPEN = {"FLEETGATE_EGRESS_HTTP": "true", "FLEETGATE_EGRESS_ALLOW": "127.0.0.0/8"}


async def check(
    cloud: VendorCloud, token: str = "", *, changed: tuple[str, str] = ("", ""), egress: Any = OPEN
) -> tuple[int | None, str, str]:
    """Exit code, table, and what is said beside it. `changed` is replaced in the manifest."""
    (cloud.folder / "acme.toml").write_text(manifest().replace(*changed))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "workers.importer.check", str(cloud.folder / "acme.toml")),
        env={**os.environ, **egress},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    lines = f"url={cloud.url}\ntoken={token or cloud.token}\n"
    table, told = await process.communicate(lines.encode())
    return process.returncode, table.decode(), told.decode()


async def test_a_good_manifest_shows_the_first_devices(cloud: VendorCloud) -> None:
    cloud.devices = [
        {"id": 7, "name": "Hall", "serial": "S7", "online": True, "temperature": 21.5},
        {"name": "Nobody"},
        {"name": "Nothing", "serial": 1},
    ]
    code, table, told = await check(cloud)
    assert code == 0
    [head, row] = table.splitlines()
    assert head.split() == ["vendor_id", "name", "serial", "mac", "model", "firmware", "space", "telemetry"]
    assert row.split(maxsplit=3) == ["7", "Hall", "S7", "online, temperature 21.5"]
    assert "3 items in a complete list; 2 are no devices\n  2 ×: has no id\n" in told
    assert "the first of them has the members name" in told
    assert cloud.token not in table + told


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"token": "wrong"}, "The vendor refused the credentials: it answered 401"),
        ({"changed": ('items = "devices"', 'items = "device"')}, "has no list at `device`"),
        ({"changed": ('kind = "page"', 'kind = "pages"')}, "line 17: list.paging.kind: Invalid value 'pages'"),
        ({"changed": ('"{token}"', '"{key}"')}, "line 11: authentication.token: there is no setting or credential key"),
        ({"egress": {}}, "FLEETGATE_EGRESS_ALLOW and FLEETGATE_EGRESS_HTTP say where connections may lead"),
    ],
)
async def test_a_mistake_is_told_in_a_sentence(cloud: VendorCloud, arguments: dict[str, Any], sentence: str) -> None:
    code, table, told = await check(cloud, **arguments)
    assert (code, table, sentence in told) == (1, "", True), told
    assert "Traceback" not in told


async def test_the_vendors_own_words_are_shown(cloud: VendorCloud) -> None:
    """To the person at the terminal, in one line; they are in no run and no log."""
    cloud.before = lambda *_: web.Response(status=400, text="<b>Unknown field</b>\n`sites`", content_type="text/html")
    code, _, told = await check(cloud)
    assert (code, "answered 400" in told) == (1, True)
    assert "the vendor's own words: Unknown field `sites`" in told


@pytest.mark.parametrize("devices", [[], [{"name": "No id"}], ["nothing"]])
async def test_a_check_that_could_read_no_device_fails(cloud: VendorCloud, devices: list[Any]) -> None:
    cloud.devices = devices
    code, _, told = await check(cloud)
    assert (code, "no device could be read" in told) == (1, True)


async def test_an_expression_that_does_not_fit_is_named(cloud: VendorCloud) -> None:
    """A run finds nothing there, and says nothing."""
    cloud.devices = [{"id": "7", "name": "Hall", "serial": 5}]
    code, _, told = await check(cloud, changed=('serial = "serial"', 'serial = "length(serial)"'))
    assert code == 0
    assert "device.serial: `length(serial)` does not fit the vendor's items: In function length()" in told


async def test_a_list_that_is_not_complete_fails(cloud: VendorCloud) -> None:
    cloud.has("one", "two")
    cloud.total = 3
    code, _, told = await check(cloud, changed=('items = "devices"', 'items = "devices"\ntotal = "total"'))
    assert (code, "the vendor counts 3 devices and listed 2" in told) == (1, True)


@pytest.mark.parametrize("path", ["/values", "/devices/{id}"])
async def test_telemetry_with_a_request_of_its_own_is_read_too(cloud: VendorCloud, path: str) -> None:
    """And a check that finds none of it fails."""
    value: Any = 21.5
    cloud.has("one", "two")
    cloud.before = lambda request, _: (
        None if request.path == "/devices" else web.json_response([{"id": "one", "temperature": value}])
    )
    own = f'[telemetry.list]\npath = "{path}"\nitems = "@"\n[telemetry.values]'
    changed = ('online = "online"\n[telemetry.values]', own)
    code, table, _ = await check(cloud, changed=changed)
    assert (code, table.splitlines()[1].split()[-2:]) == (0, ["temperature", "21.5"])
    value = None
    code, _, told = await check(cloud, changed=changed)
    assert (code, "no telemetry could be read" in told) == (1, True)
