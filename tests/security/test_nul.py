"""U+0000 in whatever a caller can say: 4xx, everywhere."""

import base64
import time
from collections import defaultdict
from typing import Any

import jwt
import pytest
from edges import RunningEdge
from everything import FAR, everything_of
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
