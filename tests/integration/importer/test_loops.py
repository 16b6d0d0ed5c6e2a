"""Lists of lists, and lists that say little: a request for each site, or for each device."""

from typing import Any

import pytest
from aiohttp import web
from imports import Imports
from vendors import manifest

PARENT = "'\"$parent\".name'"
SITES = (
    ('path = "/devices"', 'path = "/sites/{site}/devices"'),
    ("[list.paging]", '[list.for_each]\npath = "/sites"\nitems = "sites"\nvalues = {site = "id"}\n[list.paging]'),
    ('"space"', PARENT),
)
DETAIL = (
    (
        "[device]",
        '[detail]\npath = "/sites/{site}/devices/{id}"\nitem = "device"\nvalues = {site = "site"}\n[device]',
    ),
    ('firmware = "firmware"', "firmware = '\"$detail\".version'"),
    ('serial = "serial"', "serial = '\"$detail\".serial'"),
)


def _write(imports: Imports, kind: str, *changes: tuple[str, str], total: bool = False) -> None:
    text = manifest(kind, total=total)
    for was, now in changes:
        assert was in text
        text = text.replace(was, now)
    (imports.cloud.folder / "acme.toml").write_text(text)


class Sites:
    """A cloud whose devices lie in sites; `refused` maps a path to the status of its answer."""

    def __init__(self, **sites: list[str]) -> None:
        self.sites = sites
        self.names: list[Any] = list(sites)
        self.totals: dict[str, int] = {}
        self.refused: dict[str, int] = {}

    def __call__(self, request: web.Request, _: int) -> web.Response:
        if request.path in self.refused:
            return web.json_response({"error": "no"}, status=self.refused[request.path])
        if request.path == "/sites":
            return web.json_response({"sites": [{"id": n, "name": f"Site {n}"} for n in self.names]})
        name = request.path.split("/")[2]
        page = int(request.query.get("page", 1))
        units = self.sites[name][(page - 1) * 2 : page * 2]
        total = self.totals.get(name, len(self.sites[name]))
        return web.json_response({"devices": [{"id": unit} for unit in units], "total": total})


async def test_devices_of_each_site_with_the_sites_name_as_space(imports: Imports) -> None:
    """Each list has its own pages and total; a site without devices ends nothing."""
    _write(imports, "page", *SITES, total=True)
    imports.cloud.before = Sites(oslo=["a", "b", "c"], empty=[], rome=["d"])
    connector = await imports.connector()
    run = await imports.sync(connector)
    assert (run["error"], run["created"]) == (None, 4)
    rows = await imports.pool.fetch("SELECT vendor_id, space FROM cloud_devices ORDER BY vendor_id")
    assert [tuple(row) for row in rows] == [
        ("a", "Site oslo"),
        ("b", "Site oslo"),
        ("c", "Site oslo"),
        ("d", "Site rome"),
    ]


@pytest.mark.parametrize("status", [403, 404, 500])
async def test_one_site_that_cannot_be_read_fails_the_run(imports: Imports, status: int) -> None:
    """Its devices are not gone; and credentials that were good for the sites are not refused."""
    _write(imports, "none", *SITES)
    sites = Sites(oslo=["a", "b"], rome=["d"])
    imports.cloud.before = sites
    connector = await imports.connector()
    await imports.sync(connector)
    sites.refused = {"/sites/rome/devices": status}
    run = await imports.sync(connector)
    assert (str(status) in run["error"], run["excluded"]) == (True, 0)
    shown = await imports.shown(connector)
    assert (shown["status"], shown["active_devices"]) == ("Active", 3)


async def test_a_total_counts_for_its_own_site(imports: Imports) -> None:
    """What one site lacks no other makes up for."""
    _write(imports, "page", *SITES, total=True)
    sites = Sites(oslo=["a", "b"], rome=["c", "d", "e"])
    sites.totals = {"oslo": 3, "rome": 2}
    imports.cloud.before = sites
    run = await imports.sync(await imports.connector())
    assert "the vendor counts 3 devices and listed 2" in run["error"]


async def test_a_site_that_does_not_say_which_it_is_fails_the_run(imports: Imports) -> None:
    _write(imports, "none", *SITES)
    sites = Sites(oslo=["a"])
    sites.names = ["oslo", None]
    imports.cloud.before = sites
    assert "no site at `id`" in (await imports.sync(await imports.connector()))["error"]


