"""The manifests that fleetgate comes with, against clouds that answer as the vendors' documentation describes."""

import base64
import re
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from aiohttp import web
from imports import Imports
from owners import owner
from projects import account_of

from schemas.manifests import catalog
from schemas.redis import Redis
from workers.importer.readings import Reader


def _point(imports: Imports, provider: str) -> None:
    """Let the vendor's hosts be the simulated cloud: an operator's manifest of the same name stands before ours."""
    text = (catalog.FOLDER / f"{provider}.toml").read_text()
    (imports.cloud.folder / f"{provider}.toml").write_text(
        re.sub(r'"https://[a-z0-9.-]+', f'"{imports.cloud.url}', text)
    )


def _basic(request: web.Request) -> str:
    return base64.b64decode(request.headers["authorization"].removeprefix("Basic ")).decode()


async def _imported(imports: Imports, provider: str, settings: dict[str, str], **entered: str) -> dict[str, Any]:
    """Run the first sync; the devices by vendor id, as the owner's API shows them."""
    _point(imports, provider)
    connector = await imports.connector(authorised=False, provider=provider, settings=settings)
    await imports.authorise(connector, **entered)
    run = await imports.sync(connector)
    assert (run["error"], run["skipped"]) == (None, 0)
    return {
        vendor_id: await imports.acme.call("GET", f"/devices/{device['device_id']}")
        for vendor_id, device in (await imports.devices(connector)).items()
    }


async def test_zoom_rooms(imports: Imports) -> None:
    async def cloud(request: web.Request, _: int) -> web.Response:
        if request.path == "/oauth/token":
            form = await request.post()
            assert (_basic(request), form["grant_type"], form["account_id"]) == ("id:key", "account_credentials", "acc")
            return web.json_response({"access_token": "t", "token_type": "bearer", "expires_in": 3599})
        assert (request.path, request.headers["authorization"]) == ("/v2/rooms", "Bearer t")
        after = request.query.get("next_page_token", "")
        room = {"id": f"r{after}", "name": f"Room {after}", "room_id": "x", "status": "Available", "location_id": "l"}
        return web.json_response({"page_size": 300, "next_page_token": "" if after else "2", "rooms": [room]})

    imports.cloud.before = cloud
    found = await _imported(imports, "zoom_rooms", {"account_id": "acc"}, client_id="id", client_secret="key")
    assert {name: device["name"] for name, device in found.items()} == {"r": "Room", "r2": "Room 2"}


async def test_poly_lens(imports: Imports) -> None:
    async def cloud(request: web.Request, _: int) -> web.Response:
        if request.path == "/oauth/token":
            form = await request.post()
            assert (form["client_id"], form["client_secret"]) == ("id", "key")
            return web.json_response({"access_token": "t", "expires_in": 86400})
        body = await request.json()
        assert "deviceSearch" in body["query"]
        asked = body["variables"]["params"]
        assert asked["pageSize"] == 1000
        assert body["variables"]["tenantId"] == "t-1"
        number = 2 if asked.get("nextToken") == "two" else 1
        node = {
            "id": f"p{number}",
            "name": f"Studio {number}",
            "connected": True,
            "serialNumber": f"S{number}",
            "macAddress": f"00e0db00000{number}",
            "hardwareModel": "Studio X30",
            "softwareVersion": "4.1.0",
            "site": {"name": "Oslo"},
            "room": None if number == 2 else {"name": "Fjord"},
        }
        info = {"totalCount": 2, "nextToken": "two" if number == 1 else None}
        found = {"deviceSearch": {"edges": [{"node": node}], "pageInfo": info}}
        return web.json_response({"data": {"tenant": {"inventory": found}}})

    imports.cloud.before = cloud
    found = await _imported(imports, "poly_lens", {"tenant_id": "t-1"}, client_id="id", client_secret="key")
    assert (found["p1"]["sn"], found["p1"]["mac"]) == ("S1", "00:e0:db:00:00:01")
    assert found["p1"]["space"]["full_path"].endswith("/Oslo/Fjord")
    assert found["p2"]["space"]["full_path"].endswith("/Oslo")


