"""Files as devices fetch them: by key or signed URL, whole or by ranges, and told 401 only when they were deleted."""

import asyncio
import base64
import hashlib
import io
import itertools
import os
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from edges import RunningEdge, open_shards, running_edge
from fleets import Fleet, Unit, fleet_of
from owners import Owner, owner

from gateway import transfers
from gateway.stores.commands import definitions
from schemas import download_tokens, ids
from schemas.redis import Redis

DATA = os.urandom(700_001)
DIGEST = f"sha-256=:{base64.b64encode(hashlib.sha256(DATA).digest()).decode()}:"
ETAG = f'"{hashlib.sha256(DATA).hexdigest()}"'
_versions = itertools.count(1)


@dataclass
class Shelf:
    """Makes files of the vendor's model, or of the owner."""

    fleet: Fleet

    async def file(self, data: bytes = DATA, *, status: str = "released", side: str = "partner", **members: Any) -> str:
        owner = self.fleet.owner
        key = owner.partner_key if side == "partner" else owner.key
        path = f"/core/v1/{side}/files"
        body = {"model_id": str(owner.model_id), "name": "fw.bin", "file_type": "firmware"}
        body |= {"version": f"2.0.{next(_versions)}"} | members
        answer, made = await owner.ask("POST", path, body, key)
        assert answer == 201, made
        url = f"{owner.url}{path}/{made['id']}/content"
        async with owner.http.put(url, data=io.BytesIO(data), headers={"authorization": key}) as put:
            assert put.status == 200
        for call in {"draft": (), "released": ("release",), "withdrawn": ("release", "withdraw")}[status]:
            assert (await owner.ask("POST", f"{path}/{made['id']}/{call}", None, key))[0] == 200
        return str(made["id"])

    async def withdraw(self, file_id: str) -> None:
        path = f"/core/v1/partner/files/{file_id}/withdraw"
        assert (await self.fleet.owner.ask("POST", path, None, self.fleet.owner.partner_key))[0] == 200


@pytest.fixture
def shelf(fleet: Fleet) -> Shelf:
    return Shelf(fleet)


@dataclass
class Answer:
    status: int
    headers: Any
    body: bytes


async def fetch(
    unit: Unit, file_id: str, method: str = "GET", *, key: str | None = None, query: str = "", **headers: str
) -> Answer:
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    if key != "":
        given["authorization"] = unit.key if key is None else key
    url = f"{unit.fleet.owner.url}/v1/devices/{unit.id}/files/{file_id}/content{query}"
    async with unit.fleet.owner.http.request(method, url, headers=given) as answer:
        return Answer(answer.status, answer.headers, await answer.read())


async def under_way(edge: RunningEdge, expected: int) -> None:
    """Wait until so many downloads are under way: a client has its answer a moment before its place is free."""
    async with asyncio.timeout(10):
        while edge.services.downloads.under_way != expected:
            await asyncio.sleep(0.002)


async def test_a_device_learns_of_its_firmware_and_fetches_it(shelf: Shelf) -> None:
    """The whole way: response map, file, its url, the bytes, their digests, the new version, nothing more to do."""
    unit = await shelf.fleet.unit()
    file_id = await shelf.file(desc="Fixes", signature="c2ln", public_notes="Faster", version="9.0.0")
    await unit.call("PUT", "", {"firmware_version": "1.0.1"})
    reply = await unit.waits()
    assert (reply["latest_fw_version"], reply["latest_fw_file_id"]) == ("9.0.0", file_id)
    file = await unit.call("GET", f"/files/{file_id}")
    assert file | {"created_at": ""} == {
        "id": file_id,
        "name": "fw.bin",
        "url": f"{unit.fleet.owner.url}/v1/devices/{unit.id}/files/{file_id}/content",
        "desc": "Fixes",
        "file_type": "firmware",
        "version": "9.0.0",
        "checksum": hashlib.sha256(DATA).hexdigest(),
        "size": len(DATA),
        "signature": "c2ln",
        "created_at": "",
        "public_notes": "Faster",
    }
    assert await unit.call("GET", "/files") == [file]
    whole = await fetch(unit, file_id)
    assert (whole.status, whole.body) == (200, DATA)
    told = {name: whole.headers[name] for name in ("etag", "content-digest", "repr-digest", "content-length")}
    assert told == {
        "etag": ETAG,
        "content-digest": DIGEST,
        "repr-digest": DIGEST,
        "content-length": str(len(DATA)),
    }
    assert (whole.headers["accept-ranges"], whole.headers["content-type"]) == ("bytes", "application/octet-stream")
    await unit.call("PUT", "", {"firmware_version": "9.0.0"})
    assert (await unit.waits())["latest_fw_version"] is None


