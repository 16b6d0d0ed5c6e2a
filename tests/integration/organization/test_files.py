"""Files of owners and vendors: drafts, their bytes, releasing and withdrawing."""

import asyncio
import base64
import contextlib
import hashlib
import os
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from edges import RunningEdge, open_shards, running_edge
from owners import Owner, owner

from schemas.redis import Redis

SIDES = ("organization", "partner")


class Side:
    """A tenant on one side of the API: as owner of devices, or as vendor of models."""

    def __init__(self, tenant: Owner, side: str) -> None:
        self.tenant = tenant
        self.path = f"/core/v1/{side}/files"
        self.key = tenant.key if side == "organization" else tenant.partner_key

    async def ask(self, method: str, path: str = "", body: Any = None, **query: Any) -> tuple[int, Any]:
        return await self.tenant.ask(method, self.path + path, body, self.key, **query)

    async def call(self, method: str, path: str = "", body: Any = None, **query: Any) -> Any:
        status, answer = await self.ask(method, path, body, **query)
        assert status in (200, 201), answer
        return answer

    async def put(self, file_id: str, data: Any, **headers: str) -> tuple[int, Any]:
        given = {"authorization": self.key} | {name.replace("_", "-"): value for name, value in headers.items()}
        url = f"{self.tenant.url}{self.path}/{file_id}/content"
        async with self.tenant.http.put(url, data=data, headers=given) as answer:
            return answer.status, await answer.json()

    async def draft(self, version: str = "2.0.0", **members: Any) -> str:
        body = {"model_id": str(self.tenant.model_id), "name": "F", "file_type": "firmware", "version": version}
        made: str = (await self.call("POST", "", body | members))["id"]
        return made

    async def filled(self, data: bytes = b"firmware", **members: Any) -> str:
        file_id = await self.draft(**members)
        status, answer = await self.put(file_id, data)
        assert status == 200, answer
        return file_id


@pytest.fixture(params=SIDES)
def side(acme: Owner, request: pytest.FixtureRequest) -> Side:
    return Side(acme, request.param)


def digest_of(data: bytes) -> str:
    return f"sha-256=:{base64.b64encode(hashlib.sha256(data).digest()).decode()}:"


def stored(edge: RunningEdge) -> list[str]:
    folder = Path(edge.services.settings.file_store)
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


async def until(edge: RunningEdge, *, something: bool) -> None:
    """Wait until something lies in the store, or nothing."""
    async with asyncio.timeout(10):
        while bool(stored(edge)) is not something:
            await asyncio.sleep(0.002)


async def test_a_file_is_drafted_filled_released_and_withdrawn(edge: RunningEdge, side: Side) -> None:
    """Each step shows; what was done already may be done again, what does not follow is refused."""
    file_id = await side.draft("v2.0", desc="New", signature="c2ln", public_notes="Faster")
    draft = await side.call("GET", f"/{file_id}")
    assert (draft["status"], draft["version"], draft["checksum"], draft["size"]) == ("draft", "2.0.0", None, None)
    assert (await side.ask("POST", f"/{file_id}/release"))[0] == 409
    assert (await side.ask("POST", f"/{file_id}/withdraw"))[0] == 409
    assert (await side.ask("GET", f"/{file_id}/content"))[0] == 409
    data = os.urandom(700_000)
    status, filled = await side.put(file_id, data, content_digest=digest_of(data))
    assert (status, filled["size"], filled["checksum"]) == (200, len(data), hashlib.sha256(data).hexdigest())
    assert stored(edge) == [filled["checksum"]]
    for _ in range(2):
        released = await side.call("POST", f"/{file_id}/release")
        assert (released["status"], released["spreading"]) == (
            "released",
            {"devices": None, "done": 0, "finished_at": None},
        )
    assert (await side.ask("PATCH", f"/{file_id}", {"name": "G"}))[0] == 409
    assert (await side.ask("DELETE", f"/{file_id}"))[0] == 409
    url, headers = f"{side.tenant.url}{side.path}/{file_id}/content", {"authorization": side.key}
    async with side.tenant.http.get(url, headers=headers) as answer:
        assert await answer.read() == data
        assert answer.headers["content-disposition"] == 'attachment; filename="F"'
        assert answer.headers["x-content-type-options"] == "nosniff"
    for _ in range(2):
        assert (await side.call("POST", f"/{file_id}/withdraw"))["status"] == "withdrawn"
    assert (await side.ask("POST", f"/{file_id}/release"))[0] == 409
    await side.call("DELETE", f"/{file_id}")
    assert (await side.ask("GET", f"/{file_id}"))[0] == 404