async def test_bsn_cloud(imports: Imports) -> None:
    async def cloud(request: web.Request, _: int) -> web.Response:
        if request.path.endswith("/token"):
            assert (_basic(request), (await request.post())["grant_type"]) == ("id:key", "client_credentials")
            return web.json_response({"access_token": "t", "expires_in": 300})
        assert (request.path, request.query["pageSize"]) == ("/2022/06/REST/Devices/", "100")
        last = "marker" in request.query
        item = {
            "id": 2 if last else 1,
            "serial": f"BS{last}",
            "model": "XT1144",
            "settings": {"name": "" if last else "Lobby", "group": {"name": "Default"}},
            "status": {"firmware": {"version": "9.0.1"}, "health": "Normal"},
        }
        told = {"items": [item], "totalItemCount": 2, "isTruncated": not last, "nextMarker": "m"}
        return web.json_response(told)

    imports.cloud.before = cloud
    found = await _imported(imports, "bsn_cloud", {}, client_id="id", client_secret="key")
    assert {name: device["name"] for name, device in found.items()} == {"1": "Lobby", "2": "BSTrue"}


async def test_qsys_reflect(imports: Imports) -> None:
    def cloud(request: web.Request, _: int) -> web.Response:
        assert (request.path, request.headers["authorization"]) == ("/api/public/v0/cores", "Bearer t0ken")
        core = {
            "id": 7,
            "serial": "3-ABC",
            "name": "Core",
            "model": "Core 110f",
            "firmware": "9.4",
            "site": {"name": "HQ"},
        }
        return web.json_response([core | {"status": {"code": 0, "message": "OK"}}])

    imports.cloud.before = cloud
    found = await _imported(imports, "qsys_reflect", {}, token="t0ken")
    assert (found["7"]["sn"], found["7"]["space"]["full_path"].endswith("/HQ")) == ("3-ABC", True)


async def test_crestron_xio(imports: Imports) -> None:
    def cloud(request: web.Request, _: int) -> web.Response:
        assert request.path == "/api/v1/device/accountid/acc/devices"
        assert request.headers["XiO-subscription-key"] == "subscribed"
        device = {"device-cid": "c1", "device-name": "TSW-1", "serial-number": "S1", "device-model": "TSW-1070"}
        return web.json_response([device | {"nic-1-mac-address": "00.10.7f.00.00.01", "firmware-version": "3.2"}])

    imports.cloud.before = cloud
    found = await _imported(imports, "crestron_xio", {"account_id": "acc"}, subscription_key="subscribed")
    assert (found["c1"]["name"], found["c1"]["mac"]) == ("TSW-1", "00:10:7f:00:00:01")


async def test_shure_cloud(imports: Imports) -> None:
    async def cloud(request: web.Request, _: int) -> web.Response:
        if request.path == "/token":
            return web.json_response({"access_token": "t", "expires_in": 3600})
        return web.json_response({"data": [{"id": "s1", "name": "MXA920", "serialNumber": "4", "online": True}]})

    imports.cloud.before = cloud
    text = (catalog.FOLDER / "shure_cloud.toml").read_text()
    (imports.cloud.folder / "shure_cloud.toml").write_text(text.replace('"https://[^', '"https?://[^'))
    settings = {"api_url": f"{imports.cloud.url}/v1", "token_url": f"{imports.cloud.url}/token"}
    connector = await imports.connector(authorised=False, provider="shure_cloud", settings=settings)
    await imports.authorise(connector, client_id="id", client_secret="key")
    assert (await imports.sync(connector))["error"] is None
    assert (await imports.devices(connector))["s1"]["name"] == "MXA920"


