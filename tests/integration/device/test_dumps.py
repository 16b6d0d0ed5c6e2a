"""Dumps: sent raw or as a form, appended to in order, kept within limits, downloaded by whose device it was."""

import asyncio
import base64
import hashlib
import io
import os
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest
from edges import RunningEdge, open_shards, running_edge
from fleets import Fleet, Unit, fleet_of
from owners import Owner, owner
from prometheus_client import CollectorRegistry
from yarl import URL

from gateway.stores.files import uploads
from schemas.metrics import Metrics
from schemas.redis import Redis
from schemas.settings import WorkerSettings
from workers.retention import Retention

PLAIN = "text%2Fplain/log.txt"


async def send(unit: Unit, method: str, path: str, data: Any, **headers: str) -> tuple[int, Any]:
    url = URL(f"{unit.fleet.owner.url}/v1/devices/{unit.id}/dumps/{path}", encoded=True)
    given = {"authorization": unit.key} | {name.replace("_", "-"): value for name, value in headers.items()}
    async with unit.fleet.owner.http.request(method, url, data=data, headers=given) as answer:
        return answer.status, await answer.json()


async def post(unit: Unit, data: Any, path: str = PLAIN) -> str:
    status, answer = await send(unit, "POST", path, data)
    assert status == 201, answer
    return str(answer["id"])


async def content(acme: Owner, unit: Unit, dump_id: str, **headers: str) -> tuple[int, Any, bytes]:
    url = f"{acme.url}/core/v1/organization/devices/{unit.id}/dumps/{dump_id}/content"
    async with acme.http.get(url, headers={"authorization": acme.key} | headers) as answer:
        return answer.status, answer.headers, await answer.read()


async def listed(unit: Unit) -> list[Any]:
    items: list[Any] = (await unit.fleet.owner.call("GET", f"/devices/{unit.id}/dumps"))["items"]
    return items


async def test_a_dump_is_sent_raw_appended_to_and_saved_by_a_person(fleet: Fleet) -> None:
    """Never shown by a browser, whatever it says it is."""
    unit = await fleet.unit(claimed=True)
    dump_id = await post(unit, b"<script>", "text%2Fhtml/page.html")
    assert await send(unit, "PUT", dump_id, b"more") == (200, {"length": 12})
    large = os.urandom(400_000)
    assert await send(unit, "PUT", dump_id, io.BytesIO(large)) == (200, {"length": 400_012})
    assert await send(unit, "PUT", dump_id, b"end") == (200, {"length": 400_015})
    status, headers, body = await content(fleet.owner, unit, dump_id)
    assert (status, body) == (200, b"<script>more" + large + b"end")
    assert headers["content-disposition"] == 'attachment; filename="page.html"'
    assert headers["content-type"] == "application/octet-stream"
    assert (headers["x-content-type-options"], headers["content-security-policy"]) == (
        "nosniff",
        "default-src 'none'; sandbox",
    )
    status, _, part = await content(fleet.owner, unit, dump_id, range="bytes=10-15")
    assert (status, part) == (206, (b"<script>more" + large)[10:16])
    [dump] = await listed(unit)
    shown = [dump[name] for name in ("id", "file_name", "media_type", "size")]
    assert shown == [dump_id, "page.html", "text/html", 400_015]
    await fleet.owner.call("DELETE", f"/devices/{unit.id}/dumps/{dump_id}")
    assert await listed(unit) == []
    assert (await content(fleet.owner, unit, dump_id))[0] == 404
    assert (await send(unit, "PUT", dump_id, b"x"))[0] == 404