async def test_a_draft_may_be_changed_in_all_but_its_bytes(side: Side) -> None:
    """The same bytes again are fine, other ones are another file."""
    file_id = await side.filled(b"one")
    changed = await side.call(
        "PATCH", f"/{file_id}", {"name": "G", "version": "3.0", "min_version": "v1.2", "desc": "D", "signature": None}
    )
    assert [changed[name] for name in ("name", "version", "min_version", "desc")] == ["G", "3.0.0", "1.2.0", "D"]
    assert (await side.put(file_id, b"one"))[0] == 200
    status, answer = await side.put(file_id, b"two")
    assert (status, answer["error"]) == (409, "File has its content already: other bytes are another file")
    assert (await side.call("GET", f"/{file_id}"))["checksum"] == hashlib.sha256(b"one").hexdigest()


@pytest.mark.parametrize(
    ("members", "error"),
    [
        ({"version": None}, "Version can't be blank"),
        ({"version": "two"}, "Version is not a semantic version such as 1.4.0"),
        ({"min_version": "x"}, "Min version is not a semantic version such as 1.4.0"),
        ({"min_version": "2.0.0"}, "Min version must be below the version"),
        ({"min_version": "10.0.0"}, "Min version must be below the version"),
    ],
)
async def test_firmware_has_versions_that_can_be_compared(side: Side, members: dict[str, Any], error: str) -> None:
    """When it is made, and when it is changed."""
    body = {"model_id": str(side.tenant.model_id), "name": "F", "file_type": "firmware", "version": "2.0.0"}
    assert await side.ask("POST", "", body | members) == (422, {"error": error})
    file_id = await side.draft()
    assert await side.ask("PATCH", f"/{file_id}", members) == (422, {"error": error})


async def test_a_version_is_released_once_for_a_model(side: Side) -> None:
    """Build metadata makes no other version; what was withdrawn makes room."""
    first, second = await side.filled(version="2.0.0+a"), await side.filled(version="2.0.0+b")
    await side.call("POST", f"/{first}/release")
    status, answer = await side.ask("POST", f"/{second}/release")
    assert (status, answer["error"]) == (422, "Version has already been released for this model")
    await side.call("POST", f"/{first}/withdraw")
    await side.call("POST", f"/{second}/release")


@pytest.mark.parametrize(
    ("header", "status"),
    [
        (digest_of(b"other"), 422),
        (f"sha-512=:{base64.b64encode(bytes(64)).decode()}:", 422),
        ("sha-256=:AAAA:", 400),
        ("sha-256=abc", 400),
        (f"{digest_of(b'firmware')}, sha-512=:{base64.b64encode(hashlib.sha512(b'firmware').digest()).decode()}:", 200),
        ("crc32=:AAAA:", 200),
    ],
)
async def test_an_upload_is_what_its_sender_says_or_nothing(
    edge: RunningEdge, side: Side, header: str, status: int
) -> None:
    """A `Content-Digest` that does not fit, or cannot be read, is refused; algorithms that we do not know are not."""
    file_id = await side.draft()
    assert (await side.put(file_id, b"firmware", content_digest=header))[0] == status
    assert len(stored(edge)) == (status == 200)


async def test_what_cannot_be_a_file_leaves_nothing(edge: RunningEdge, side: Side) -> None:
    """Nothing at all, a packed body, a file that is not the caller's."""
    file_id = await side.draft()
    assert await side.put(file_id, b"") == (422, {"error": "Data can't be blank"})
    assert (await side.put(file_id, b"x", content_encoding="gzip"))[0] == 415
    assert (await side.put("00000000-0000-7000-8000-000000000000", b"x"))[0] == 404
    assert stored(edge) == []