async def test_a_device_in_two_sites_excludes_nothing(imports: Imports) -> None:
    """It may be one that moves from one to the other just now, and another the other way."""
    _write(imports, "none", *SITES)
    imports.cloud.before = Sites(oslo=["a", "b"], rome=["c"])
    connector = await imports.connector()
    await imports.sync(connector)
    imports.cloud.before = Sites(oslo=["a", "c"], rome=["c"])
    run = await imports.sync(connector)
    assert (run["error"], run["excluded"]) == (None, 0)
    assert run["details"]["nothing_excluded"] == ["the vendor lists devices on several pages"]


async def test_lists_of_lists_of_lists(imports: Imports) -> None:
    """The sites of each organization, and the devices of each site."""
    loops = '[list.for_each]\npath = "/orgs/{org}/sites"\nitems = "sites"\n'
    loops += 'values = {site = "id", of = \'"$parent".id\'}\n'
    loops += '[list.for_each.for_each]\npath = "/orgs"\nitems = "orgs"\nvalues = {org = "id"}\n[list.paging]'
    _write(imports, "none", ('path = "/devices"', 'path = "/of/{of}/{site}"'), ("[list.paging]", loops))
    answers = {
        "/orgs": {"orgs": [{"id": 1}, {"id": "a/b"}]},
        "/orgs/1/sites": {"sites": [{"id": "x"}]},
        "/orgs/a%2Fb/sites": {"sites": [{"id": "y"}, {"id": "z"}]},
    }
    imports.cloud.before = lambda request, _: web.json_response(
        answers.get(request.raw_path, {"devices": [{"id": request.raw_path}]})
    )
    connector = await imports.connector()
    assert (await imports.sync(connector))["error"] is None
    assert set(await imports.devices(connector)) == {"/of/1/x", "/of/a%2Fb/y", "/of/a%2Fb/z"}


async def test_what_only_a_request_for_the_device_tells(imports: Imports) -> None:
    """The list names devices; serial number and firmware are in an answer of their own."""
    _write(imports, "none", *DETAIL)

    def before(request: web.Request, _: int) -> Any:
        if request.path == "/devices":
            return web.json_response({"devices": [{"id": "a/1", "site": "x"}, {"id": "b", "site": "y"}]})
        return web.json_response({"device": {"version": "2.1", "serial": request.raw_path}})

    imports.cloud.before = before
    connector = await imports.connector()
    assert (await imports.sync(connector))["created"] == 2
    rows = await imports.pool.fetch("SELECT sn, firmware_version FROM devices ORDER BY sn")
    assert [tuple(row) for row in rows] == [("/sites/x/devices/a%2F1", "2.1"), ("/sites/y/devices/b", "2.1")]


@pytest.mark.parametrize(
    "answer", [{"status": 404}, {"status": 403}, {"status": 500}, {"text": '{"device": null}'}, {"text": "[]"}]
)
async def test_a_device_without_details_stops_none_and_stays_as_it_was(
    imports: Imports, answer: dict[str, Any]
) -> None:
    """It is neither gone nor emptied; the run says which one it is."""
    _write(imports, "none", *DETAIL)
    bad: dict[str, Any] = {}

    def before(request: web.Request, _: int) -> Any:
        if request.path == "/devices":
            return web.json_response({"devices": [{"id": "a", "site": "x"}, {"id": "b", "site": "x"}]})
        if bad and request.path.endswith("/b"):
            return web.Response(content_type="application/json", **bad)
        return web.json_response({"device": {"version": "2", "serial": request.path}})

    imports.cloud.before = before
    connector = await imports.connector()
    await imports.sync(connector)
    bad.update(answer)
    run = await imports.sync(connector)
    assert (run["error"], run["excluded"], run["skipped"]) == (None, 0, 1)
    assert (run["details"]["skips"][0]["vendor_id"], "details" in run["details"]["skips"][0]["reason"]) == ("b", True)
    assert await imports.pool.fetchval("SELECT count(*) FROM devices WHERE firmware_version = '2' AND sn <> ''") == 2


async def test_a_list_of_nothing_but_ids(imports: Imports) -> None:
    """Made objects by the expression, each with its details."""
    _write(imports, "none", ('items = "devices"', 'items = "ids[].{id: @, site: @}"'), *DETAIL)
    imports.cloud.before = lambda request, _: web.json_response(
        {"ids": ["a", "b"]} if request.path == "/devices" else {"device": {"serial": request.path}}
    )
    connector = await imports.connector()
    assert (await imports.sync(connector))["created"] == 2
    assert set(await imports.devices(connector)) == {"a", "b"}