async def test_a_download_is_resumed_where_it_ended(shelf: Shelf) -> None:
    """By ranges of any size, as long as the tag is the same; other bytes come whole."""
    unit, file_id = await shelf.fleet.unit(), await shelf.file()
    got = b""
    while len(got) < len(DATA):
        end = len(got) + 99_999
        part = await fetch(unit, file_id, range=f"bytes={len(got)}-{end}", if_range=ETAG)
        assert (part.status, part.headers["etag"], part.headers["repr-digest"]) == (206, ETAG, DIGEST)
        assert part.headers["content-range"] == f"bytes {len(got)}-{min(end, len(DATA) - 1)}/{len(DATA)}"
        assert "content-digest" not in part.headers
        got += part.body
    assert got == DATA
    other = await fetch(unit, file_id, range="bytes=5-", if_range='"other"')
    assert (other.status, other.body) == (200, DATA)


async def test_a_modem_fetches_two_kibibytes_at_a_time(shelf: Shelf) -> None:
    """Resumable by a modem that takes 2 KiB at a time: one range after another, the last one shorter."""
    unit, data = await shelf.fleet.unit(), os.urandom(40 * 2048 + 7)
    file_id, got, parts = await shelf.file(data), b"", 0
    while len(got) < len(data):
        part = await fetch(unit, file_id, range=f"bytes={len(got)}-{len(got) + 2047}")
        assert (part.status, len(part.body) <= 2048) == (206, True)
        got += part.body
        parts += 1
    assert (parts, hashlib.sha256(got).digest()) == (41, hashlib.sha256(data).digest())


@pytest.mark.parametrize(
    ("method", "headers", "status", "length"),
    [
        ("HEAD", {}, 200, len(DATA)),
        ("HEAD", {"range": "bytes=0-1"}, 200, len(DATA)),
        ("GET", {"if_none_match": ETAG}, 304, None),
        ("GET", {"if_match": '"other"'}, 412, None),
        ("GET", {"range": f"bytes={len(DATA)}-"}, 416, None),
        ("GET", {"range": "bytes=-0"}, 416, None),
        ("GET", {"range": "bytes=0-1,5-6"}, 200, len(DATA)),
        ("GET", {"range": "bytes=-1"}, 206, 1),
        ("GET", {"range": "bytes=0-", "if_none_match": '"other"'}, 206, len(DATA)),
    ],
)
async def test_conditions_and_ranges_are_those_of_http(
    shelf: Shelf, method: str, headers: dict[str, str], status: int, length: int | None
) -> None:
    """What is refused says why; HEAD says what GET would send, and sends nothing."""
    unit, file_id = await shelf.fleet.unit(), await shelf.file()
    answer = await fetch(unit, file_id, method, **headers)
    assert answer.status == status
    if length is not None:
        assert answer.headers["content-length"] == str(length)
        assert len(answer.body) == (0 if method == "HEAD" else length)
    if status == 416:
        assert answer.headers["content-range"] == f"bytes */{len(DATA)}"


async def test_what_is_not_the_devices_does_not_exist(shelf: Shelf, globex: Owner) -> None:
    """Drafts, files of other models and owners: 404 for the bytes, 400 where the file is asked for; never 401, 403."""
    unit = await shelf.fleet.unit()
    other_unit = await (await fleet_of(globex)).unit()
    draft, owners = await shelf.file(status="draft"), await shelf.file(side="organization")
    theirs = await shelf.file()
    for asking, file_id in ((unit, draft), (unit, owners), (unit, str(ids.new_id())), (other_unit, theirs)):
        assert (await fetch(asking, file_id)).status == 404
        assert await asking.ask("GET", f"/files/{file_id}") == (400, {"error": "File not found"})
    assert await unit.ask("GET", "/files/nothing") == (400, {"error": "File not found"})
    assert [one["id"] for one in await unit.call("GET", "/files")] == [theirs]
    await unit.claim()
    assert (await fetch(unit, owners)).status == 200
    assert [one["id"] for one in await unit.call("GET", "/files")] == [theirs, owners]