async def test_microsoft_teams_rooms(imports: Imports) -> None:
    """Through the consent page, with the vendor's own next links."""

    async def cloud(request: web.Request, _: int) -> web.Response:
        if request.path == "/contoso/oauth2/v2.0/token":
            form = await request.post()
            assert (form["grant_type"], form["code"]) == ("authorization_code", "c0de")
            return web.json_response({"access_token": "t", "refresh_token": "r", "expires_in": 3600})
        assert request.path == "/beta/teamwork/devices"
        last = "$skiptoken" in request.query
        hardware = {"serialNumber": f"S{last}", "model": "Room 900", "macAddresses": ["00:15:5d:00:00:01"]}
        user = {"displayName": "Boardroom"} if last else None
        told: dict[str, Any] = {"value": [{"id": f"id{last}", "hardwareDetail": hardware, "currentUser": user}]}
        if not last:
            told["@odata.nextLink"] = f"{imports.cloud.url}/teamwork/devices?$top=50&$skiptoken=x"
        return web.json_response(told)

    imports.cloud.before = cloud
    _point(imports, "microsoft_teams_rooms")
    body = {
        "provider": "microsoft_teams_rooms",
        "project_id": str(imports.acme.project_id),
        "space_id": str(imports.acme.space_id),
        "settings": {"tenant": "contoso"},
    }
    made = await imports.acme.call("POST", "/connectors", body)
    link = made["authentication"]
    form = {"passcode": link["passcode"], "client_id": "id", "client_secret": "key"}
    url = imports.edge.url + urlsplit(link["url"]).path
    async with imports.edge.http.post(
        url, data=form, headers={"origin": imports.edge.url}, allow_redirects=False
    ) as answer:
        consent = urlsplit(answer.headers["location"])
    assert consent.path == "/contoso/oauth2/v2.0/authorize"
    state = parse_qs(consent.query)["state"][0]
    async with imports.edge.http.get(f"{imports.edge.url}/connect/callback?state={state}&code=c0de") as answer:
        assert answer.status == 200
    connector = made["connector"]["id"]
    assert (await imports.sync(connector))["error"] is None
    names = {name: device["name"] for name, device in (await imports.devices(connector)).items()}
    assert names == {"idFalse": "Room 900", "idTrue": "Boardroom"}


async def test_one_gateway_imports_from_another(imports: Imports, redis_client: Redis) -> None:
    """From the real /v2 API, in pages, by a service account that may only read."""
    globex = await owner(imports.edge, "Globex")
    for n in range(205):
        await globex.device(name=f"Sensor {n}")
    reader = await account_of(globex, "project.user")
    connector = await imports.connector(
        authorised=False,
        provider="fleetgate",
        settings={"gateway_url": imports.edge.url, "project": str(globex.project_id)},
    )
    await imports.authorise(connector, key_id=reader.key_id, secret=reader.secret)
    run = await imports.sync(connector)
    assert (run["error"], run["found"], run["created"]) == (None, 205, 205)
    names = {device["name"] for device in (await imports.devices(connector, per_page=100)).values()}
    assert "Sensor 0" in names


@pytest.mark.parametrize("provider", catalog.available())
def test_every_manifest_says_what_is_unknown(provider: str) -> None:
    """And what it needs of whoever uses it."""
    manifest = catalog.available()[provider]
    assert len(manifest.notes) > 80
    assert manifest.credentials
    assert manifest.checked
    assert manifest.sources


@pytest.mark.parametrize(
    ("provider", "item", "status"),
    [
        ("bsn_cloud", {"status": {"health": "Warning"}}, "online"),
        ("bsn_cloud", {"status": {"health": "Error"}}, "offline"),
        ("shure_cloud", {"online": False}, "offline"),
        ("shure_cloud", {"online": True, "status": "OFFLINE"}, "online"),
        ("shure_cloud", {"status": "OFFLINE"}, "offline"),
        ("shure_cloud", {"status": "ONLINE"}, "online"),
        ("qsys_reflect", {"status": {"code": 7}}, "offline"),
        ("qsys_reflect", {"status": {"code": 0}}, "online"),
        ("qsys_reflect", {"status": None}, None),
        ("zoom_rooms", {"status": "InMeeting"}, "online"),
        ("zoom_rooms", {"status": "Offline"}, "offline"),
        ("microsoft_teams_rooms", {"healthStatus": "offline"}, "offline"),
        ("microsoft_teams_rooms", {"healthStatus": "nonUrgent"}, "online"),
        ("poly_lens", {"connected": False}, "offline"),
    ],
)
def test_what_a_vendor_says_of_a_devices_connection(provider: str, item: dict[str, Any], status: str | None) -> None:
    """Neither is a warning silence, nor silence nothing."""
    manifest = catalog.available()[provider]
    assert manifest.telemetry is not None
    assert Reader(manifest, manifest.telemetry).message(item).get("status") == status


def test_the_pace_of_a_vendor_that_answers_once_in_five_minutes_is_that() -> None:
    assert 1 / catalog.available()["crestron_xio"].requests_per_s >= 300
