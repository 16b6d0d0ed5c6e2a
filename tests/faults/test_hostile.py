"""What no honest client sends, against a real edge: the right status, never a 500, memory flat, and it goes on."""

import asyncio
import contextlib
import resource
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest

from tests.faults.stack import Load, Process, Stack, assert_stored_once, copy_of

REQUEST_TIMEOUT_S = 1
CONNECTIONS = 10_000
BYTES_PER_CONNECTION_MAX = 16 * 1024


@pytest.fixture
async def edge(stack: Stack) -> Process:
    """An edge whose patience is short."""
    process = await stack.edge(FLEETGATE_REQUEST_TIMEOUT_S=str(REQUEST_TIMEOUT_S))
    await stack.worker()
    await stack.until_answers("/readyz")
    return process


async def raw(stack: Stack, data: bytes, *, end: bool = True) -> bytes:
    """Send bytes; what comes back until the edge closes."""
    host, port = stack.url[7:].split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(data)
    async with asyncio.timeout(20):
        answer = b""
        with contextlib.suppress(OSError):
            if end:
                writer.write_eof()
            while chunk := await reader.read(65536):
                answer += chunk
    writer.close()
    return answer


def status(answer: bytes) -> int:
    return int(answer[9:12]) if answer else 0


async def test_malformed_requests_get_400_and_lose_nothing(stack: Stack, edge: Process) -> None:
    """Request lines, headers, lengths and paths that mean two things to two parsers."""
    device_id = stack.devices[0]
    key = stack.access_key(device_id)
    line = f"POST /v1/devices/{device_id}/telemetry HTTP/1.1\r\nHost: x\r\nAuthorization: {key}\r\n".encode()
    body = b'{"status":"online"}'
    for name, data, wanted in (
        ("garbage", b"\x00\x01\x02\x03\r\n\r\n", {400}),
        ("no version", b"GET /livez\r\n\r\n", {200, 400}),
        ("unknown version", b"GET /livez HTTP/9.9\r\nHost: x\r\n\r\n", {400, 505}),
        ("bad method", b"G=T /livez HTTP/1.1\r\nHost: x\r\n\r\n", {400}),
        ("NUL in the path", b"GET /li\x00vez HTTP/1.1\r\nHost: x\r\n\r\n", {400}),
        ("space in a header's name", b"GET /livez HTTP/1.1\r\nHo st: x\r\n\r\n", {400}),
        ("NUL in a header", b"GET /livez HTTP/1.1\r\nHost: x\r\nA: \x00\r\n\r\n", {400}),
        ("two lengths", line + b"Content-Length: 19\r\nContent-Length: 20\r\n\r\n" + body, {400}),
        ("negative length", line + b"Content-Length: -1\r\n\r\n" + body, {400}),
        ("huge length", line + b"Content-Length: 99999999999999999999\r\n\r\n" + body, {400}),
        ("length and chunks", line + b"Content-Length: 19\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", {400}),
        ("unknown coding", line + b"Transfer-Encoding: gzip\r\n\r\n" + body, {400, 501}),
        ("bad chunk", line + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", {400}),
        ("two keys", line + b"Authorization: x\r\nContent-Length: 19\r\n\r\n" + body, {400}),
        ("huge header", b"GET /livez HTTP/1.1\r\nHost: x\r\nA: " + b"a" * 200_000 + b"\r\n\r\n", {400, 431}),
        ("dots in the path", b"GET /v1/../livez HTTP/1.1\r\nHost: x\r\n\r\n", {404}),
        ("escaped dots", b"GET /v1/%2e%2e/livez HTTP/1.1\r\nHost: x\r\n\r\n", {404}),
        ("two slashes", b"GET //livez HTTP/1.1\r\nHost: x\r\n\r\n", {404}),
        ("absolute form", b"GET http://elsewhere/livez HTTP/1.1\r\nHost: x\r\n\r\n", {200, 400, 404}),
        ("another method", line.replace(b"POST", b"GET") + b"\r\n", {405}),
        ("truncated body", line + b'Content-Length: 19\r\n\r\n{"status"', {0, 400}),
        ("no body", line + b"\r\n", {400}),
        ("upgrade", b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n", {200}),
    ):
        answer = await raw(stack, data)
        assert status(answer) in wanted, (name, answer[:200])
    assert edge.child.returncode is None
    async with Load(stack) as load:
        await load.until(50)
    await assert_stored_once(stack, load)


@pytest.mark.parametrize(
    ("body", "wanted"),
    [
        (b"", 400),
        (b"{", 400),
        (b"[" * 100_000, 400),
        (b'{"telemetries":' * 8_000, 400),
        (b'{"telemetries":{"a":NaN}}', 400),
        (b'{"telemetries":{"a":Infinity}}', 400),
        (b'{"telemetries":{"a":1e999}}', 422),
        (b'{"telemetries":{"a":' + b"9" * 100_000 + b"}}", 422),
        (b'{"telemetries":{"a":2147483648}}', 201),
        (b'{"telemetries":{"a":9223372036854775808}}', 422),
        (b'{"telemetries":{"a":{}}}', 422),
        (b'{"telemetries":{"":1}}', 422),
        (b'{"telemetries":[]}', 422),
        (b'{"telemetries":null}', 422),
        (b'{"status":7}', 422),
        (b'{"status":"online","timestamp":"yesterday"}', 422),
        (b'{"status":"online","timestamp":"9999-12-31T23:59:59Z"}', 422),
        (b'{"status":"online","timestamp":1e300}', 422),
        (b'{"status":"online","override":"yes"}', 422),
        (b"\xff\xfe{}", 400),
        (b'{"telemetries":{"a":"\xff"}}', 400),
        (b'{"telemetries":{"a":"\\ud800"}}', 422),
        (b'"online"', 422),
        (b"null", 422),
        (b'{"telemetries":{"a":"' + b"x" * 1001 + b'"}}', 422),
        (b" " * 131_073, 413),
        # Members twice: the last one counts, as in every JSON library that devices use.
        (b'{"status":"error","status":"online","telemetries":{"n":1,"n":2}}', 201),
        # What Postgres cannot hold as text; and a backslash with five characters behind it.
        (b'{"telemetries":{"a":"\\u0000"}}', 422),
        (b'{"telemetries":{"a":"\\\\u0000"}}', 201),
    ],
    ids=lambda value: value[:40].decode("latin-1") if isinstance(value, bytes) else str(value),
)
async def test_bodies_that_do_not_fit(hostile: Stack, body: bytes, wanted: int) -> None:
    """400 for what is no JSON, 422 for what is no message, 413 for too much; and what is accepted can be stored."""
    device_id = hostile.devices[0]
    head = f"POST /v1/devices/{device_id}/telemetry HTTP/1.1\r\nHost: x\r\n"
    head += f"Authorization: {hostile.access_key(device_id)}\r\nContent-Length: {len(body)}\r\n\r\n"
    answer = await raw(hostile, head.encode() + body)
    assert status(answer) == wanted, answer
    if wanted == 201:
        async with asyncio.timeout(20):
            while await hostile.query("SELECT count(*) FROM events WHERE type = 'telemetry'") == 0:
                assert await hostile.query("SELECT count(*) FROM ingest_quarantine") == 0
                await asyncio.sleep(0.05)


@pytest.fixture(scope="module")
async def hostile(tmp_path_factory: pytest.TempPathFactory, prepared: Path) -> AsyncIterator[Stack]:
    """One stack for many small attacks."""
    folder = tmp_path_factory.mktemp("hostile")
    made = Stack(folder, copy_of(prepared, folder))
    await made.open(1)
    await made.edge()
    await made.worker()
    await made.until_answers("/readyz")
    yield made
    await made.close()


async def test_a_slow_loris_is_shown_the_door(stack: Stack, edge: Process) -> None:
    """Headers and bodies that trickle in: 408 or the end after the set time, while others are served."""
    device_id = stack.devices[0]
    starts = [
        b"",
        b"POST /v1/devices/",
        b"POST /v1/devices HTTP/1.1\r\nHost: x\r\n",
        b"POST /v1/devices HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{",
        b"POST /v1/devices/%b/telemetry HTTP/1.1\r\nHost: x\r\nAuthorization: %b\r\nContent-Length: 100\r\n\r\n{"
        % (device_id.encode(), stack.access_key(device_id).encode()),
    ]
    async with Load(stack, 4) as load:
        answers = await asyncio.gather(*(raw(stack, start, end=False) for start in starts))
        await load.until(50)
    assert [status(answer) for answer in answers] == [0, 408, 408, 408, 408]
    assert set(load.statuses) == {201}


async def test_a_client_that_never_reads_costs_a_bounded_amount(stack: Stack, edge: Process) -> None:
    """Thousands of pipelined requests whose answers nobody takes: the edge stops reading, and serves others."""
    device_id = stack.devices[0]
    body = b'{"status":"online"}'
    head = f"POST /v1/devices/{device_id}/telemetry HTTP/1.1\r\nHost: x\r\n"
    head += f"Authorization: {stack.access_key(device_id)}\r\n"
    request = head.encode() + b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
    process = psutil.Process(edge.child.pid)
    before = process.memory_info().rss
    host, port = stack.url[7:].split(":")
    clients = []
    for _ in range(20):
        reader, writer = await asyncio.open_connection(host, int(port), limit=1024)
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        clients.append((reader, writer))
        for _ in range(300):
            writer.write(request * 20)
    async with Load(stack, 4) as load:
        await load.until(200)
    grown = process.memory_info().rss - before
    for _, writer in clients:
        writer.transport.abort()
    assert grown < 64 * 2**20, f"{grown / 2**20:.0f} MiB"


async def test_ten_thousand_connections_are_served(stack: Stack) -> None:
    """All of them stay open, each costs little, and devices among them are answered."""
    edge = await stack.edge(FLEETGATE_KEEP_ALIVE_S="3600")
    await stack.worker()
    await stack.until_answers("/readyz")
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most < CONNECTIONS + 500:
        pytest.skip(f"this machine allows a process {most} open files only")
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    host, port = stack.url[7:].split(":")
    process = psutil.Process(edge.child.pid)
    before = process.memory_info().rss
    request = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"
    clients = []
    for _ in range(CONNECTIONS // 100):
        opened = await asyncio.gather(*(asyncio.open_connection(host, int(port)) for _ in range(100)))
        for _, writer in opened:
            writer.write(request)
        for reader, _ in opened:
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
        clients += opened
    grown = process.memory_info().rss - before
    async with Load(stack, 4) as load:
        await load.until(100)
    assert not any(reader.at_eof() for reader, _ in clients)
    for _, writer in clients:
        writer.transport.abort()
    assert set(load.statuses) == {201}
    assert grown / CONNECTIONS < BYTES_PER_CONNECTION_MAX