async def test_bytes_of_dumps_are_hashed_once(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the name that they have in the store, and by what their sender compares; older digests are for updaters."""
    used: list[str] = []

    def new(name: str, **options: Any) -> Any:
        used.append(name)
        return hashlib.sha256() if name == "sha256" else hashlib.sha512()

    unit = await fleet.unit(claimed=True)
    monkeypatch.setattr(uploads, "hashlib", SimpleNamespace(new=new))
    dump_id = await post(unit, b"x")
    await send(unit, "PUT", dump_id, io.BytesIO(bytes(400_000)))
    digest = f"sha-512=:{base64.b64encode(hashlib.sha512(b'y').digest()).decode()}:"
    assert (await send(unit, "POST", PLAIN, b"y", content_digest=digest))[0] == 201
    assert sorted(used) == ["sha256"] * 3 + ["sha512"]


async def test_lines_that_are_appended_become_few_parts(edge: RunningEdge, fleet: Fleet) -> None:
    """Small ones are put together; the order is that in which they came."""
    unit = await fleet.unit(claimed=True)
    dump_id = await post(unit, b"0\n")
    for number in range(1, 20):
        await send(unit, "PUT", dump_id, f"{number}\n".encode())
    assert (await content(fleet.owner, unit, dump_id))[2] == b"".join(f"{n}\n".encode() for n in range(20))
    assert await fleet.owner.pool.fetchval("SELECT count(*) FROM dump_parts") == 1


async def test_what_is_appended_at_once_is_there_once_and_whole(fleet: Fleet) -> None:
    """Small and large pieces over several connections: none is lost, none is torn."""
    unit = await fleet.unit(claimed=True)
    dump_id = await post(unit, b"start")
    given = [bytes([65 + n]) * (1000 if n % 2 else 300_000) for n in range(4)]
    answers = await asyncio.gather(*(send(unit, "PUT", dump_id, io.BytesIO(piece)) for piece in given))
    assert [status for status, _ in answers] == [200] * 4
    body = (await content(fleet.owner, unit, dump_id))[2]
    assert len(body) == 5 + sum(map(len, given)) == max(answer["length"] for _, answer in answers)
    assert all(piece in body for piece in given)


async def test_forms_carry_dumps_in_the_field_data(fleet: Fleet) -> None:
    """To begin one and to append; a form without it is an empty dump."""
    unit = await fleet.unit(claimed=True)

    def form(**fields: bytes) -> aiohttp.FormData:
        made = aiohttp.FormData()
        for name, value in fields.items():
            made.add_field(name, io.BytesIO(value), filename="x.bin", content_type="application/octet-stream")
        return made

    dump_id = await post(unit, form(note=b"n", data=b"one\r\n--two"))
    assert await send(unit, "PUT", dump_id, form(data=b"three")) == (200, {"length": 15})
    assert (await content(fleet.owner, unit, dump_id))[2] == b"one\r\n--twothree"
    assert await send(unit, "POST", PLAIN, form(other=b"x")) == (422, {"error": "Data can't be blank"})


@pytest.mark.parametrize(
    ("path", "file_name", "media_type"),
    [
        ("text/plain/log.txt", "log.txt", "text/plain"),
        ("text%2Fplain/var%2Flog%2Fa.txt", "a.txt", "text/plain"),
        ("nothing/core", "core", "application/octet-stream"),
        ("text%2Fpl%20ain/core", "core", "application/octet-stream"),
        ("text%2Fplain/C%3A%5Clog%5Ca%20b.txt", "a b.txt", "text/plain"),
        ("text%2Fplain/..", "..", "text/plain"),
        ("text%2Fplain/C%3A%5C", "dump", "text/plain"),
    ],
)
async def test_names_and_types_are_taken_as_devices_write_them(
    fleet: Fleet, path: str, file_name: str, media_type: str
) -> None:
    """Paths lose their folders, and what is no media type is bytes."""
    unit = await fleet.unit(claimed=True)
    await post(unit, b"x", path)
    [dump] = await listed(unit)
    assert (dump["file_name"], dump["media_type"]) == (file_name, media_type)


async def test_what_cannot_be_a_dump_is_refused_and_leaves_nothing(fleet: Fleet) -> None:
    """Nothing at all, a name that is too long, U+0000, another device's dump."""
    unit, other = await fleet.unit(claimed=True), await fleet.unit(claimed=True)
    dump_id = await post(other, b"x")
    assert await send(unit, "POST", PLAIN, b"") == (422, {"error": "Data can't be blank"})
    assert await send(other, "PUT", dump_id, b"") == (422, {"error": "Data can't be blank"})
    assert (await send(unit, "POST", f"text%2Fplain/{'x' * 256}", b"x"))[0] == 422
    assert (await send(unit, "POST", "text%2Fplain/a%00b", b"x"))[0] == 404
    assert await send(unit, "PUT", dump_id, b"x") == (404, {"error": "Dump not found"})
    assert await send(unit, "PUT", "x", b"x") == (404, {"error": "Dump not found"})
    assert (await send(unit, "POST", PLAIN, b"x", content_digest="sha-256=:AAAA:"))[0] == 400
    assert await listed(unit) == []


async def test_dumps_have_limits(dsn: str, redis_url: str, redis_client: Redis) -> None:
    """Of bytes, at once and by appending; of a device, where the oldest go; of days."""
    await open_shards(redis_client)
    async with running_edge(dsn, redis_url, dump_bytes_max=300_000, dumps_max=2) as edge:
        fleet = await fleet_of(await owner(edge, "Acme"))
        await fleet.owner.pool.execute("UPDATE device_models SET rate_limit = 1000")
        unit = await fleet.unit(claimed=True)
        assert (await send(unit, "POST", PLAIN, io.BytesIO(bytes(300_001))))[0] == 413
        first = await post(unit, io.BytesIO(bytes(299_999)))
        assert (await send(unit, "PUT", first, b"ab"))[0] == 413
        assert (await send(unit, "PUT", first, io.BytesIO(bytes(280_000))))[0] == 413
        assert await send(unit, "PUT", first, b"a") == (200, {"length": 300_000})
        second, third = await post(unit, b"2"), await post(unit, b"3")
        assert [dump["id"] for dump in await listed(unit)] == [third, second]
        settings = WorkerSettings(postgres_dsn="", redis_url="", master_key="")
        keeper = Retention(fleet.owner.pool, Metrics(CollectorRegistry()), settings, 4)
        now = edge.services.clock()
        await keeper.tidy(now + timedelta(days=29))
        assert len(await listed(unit)) == 2
        await keeper.tidy(now + timedelta(days=31))
        assert await listed(unit) == []


async def test_what_a_device_told_its_owner_is_not_the_next_ones(fleet: Fleet, globex: Owner) -> None:
    """Neither to be seen, nor to be appended to; nor do strangers see anything of it."""
    unit = await fleet.unit()
    unclaimed = await post(unit, b"nobody's")
    await unit.claim()
    assert await listed(unit) == []
    assert (await send(unit, "PUT", unclaimed, b"x"))[0] == 404
    dump_id = await post(unit, b"x")
    assert (await globex.call("GET", f"/devices/{unit.id}/dumps"))[0] == 404
    assert (await content(globex, unit, dump_id))[0] == 404
    assert (await globex.call("DELETE", f"/devices/{unit.id}/dumps/{dump_id}"))[0] == 404
    assert [dump["id"] for dump in await listed(unit)] == [dump_id]