async def test_what_is_too_large_is_refused_as_soon_as_it_is_known(
    dsn: str, redis_url: str, redis_client: Redis
) -> None:
    """By its announced length, or where a body of unknown length passes the limit."""
    await open_shards(redis_client)

    async def endless() -> Any:
        for _ in range(100):
            yield bytes(65_536)

    async with running_edge(dsn, redis_url, file_bytes_max=1_000_000) as edge:
        side = Side(await owner(edge, "Acme"), "partner")
        file_id = await side.draft()
        assert (await side.put(file_id, bytes(1_000_001)))[0] == 413
        assert (await side.put(file_id, endless()))[0] == 413
        assert stored(edge) == []
        assert (await side.put(file_id, bytes(1_000_000)))[0] == 200


async def test_a_cut_off_upload_leaves_nothing_and_a_second_try_is_clean(edge: RunningEdge, acme: Owner) -> None:
    """The connection ends in the middle: neither bytes nor a temporary file nor a place is kept."""
    side = Side(acme, "partner")
    file_id, data = await side.draft(), os.urandom(500_000)
    head = f"PUT {side.path}/{file_id}/content HTTP/1.1\r\nHost: x\r\nAuthorization: {side.key}\r\n"
    for _ in range(6):  # more than one tenant may have under way
        _, writer = await asyncio.open_connection("127.0.0.1", edge.port)
        writer.write(f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data[:300_000])
        await writer.drain()
        await until(edge, something=True)
        writer.close()
        await until(edge, something=False)
    assert (await side.put(file_id, data))[0] == 200
    assert stored(edge) == [hashlib.sha256(data).hexdigest()]


async def _trickle(writer: asyncio.StreamWriter) -> None:
    while True:
        writer.write(b"x")
        await asyncio.sleep(0.1)


async def test_an_upload_may_take_long_while_it_comes_and_not_when_it_only_trickles(
    dsn: str, redis_url: str, redis_client: Redis
) -> None:
    """Longer than a request may take, as long as enough of it comes; a byte now and then holds no place."""
    await open_shards(redis_client)
    async with running_edge(dsn, redis_url, request_timeout_s=1) as edge:
        side = Side(await owner(edge, "Acme"), "partner")
        file_id, loop = await side.draft(), asyncio.get_running_loop()
        began = loop.time()

        async def steadily() -> Any:
            while loop.time() < began + 2.5:
                yield bytes(40_000)
                await asyncio.sleep(0.2)

        assert (await side.put(file_id, steadily()))[0] == 200
        reader, writer = await asyncio.open_connection("127.0.0.1", edge.port)
        head = f"PUT {side.path}/{file_id}/content HTTP/1.1\r\nHost: x\r\nAuthorization: {side.key}\r\n"
        writer.write(f"{head}Content-Length: 1000000\r\n\r\n".encode())
        trickling = asyncio.create_task(_trickle(writer))
        async with asyncio.timeout(20):
            answer = await reader.readexactly(12)
        trickling.cancel()
        writer.close()
        assert answer == b"HTTP/1.1 408"


