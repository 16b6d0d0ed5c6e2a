"""Files in an S3-compatible store, on a real server: all five calls, its absence, and how a process ends."""

import asyncio
import functools
import hashlib
import io
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
import closed_days
import pytest
from edges import open_shards, running_edge
from owners import Owner, owner
from prometheus_client import CollectorRegistry

from gateway.cli.local.embedded import free_port
from gateway.stores.events import history
from gateway.stores.events.examining import Range
from gateway.stores.events.tiers import Tiers
from schemas import blobs
from schemas.blobs.store import BlobsAway, BlobStore, NoBlobError
from schemas.metrics import Metrics
from schemas.postgres import Pool
from schemas.redis import Redis
from schemas.settings import FileStore
from tests.conftest import MASTER_KEY, SHARDS
from workers.file_janitor import YOUNG, FileJanitor
from workers.janitor import Janitor

BUCKET = "fleet"


class Service:
    """An S3 server, which can be stopped."""

    def __init__(self) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def stop(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    async def ready(self) -> None:
        """Wait until it answers, with an empty bucket."""
        async with asyncio.timeout(60), aiohttp.ClientSession() as http:
            while True:
                try:
                    async with http.post(f"{self.url}/moto-api/reset") as answer:
                        assert answer.status == 200
                    async with http.put(f"{self.url}/{BUCKET}") as answer:
                        assert answer.status == 200
                        return
                except aiohttp.ClientError:
                    await asyncio.sleep(0.05)


@pytest.fixture(scope="module")
def server() -> Iterator[Service]:
    made = Service()
    made.start()
    yield made
    made.stop()


def of(service: Service) -> dict[str, str]:
    return {
        "file_store": f"s3://{BUCKET}/some/where",
        "file_store_endpoint": service.url,
        "file_store_key_id": "id",
        "file_store_secret": "secret",
    }


@pytest.fixture
async def store(server: Service) -> AsyncIterator[BlobStore]:
    await server.ready()
    made = blobs.open_store(FileStore(master_key=MASTER_KEY, **of(server)))
    yield made
    await made.close()


class Given:
    """Bytes for a store; after them comes `error`, if there is one."""

    def __init__(self, *pieces: bytes, error: Exception | None = None) -> None:
        self.pieces, self.error = pieces, error
        self.name = hashlib.sha256(b"".join(pieces)).hexdigest()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self.pieces:
            yield piece
        if self.error is not None:
            raise self.error


async def content(store: BlobStore, name: str, start: int, end: int) -> bytes:
    reading = await store.read(name, start, end)
    try:
        return b"".join([piece async for piece in reading])
    finally:
        await reading.aclose()


async def listed(store: BlobStore) -> dict[str, int]:
    return {one.name: one.size async for one in store.list()}


async def read_into(got: bytearray, answer: aiohttp.ClientResponse) -> None:
    """Keep what comes, also of an answer that breaks."""
    while piece := await answer.content.read(2**20):
        got += piece


async def test_a_bucket_does_what_a_folder_does(store: BlobStore) -> None:
    """More than a part of an upload is put, listed, read by ranges, deleted; twice the same is there once."""
    given = Given(*[os.urandom(1_000_000) for _ in range(20)])
    whole = b"".join(given.pieces)
    for _ in range(2):
        await store.put(given)
    assert await listed(store) == {given.name: len(whole)}
    assert await store.size(given.name) == len(whole)
    for start, end in ((0, len(whole)), (1, 3), (8_000_000, 9_000_001), (5, 5)):
        assert await content(store, given.name, start, end) == whole[start:end]
    for _ in range(2):
        await store.delete(given.name)
    assert await store.size(given.name) is None
    with pytest.raises(NoBlobError):
        await store.read(given.name, 0, 1)


async def test_an_upload_that_is_cut_off_leaves_nothing(server: Service, store: BlobStore) -> None:
    """Neither an object nor the parts of one."""
    with pytest.raises(ValueError, match="cut off"):
        await store.put(Given(*[bytes(1_000_000)] * 20, error=ValueError("cut off")))
    assert await listed(store) == {}
    async with aiohttp.ClientSession() as http, http.get(f"{server.url}/{BUCKET}?uploads") as answer:
        assert "<Upload>" not in await answer.text()


async def test_the_janitor_tidies_a_bucket_too(pool: Pool, store: BlobStore) -> None:
    """What no row names goes."""
    await store.put(Given(b"x"))
    janitor = FileJanitor(pool, store, Metrics(CollectorRegistry()))
    assert await janitor.tidy() == 0
    assert await janitor.tidy(datetime.now(UTC) + YOUNG + timedelta(minutes=1)) == 1
    assert await listed(store) == {}


async def test_with_the_store_away_files_are_503_and_nothing_else_suffers(
    dsn: str, redis_url: str, redis_client: Redis
) -> None:
    """Telemetry, config, lists of files go on; when it is back, so are files."""
    await open_shards(redis_client)
    service = Service()
    service.start()
    try:
        await service.ready()
        async with running_edge(dsn, redis_url, **of(service)) as edge:
            acme = await owner(edge, "Acme")
            device_id = await acme.device()
            key = edge.services.access_key(device_id, 0)
            headers, path = {"authorization": acme.key}, "/core/v1/organization/files"

            async def upload(data: bytes) -> tuple[str, int, Any]:
                made = await acme.call("POST", "/files", {"name": "F", "file_type": "manual"})
                url = f"{edge.url}{path}/{made['id']}/content"
                async with edge.http.put(url, data=data, headers=headers) as answer:
                    return made["id"], answer.status, answer.headers

            file_id, status, _ = await upload(b"one")
            assert status == 200
            await acme.call("POST", f"/files/{file_id}/release")
            download = f"{edge.url}/v1/devices/{device_id}/files/{file_id}/content"
            async with edge.http.get(download, headers={"authorization": key, "range": "bytes=1-1"}) as answer:
                assert (answer.status, await answer.read()) == (206, b"n")
            service.stop()
            async with edge.http.get(download, headers={"authorization": key}) as answer:
                assert (answer.status, answer.headers["retry-after"].isdigit()) == (503, True)
            _, status, told = await upload(b"two")
            assert (status, told["retry-after"].isdigit()) == (503, True)
            telemetry = f"{edge.url}/v1/devices/{device_id}/telemetry"
            async with edge.http.post(telemetry, json={"status": "online"}, headers={"authorization": key}) as answer:
                assert answer.status == 201
            assert len((await acme.call("GET", "/files"))["items"]) == 2
            assert (edge.services.uploads.under_way, edge.services.downloads.under_way) == (0, 0)
            service.start()
            await service.ready()
            assert (await upload(b"three"))[1] == 200
    finally:
        service.stop()


async def test_a_store_that_dies_in_mid_download_ends_the_answer_and_the_client_goes_on_where_it_was(
    dsn: str, redis_url: str, redis_client: Redis
) -> None:
    """Never a whole answer that is short: the connection breaks, the place is free, and a range fetches the rest."""
    await open_shards(redis_client)
    service, data = Service(), os.urandom(24 * 2**20)
    service.start()
    try:
        await service.ready()
        async with running_edge(dsn, redis_url, **of(service)) as edge:
            acme = await owner(edge, "Acme")
            headers, path = {"authorization": acme.key}, "/core/v1/organization/files"
            made = await acme.call("POST", "/files", {"name": "F", "file_type": "manual"})
            content = f"{edge.url}{path}/{made['id']}/content"
            async with edge.http.put(content, data=io.BytesIO(data), headers=headers) as answer:
                assert answer.status == 200
            async with edge.http.get(content, headers=headers) as answer:
                assert (answer.status, int(answer.headers["content-length"])) == (200, len(data))
                got = bytearray(await answer.content.read(1))
                service.stop()
                with pytest.raises(aiohttp.ClientPayloadError):
                    await read_into(got, answer)
                tag = answer.headers["etag"]
            async with asyncio.timeout(20):
                while edge.services.downloads.under_way:
                    await asyncio.sleep(0.01)
            assert (data.startswith(bytes(got)), len(got) < len(data)) == (True, True)
            async with edge.http.get(content, headers=headers) as answer:
                assert answer.status == 503
            service.start()
            await service.ready()
            async with edge.http.put(content, data=io.BytesIO(data), headers=headers) as answer:
                assert answer.status == 200
            ranged = headers | {"range": f"bytes={len(got)}-", "if-range": tag}
            async with edge.http.get(content, headers=ranged) as answer:
                assert (answer.status, bytes(got) + await answer.read()) == (206, data)
    finally:
        service.stop()


async def test_an_unreachable_store_is_away(server: Service) -> None:
    """A bucket that is not there, too."""
    settings = FileStore(master_key=MASTER_KEY, **of(server) | {"file_store": "s3://nothing"})
    store = blobs.open_store(settings)
    with pytest.raises(BlobsAway):
        await store.put(Given(b"x"))
    with pytest.raises(BlobsAway):
        await listed(store)
    await store.close()


_LIFE = """
import asyncio, hashlib, sys
from gateway.stores.events import history
from gateway.stores.events.examining import Range
from gateway.stores.events.tiers import Tiers
from schemas import blobs
from schemas.settings import FileStore

class Given:
    def __init__(self, data):
        self.data, self.name = data, hashlib.sha256(data).hexdigest()

    async def __aiter__(self):
        yield self.data

async def main():
    store = blobs.open_store(FileStore(master_key="5a" * 32, **eval(sys.argv[1])))
    under_way = [asyncio.create_task(store.put(Given(b"x" * n))) for n in range(1, 40)]
    await asyncio.sleep(0.02)
    for one in under_way[::2]:
        one.cancel()
    await asyncio.gather(*under_way, return_exceptions=True)
    await store.close()

asyncio.run(main())
"""


async def test_a_process_ends_cleanly_with_calls_under_way(server: Service, store: BlobStore) -> None:
    """Not by a signal, whatever the client's threads are doing."""
    for _ in range(3):
        ended = await asyncio.to_thread(
            subprocess.run, [sys.executable, "-c", _LIFE, repr(of(server))], capture_output=True, check=False
        )
        assert (ended.returncode, ended.stderr) == (0, b"")


async def test_days_of_history_lie_in_a_bucket(server: Service, store: BlobStore, acme: Owner, dsn: str) -> None:
    """Stored, compared, moved and read by ranges; with the service away they wait, and readers are told. What looks
    after other files leaves them alone.
    """
    day = closed_days.day_before(3)
    device_id = await acme.device()
    await closed_days.make_day(acme.pool, day)
    shard = (await acme.row(device_id))["shard"]
    await closed_days.fill(acme.pool, day, shard, device_id, acme.project_id, 50)
    archiver = closed_days.archiver(acme.pool, dsn, store)
    server.stop()
    with pytest.raises(BlobsAway):
        await archiver.tidy()
    server.start()
    await server.ready()
    await archiver.tidy()
    janitor = Janitor(acme.pool, 31, hot_days=2, shards=SHARDS)
    assert await janitor.tidy() == [f"events_{day:%Y%m%d}"]
    assert await listed(store) == {}
    tiers = Tiers(acme.pool, store)
    within = Range(day, day + timedelta(days=1), None)
    read = functools.partial(history.page, tiers, acme.project_id, device_id, shard, within, event_types=[], limit=30)
    assert [row.seq for row in (await read()).rows] == list(range(50, 20, -1))
    await tiers.close()
