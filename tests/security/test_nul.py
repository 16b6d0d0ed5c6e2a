"""U+0000 in whatever a caller can say: 4xx, everywhere."""

import base64
import gzip
import json
import time
from collections import defaultdict
from typing import Any

import jwt
import pytest
from edges import RunningEdge
from everything import FAR, everything_of
from fleets import Unit, fleet_of
from owners import Owner
from yarl import URL

from gateway.app import ENDPOINTS
from gateway.device import device
from schemas.redis import Redis

SOME_ID = "00000000-0000-4000-8000-000000000000"
CALLS = [endpoint for endpoint in ENDPOINTS if endpoint.described_caller is not None and not endpoint.stream]
"""Streams have no end; their query is read as all others are."""


async def test_no_call_takes_it_in_path_or_query(
    edge: RunningEdge, acme: Owner, redis_client: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Percent-encoded, in every place for an id and in a parameter of every call that has some."""
    monkeypatch.setattr(device, "PUTS_MAX", FAR)
    known = await everything_of(acme, redis_client, edge.services.access_keys.issue)
    wrong: list[Any] = []
    for endpoint in CALLS:
        assert endpoint.described_caller is not None
        headers = {"authorization": known.credentials[next(iter(endpoint.described_caller.schemes))]}
        places = [
            name for name in known_places(endpoint.path) if name != "device_id" or "/v1/devices" not in endpoint.path
        ]
        for place in places:
            path = endpoint.path.format_map(defaultdict(lambda: SOME_ID, {place: "a%00b"}))
            status = await _status(edge, endpoint.method, path, headers)
            if status not in (400, 401, 403, 404):
                wrong.append((endpoint, place, status))
        if endpoint.query is not None:
            path = endpoint.path
            for place in places:
                path = path.replace(f"{{{place}}}", str(known.place(endpoint.path, place)))
            status = await _status(edge, endpoint.method, f"{path}?query=%00", headers)
            if status != (400 if endpoint.dialect.is_v2 else 422):
                wrong.append((endpoint, "query", status))
    assert wrong == []


def known_places(path: str) -> list[str]:
    """The names of the places for ids in a path."""
    return [part.partition("}")[0] for part in path.split("{")[1:]]


async def _status(edge: RunningEdge, method: str, path: str, headers: dict[str, str]) -> int:
    async with edge.http.request(method, _encoded(edge.url + path), headers=headers) as answer:
        await answer.read()
        return answer.status


def _encoded(url: str) -> Any:
    """The address as it is: the client would otherwise decode what it thinks needs no encoding."""
    return URL(url, encoded=True)


async def test_no_credential_holds_it(edge: RunningEdge, acme: Owner) -> None:
    """In the id of a key, by Basic and in the header of an assertion."""
    for pair in (b"a\0b:c", b"a:b\0c", b"\0"):
        headers = {"authorization": f"Basic {base64.b64encode(pair).decode()}"}
        assert await _status(edge, "GET", "/v2/roles", headers) == 401
    now = int(time.time())
    for kid in ("\0", "a\0b"):
        claims = {"iss": "a\0", "aud": f"{edge.url}/oauth2/token", "iat": now, "exp": now + 60}
        assertion = jwt.encode(claims, "s" * 32, "HS256", headers={"kid": kid})
        form = {"grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer", "assertion": assertion}
        async with edge.http.post(f"{edge.url}/oauth2/token", data=form) as answer:
            assert answer.status == 400


async def test_no_body_of_a_device_holds_it(acme: Owner) -> None:
    """Telemetry by both ways in, free JSON as deep as it goes; among many messages only the one that says it."""
    fleet = await fleet_of(acme)
    unit, other = await fleet.unit(claimed=True), await fleet.unit()
    for packed in (False, True):
        for path, body in (
            ("/telemetry", b'{"telemetries":{"a":"\\u0000"}}'),
            ("/config", b'{"a":{"b":["\\u0000"]}}'),
            ("/children/telemetries", b'{"a\\u0000":{"status":"online"}}'),
        ):
            status, answer = await _post(unit, path, body, packed)
            assert (status, "U+0000" in answer["error"]) == (422, True), (path, answer)
        mixed = {
            unit.id: [{"status": "online", "access_token": unit.key}, {"status": "online", "message": "\0"}],
            other.id: {"status": "online", "access_token": other.key},
        }
        status, answer = await _post(unit, "/children/telemetries", json.dumps(mixed).encode(), packed)
        assert status == 422
        assert answer[unit.id]["error"] == "Message 2: Message: a text must not hold U+0000"
        assert answer[other.id]["success"] is True
    registrations = [fleet.registration(details={"a": "\0"}), fleet.registration()]
    status, answer = await fleet.ask("POST", "/v1/devices/bulk_create", registrations)
    assert (status, answer[0]["error"]) == (422, "Details.a: a text must not hold U+0000")
    assert "access_key" in answer[1]
    for device_put in ({"details": {"a": "\0"}}, {"name": "\0"}):
        assert (await unit.ask("PUT", "", device_put))[0] == 422


async def test_no_body_of_an_owner_holds_it(acme: Owner) -> None:
    """Config and details are free JSON, of devices, spaces and commands."""
    device_id = await acme.device()
    for method, path, body in (
        ("PATCH", f"/devices/{device_id}", {"configuration": {"a": [{"b\0": 1}]}}),
        ("PATCH", f"/devices/{device_id}", {"details": {"a": "\0"}}),
        ("POST", f"/devices/{device_id}/commands", {"command": "reboot", "extra_params": {"a": "\0"}}),
        ("POST", "/spaces", {"name": "x", "parent_id": str(acme.space_id), "config": {"a": "\0"}}),
    ):
        status, answer = await acme.ask(method, f"/core/v1/organization{path}", body)
        assert (status, "U+0000" in answer["error"]) == (422, True), (path, answer)


async def _post(unit: Unit, path: str, body: bytes, packed: bool) -> tuple[int, Any]:
    """One POST; a packed one is not recognised by the hot path."""
    headers = {"authorization": unit.key} | ({"content-encoding": "gzip"} if packed else {})
    url = f"{unit.fleet.owner.url}/v1/devices/{unit.id}{path}"
    async with unit.fleet.owner.http.post(url, data=gzip.compress(body) if packed else body, headers=headers) as answer:
        return answer.status, await answer.json()
