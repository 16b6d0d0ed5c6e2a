"""Shapes of vendors' lists that a manifest can say."""

from typing import Any

from aiohttp import web
from imports import Imports
from vendors import manifest


def _write(imports: Imports, kind: str, *changes: tuple[str, str]) -> None:
    text = manifest(kind)
    for was, now in changes:
        assert was in text
        text = text.replace(was, now)
    (imports.cloud.folder / "acme.toml").write_text(text)


async def test_an_object_of_devices_by_id(imports: Imports) -> None:
    _write(imports, "none", ('items = "devices"', 'items = "devices"\nkey = "id"'))
    imports.cloud.before = lambda *_: web.json_response({"devices": {"a": {"name": "A"}, "b": {"name": "B"}}})
    connector = await imports.connector()
    assert (await imports.sync(connector))["created"] == 2
    assert (await imports.devices(connector))["b"]["name"] == "B"


async def test_devices_inside_sites_with_the_sites_name_as_space(imports: Imports) -> None:
    """A site without devices does not end the list."""
    changes = (('items = "devices"', 'items = "sites"\ninside = "units"'), ('"space"', "'\"$parent\".name'"))
    _write(imports, "page", *changes)
    sites = [
        {"name": "Oslo", "units": [{"id": "a"}, {"id": "b"}]},
        {"name": "Empty", "units": []},
        {"name": "None", "units": None},
        {"name": "Rome", "units": [{"id": "c"}]},
    ]
    imports.cloud.before = lambda request, _: web.json_response(
        {"sites": sites[int(request.query["page"]) - 1 : int(request.query["page"])]}
    )
    connector = await imports.connector()
    assert (await imports.sync(connector))["created"] == 3
    rows = await imports.pool.fetch("SELECT vendor_id, space FROM cloud_devices")
    assert {row["vendor_id"]: row["space"] for row in rows} == {"a": "Oslo", "b": "Oslo", "c": "Rome"}


async def test_a_page_in_the_path(imports: Imports) -> None:
    _write(imports, "page", ('path = "/devices"', 'path = "/devices/{page}/list"'))
    imports.cloud.before = lambda request, _: web.json_response(
        {"devices": [{"id": request.path}] if request.path < "/devices/3" and "page" not in request.query else []}
    )
    connector = await imports.connector()
    assert (await imports.sync(connector))["found"] == 2
    assert set(await imports.devices(connector)) == {"/devices/1/list", "/devices/2/list"}


async def test_a_total_and_a_cursor_in_headers(imports: Imports) -> None:
    """The total counts as any does."""
    changes = (
        ('items = "devices"', 'items = "devices"\ntotal_header = "X-Total"'),
        ('cursor = "next"', 'header = "X-Next"'),
    )
    _write(imports, "cursor", *changes)
    total = "2"

    def before(request: web.Request, _: int) -> Any:
        last = "after" in request.query
        headers = {"X-Total": total} if last else {"X-Total": total, "X-Next": "0012"}
        return web.json_response({"devices": [{"id": request.query.get("after", "first")}]}, headers=headers)

    imports.cloud.before = before
    connector = await imports.connector()
    assert (await imports.sync(connector))["error"] is None
    assert set(await imports.devices(connector)) == {"first", "0012"}
    total = "3"
    assert "the vendor counts 3 devices and listed 2" in (await imports.sync(connector))["error"]


async def test_a_token_under_another_name(imports: Imports) -> None:
    bearer = 'kind = "bearer"\ntoken = "{token}"'
    renewable = 'kind = "client_credentials"\ntoken_url = "{url}/token"\nclient_id = "me"\nclient_secret = "{token}"'
    renewable += '\ntoken = "data.jwt"\nlifetime = "data.seconds"'
    _write(imports, "none", (bearer, renewable))

    def before(request: web.Request, _: int) -> Any:
        if request.path == "/token":
            return web.json_response({"data": {"jwt": imports.cloud.token, "seconds": "60"}})
        return None

    imports.cloud.before = before
    imports.cloud.has("one")
    assert (await imports.sync(await imports.connector()))["created"] == 1