async def test_a_withdrawn_file_is_gone_and_who_downloads_it_may_finish(
    edge: RunningEdge, shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """410 from then on, for ranges too; the answer under way goes to its end."""
    unit, file_id = await shelf.fleet.unit(), await shelf.file()
    url = f"{unit.fleet.owner.url}/v1/devices/{unit.id}/files/{file_id}/content"
    withdrawn = []

    async def withdraw_first(sent: int, _: float) -> None:
        if not withdrawn:
            withdrawn.append(sent)
            await shelf.withdraw(file_id)

    monkeypatch.setattr(edge.services.downloads, "yield_to_telemetry", withdraw_first)
    async with unit.fleet.owner.http.get(url, headers={"authorization": unit.key}) as answer:
        assert await answer.read() == DATA
    assert withdrawn
    assert (await fetch(unit, file_id, range="bytes=5-6", if_range=ETAG)).status == 410
    assert await unit.ask("GET", f"/files/{file_id}") == (410, {"error": "File was withdrawn"})


async def test_only_a_deleted_device_is_told_401(edge: RunningEdge, shelf: Shelf) -> None:
    """A wrong key, none, somebody else's, a key of another kind: no such file. Agents forget their keys on 401."""
    unit, other, file_id = await shelf.fleet.unit(), await shelf.fleet.unit(), await shelf.file()
    for key in ("", "x", other.key, shelf.fleet.owner.key, unit.key[:2] + unit.key[:1:-1], "Bearer ", "é"):
        assert (await fetch(unit, file_id, key=key)).status == 404, key
    assert (await fetch(unit, file_id, key=f"Bearer {unit.key}")).status == 200
    token = download_tokens.issue(
        edge.services.master_keys, ids.UUID(unit.id), ids.UUID(file_id), edge.services.clock()
    )
    await unit.call("DELETE")
    assert (await fetch(unit, file_id)).status == 401
    assert (await fetch(unit, file_id, key="", query=f"?token={token}")).status == 401
    assert (await fetch(unit, file_id, key=other.key)).status == 404


async def test_a_signed_url_needs_no_key_and_is_for_one_device_and_file(edge: RunningEdge, shelf: Shelf) -> None:
    """Whatever the agent sends along as Authorization; a changed or outdated token is none."""
    unit, other = await shelf.fleet.unit(), await shelf.fleet.unit()
    file_id, second = await shelf.file(), await shelf.file()
    keys, now = edge.services.master_keys, edge.services.clock()

    def token(age: timedelta = timedelta()) -> str:
        return download_tokens.issue(keys, ids.UUID(unit.id), ids.UUID(file_id), now - age)

    good = f"?token={token()}"
    for key in ("", "x", other.key):
        assert (await fetch(unit, file_id, key=key, query=good)).status == 200
    assert (await fetch(unit, second, key="", query=good)).status == 404
    assert (await fetch(other, file_id, key="", query=good)).status == 404
    until, _, mac = token().partition(".")
    old = token(download_tokens.LIFE + timedelta(seconds=1))
    for bad in (old, f"{int(until, 16) + 1:x}.{mac}", f"{until}.{mac[::-1]}", "", ".", "x" * 10_000, "%00", "é"):
        assert (await fetch(unit, file_id, key="", query=f"?token={bad}")).status == 404, bad
        assert (await fetch(unit, file_id, query=f"?token={bad}")).status == 200, bad


async def test_a_command_with_a_file_tells_where_to_fetch_it(shelf: Shelf) -> None:
    """`url`, which needs no key, `version`, `checksum` and `signature`; only files that are released for the device."""
    unit, acme = await shelf.fleet.unit(claimed=True), shelf.fleet.owner
    await definitions.add(acme.pool, acme.model_id, name="update_firmware", needs_file=True)
    file_id, draft = await shelf.file(signature="c2ln", version="5.0.0"), await shelf.file(status="draft")
    path = f"/devices/{unit.id}/commands"
    assert (await acme.call("POST", path, {"command": "update_firmware"}))[0] == 422
    for wrong in (draft, "x", str(ids.new_id())):
        refused = await acme.call("POST", path, {"command": "update_firmware", "file_id": wrong})
        assert refused == (422, "File not found")
    await acme.call("POST", path, {"command": "update_firmware", "file_id": file_id})
    parameters = (await unit.call("GET", "/command"))["parameters"]
    url = parameters.pop("url")
    assert parameters == {"version": "5.0.0", "checksum": hashlib.sha256(DATA).hexdigest(), "signature": "c2ln"}
    async with acme.http.get(url) as answer:
        assert await answer.read() == DATA


async def test_a_command_s_url_is_one_that_the_device_can_call(dsn: str, redis_url: str, redis_client: Redis) -> None:
    """At the address that the device called, where the edge is bound to every address; others' URLs stay."""
    await open_shards(redis_client)
    async with running_edge(dsn, redis_url, bind="0.0.0.0:8080") as edge:
        fleet = await fleet_of(await owner(edge, "Acme"))
        unit = await fleet.unit(claimed=True)
        await definitions.add(fleet.owner.pool, fleet.owner.model_id, name="update_firmware", needs_file=True)
        file_id = await Shelf(fleet).file()
        sent = {"command": "update_firmware", "file_id": file_id}
        await fleet.owner.call("POST", f"/devices/{unit.id}/commands", sent)
        shown = (await unit.call("GET", "/command"), (await unit.call("GET", "/command/pending_commands"))[0])
        for url in (command["parameters"]["url"] for command in shown):
            assert url.startswith(f"{edge.url}/v1/devices/{unit.id}/files/{file_id}/content?token=")
            async with edge.http.get(url) as answer:
                assert await answer.read() == DATA
    for other in ("https://files.example/v1/fw.bin", "", "https://gw.example/v1/devices/x/files/y/content?token=1.a"):
        assert download_tokens.moved(other, "http://here") == other


async def test_downloads_have_a_limit_of_their_own_and_telemetry_s_does_not_count_them(
    dsn: str, redis_url: str, redis_client: Redis
) -> None:
    """503 with Retry-After over it, for one device and for all; calls of downloads are no calls of the device."""
    await open_shards(redis_client)
    async with running_edge(dsn, redis_url, downloads_max=5) as edge:
        fleet = await fleet_of(await owner(edge, "Acme"))
        file_id = await Shelf(fleet).file()
        unit, other = await fleet.unit(), await fleet.unit()
        for _ in range(40):
            assert (await fetch(unit, file_id, range="bytes=0-1")).status == 206
        await unit.waits()
        held = [edge.services.downloads.begin(ids.UUID(unit.id)) for _ in range(transfers.OF_ONE_MAX)]
        busy = await fetch(unit, file_id)
        assert (busy.status, busy.headers["retry-after"].isdigit()) == (503, True)
        assert (await fetch(other, file_id)).status == 200
        await under_way(edge, transfers.OF_ONE_MAX)
        held.append(edge.services.downloads.begin(ids.new_id()))
        assert (await fetch(other, file_id)).status == 503
        for end in held:
            end()
        await under_way(edge, 0)
        assert (await fetch(unit, file_id)).status == 200


async def test_every_way_an_answer_ends_gives_its_place_back(edge: RunningEdge, shelf: Shelf) -> None:
    """Whole, a range, nothing new, a condition that fails, a client that leaves in the middle, a file that is lost."""
    unit, file_id = await shelf.fleet.unit(), await shelf.file()
    large = await shelf.file(os.urandom(20 * 2**20))
    for headers in ({}, {"range": "bytes=5-"}, {"range": "bytes=-0"}, {"if_none_match": ETAG}, {"if_match": '"x"'}):
        await fetch(unit, file_id, **headers)
        await fetch(unit, file_id, "HEAD", **headers)
    url = f"{unit.fleet.owner.url}/v1/devices/{unit.id}/files/{large}/content"
    for _ in range(transfers.OF_ONE_MAX + 1):
        answer = await unit.fleet.owner.http.get(url, headers={"authorization": unit.key})
        await answer.content.read(1)
        answer.close()
    await edge.services.blobs.delete(hashlib.sha256(DATA).hexdigest())
    assert (await fetch(unit, file_id)).status == 503
    await under_way(edge, 0)