@contextlib.contextmanager
def room(size: int) -> Iterator[None]:
    """The system lets this process, which is the edge's, write no file beyond so many bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def test_without_room_files_and_dumps_are_503_and_nothing_else_is(edge: RunningEdge, side: Side) -> None:
    """Nothing is left of what found no room, what lies there can be had, and with room the same upload is done."""
    acme = side.tenant
    there, file_id, data = await side.filled(version="1.0.0"), await side.draft(), os.urandom(600_000)
    device_id = await acme.device()
    key = edge.services.access_key(device_id, 0)
    device = f"{acme.url}/v1/devices/{device_id}"
    before = stored(edge)

    async def send(method: str, path: str, body: Any) -> tuple[int, Any, Any]:
        headers = {"authorization": key}
        async with acme.http.request(method, device + path, data=body, headers=headers) as answer:
            return answer.status, await answer.json(), answer.headers

    full = {"error": "The file store is full, try again later"}
    status, dump, _ = await send("POST", "/dumps/a/b", b"begun")
    assert status == 201
    with room(300_000):
        assert await side.put(file_id, data) == (503, full)
        for method, path in (("POST", "/dumps/a/b"), ("PUT", f"/dumps/{dump['id']}")):
            status, answer, headers = await send(method, path, data)
            assert (status, answer, headers["retry-after"].isdigit()) == (503, full, True)
        assert (await send("POST", "/telemetry", b'{"status":"online"}'))[0] == 201
        assert (await side.call("GET", f"/{file_id}"))["checksum"] is None
        async with acme.http.get(f"{acme.url}{side.path}/{there}/content", headers={"authorization": side.key}) as got:
            assert (got.status, await got.read()) == (200, b"firmware")
        assert len(stored(edge)) == len(before) + 1
        assert (await side.put(await side.draft("3.0.0"), b"small"))[0] == 200
    assert (await side.put(file_id, data))[0] == 200
    assert (await send("PUT", f"/dumps/{dump['id']}", data))[:2] == (200, {"length": 5 + len(data)})
    assert edge.services.uploads.under_way == edge.services.dumps.under_way == 0


async def test_a_tenant_has_so_many_uploads_at_once(edge: RunningEdge, acme: Owner, globex: Owner) -> None:
    """The next one is asked to come back; another tenant is not in the way."""
    side = Side(acme, "partner")
    ends = [edge.services.uploads.begin(acme.organization_id) for _ in range(4)]
    file_id = await side.draft()
    status, answer = await side.put(file_id, b"x")
    assert (status, answer["error"]) == (503, "Too many transfers of yours are under way, try again")
    other = Side(globex, "partner")
    assert (await other.put(await other.draft(), b"x"))[0] == 200
    ends[0]()
    assert (await side.put(file_id, b"x"))[0] == 200


async def test_files_of_others_do_not_exist(acme: Owner, globex: Owner) -> None:
    """Neither another tenant's, nor for a model of which one has no device, nor the same tenant's on its other side."""
    mine = {name: Side(acme, name) for name in SIDES}
    files = {name: await one.draft() for name, one in mine.items()}
    for other in (Side(globex, name) for name in SIDES):
        for file_id in files.values():
            assert (await other.ask("GET", f"/{file_id}"))[0] == 404
            assert (await other.ask("PATCH", f"/{file_id}", {"name": "G"}))[0] == 404
            assert (await other.ask("DELETE", f"/{file_id}"))[0] == 404
            for call in ("release", "withdraw"):
                assert (await other.ask("POST", f"/{file_id}/{call}"))[0] == 404
        assert (await other.call("GET"))["items"] == []
        body = {"model_id": str(acme.model_id), "name": "F", "file_type": "firmware", "version": "1.0.0"}
        assert await other.ask("POST", "", body) == (404, {"error": "Model not found"})
    assert (await mine["organization"].ask("GET", f"/{files['partner']}"))[0] == 404
    await globex.trusts(acme)
    await globex.device(model_id=acme.model_id)
    assert (await Side(globex, "organization").ask("POST", "", body))[0] == 201


async def test_an_organizations_firmware_names_its_model_and_a_manual_need_not(acme: Owner) -> None:
    """Firmware for devices of all models would be firmware for the wrong ones."""
    side = Side(acme, "organization")
    body = {"name": "F", "file_type": "firmware", "version": "1.0.0"}
    error = {"error": "Model id can't be blank: firmware is for the devices of one model"}
    assert await side.ask("POST", "", body) == (422, error)
    manual = await side.call("POST", "", body | {"file_type": "manual", "version": None})
    assert (manual["model_id"], manual["version"]) == (None, None)
    patched = await side.ask("PATCH", f"/{manual['id']}", {"file_type": "firmware", "version": "1.0.0"})
    assert patched == (422, error)


async def test_files_are_listed_newest_first_by_model_type_and_status(side: Side) -> None:
    """In pages."""
    made = [await side.filled(bytes([n]), version=f"1.0.{n}") for n in range(1, 4)]
    await side.call("POST", f"/{made[1]}/release")
    other = await side.draft(file_type="manual", version="first edition")

    async def ids(**query: Any) -> list[str]:
        return [item["id"] for item in (await side.call("GET", **query))["items"]]

    assert await ids() == [other, *reversed(made)]
    assert await ids(file_type="manual") == [other]
    assert await ids(status="released") == [made[1]]
    assert await ids(model_id=side.tenant.model_id, per_page=2) == [other, made[2]]
    assert await ids(per_page=2, page=2) == [made[1], made[0]]
