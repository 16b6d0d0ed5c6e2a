"""Streams of events: by the public client library, and by hand as lines and as server-sent events."""

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import disruptive as dt
import jwt
import msgspec
import pytest
from disruptive import errors
from disruptive.authentication import ServiceAccountAuth
from edges import open_shards, running_edge
from flushing import drain, flushers, send, store_all
from owners import Owner, owner
from projects import Account, account_of

from gateway import event_tail
from gateway.api.callers.access_tokens import AUDIENCE, issue_token, token_key
from gateway.ingest.connection import ABORT
from gateway.v2 import stream
from gateway.v2.stream import _GoneError, _Sender
from schemas import keys
from schemas.postgres import Pool
from schemas.redis import Redis
from tests.conftest import MASTER_KEY

WAIT_S = 20


def stream_path(owner: Owner) -> str:
    return f"/v2/projects/{owner.project_id}/devices:stream"


class Lines:
    """The lines of one stream."""

    def __init__(self, response: Any) -> None:
        self.response = response

    async def next(self) -> Any:
        """The next line as JSON; None at the end."""
        async with asyncio.timeout(WAIT_S):
            line = await self.response.content.readline()
        return msgspec.json.decode(line) if line else None

    async def event(self) -> Any:
        """The next event that is no ping."""
        while True:
            line = await self.next()
            event = line["result"]["event"]
            if event["eventType"] != "ping":
                return event


@contextlib.asynccontextmanager
async def streaming(account: Account, query: str = "", **headers: str) -> AsyncIterator[Lines]:
    url = account.owner.url + stream_path(account.owner) + query
    given = {"authorization": account.basic, **headers}
    async with account.owner.http.get(url, headers=given) as response:
        assert response.status == 200, await response.text()
        yield Lines(response)


async def numbers(lines: Lines, count: int) -> list[int]:
    """The next so many telemetry messages' numbers."""
    return [(await lines.event())["data"]["telemetry"]["telemetries"]["n"] for _ in range(count)]


async def test_the_client_streams_events(edge: Any, acme: Owner, redis_client: Redis) -> None:
    """As its documentation shows, filtered by device, type and label; the event is the one that history has."""
    user = await account_of(acme, "project.developer")
    project = str(acme.project_id)
    device = await user.client(dt.Emulator.create_device, project, dt.Device.TEMPERATURE, labels={"room": "99"})
    other = await user.client(dt.Emulator.create_device, project, dt.Device.TOUCH)
    await store_all(edge, redis_client)
    auth = ServiceAccountAuth(user.key_id, user.secret, user.email)
    auth.token_endpoint = f"{acme.url}/oauth2/token"
    stream = dt.Stream.event_stream(
        project,
        device_ids=[device.device_id],
        label_filters={"room": "99"},
        device_types=[dt.Device.TEMPERATURE],
        event_types=[dt.events.TEMPERATURE, dt.events.TOUCH],
        auth=auth,
    )
    first = asyncio.create_task(asyncio.to_thread(next, stream))
    while not edge.services.events._count:
        assert not first.done(), first.exception()
        await asyncio.sleep(0.01)
    await user.client(dt.Emulator.publish_event, other.device_id, project, dt.events.Touch())
    await user.client(dt.Emulator.publish_event, device.device_id, project, dt.events.BatteryStatus(percentage=9))
    await user.client(dt.Emulator.publish_event, device.device_id, project, dt.events.Temperature(celsius=22))
    await store_all(edge, redis_client)
    async with asyncio.timeout(WAIT_S):
        event = await first
    assert (event.event_type, event.device_id, event.data.celsius) == ("temperature", device.device_id, 22)
    history = await user.client(
        dt.EventHistory.list_events, device.device_id, project, event_types=[dt.events.TEMPERATURE]
    )
    assert [past.raw for past in history] == [event.raw]
    await asyncio.to_thread(stream.close)


async def test_the_client_is_told_in_its_own_errors_why_there_is_no_stream(acme: Owner, globex: Owner) -> None:
    """No such project for it: not found, and not a fault of the client's own."""
    user = await account_of(acme, "project.user")
    stream = dt.Stream.event_stream
    with pytest.raises(errors.NotFound):
        await user.client(lambda **options: next(stream(str(globex.project_id), **options)), request_attempts=0)


async def test_every_stored_event_is_streamed_once_in_order_and_nothing_from_before(
    edge: Any, acme: Owner, redis_client: Redis
) -> None:
    """To all who watch, however many come and go; to none of another project."""
    device_id = await acme.device()
    user = await account_of(acme, "project.user")
    [shards] = flushers(edge, redis_client)

    async def store(*values: int) -> None:
        for n in values:
            await send(edge, device_id, telemetries={"n": n})
            await drain(shards)

    await store(0)
    async with streaming(user) as first:
        await store(1, 2)
        async with streaming(user) as second:
            await store(3)
            assert await numbers(second, 1) == [3]
        await store(4)
        assert await numbers(first, 4) == [1, 2, 3, 4]
    # Nobody watches for a while: what happens then is not streamed.
    async with asyncio.timeout(WAIT_S):
        while edge.services.events._count:
            await asyncio.sleep(0.01)
    await store(5)
    async with streaming(user) as third:
        await store(6)
        assert await numbers(third, 1) == [6]


async def test_a_log_that_went_back_goes_on(edge: Any, acme: Owner, redis_client: Redis) -> None:
    """PostgreSQL and Redis both forgot the last events: their numbers are given again, and what is new is streamed."""
    device_id = await acme.device()
    shard = (await acme.row(device_id))["shard"]
    async with streaming(await account_of(acme, "project.user")) as lines:
        for n in range(3):
            await send(edge, device_id, telemetries={"n": n})
            await store_all(edge, redis_client)
        assert await numbers(lines, 3) == [0, 1, 2]
        await redis_client.delete(keys.progress(shard))
        await acme.pool.execute("DELETE FROM events WHERE shard = $1", shard)
        await acme.pool.execute("UPDATE shards SET next_seq = 1 WHERE shard = $1", shard)
        async with asyncio.timeout(WAIT_S):
            while edge.services.events._places[shard] > 1:
                await asyncio.sleep(0.01)
        await send(edge, device_id, telemetries={"n": 3})
        await store_all(edge, redis_client)
        assert await numbers(lines, 1) == [3]


async def test_filters_let_pass_what_they_say(edge: Any, acme: Owner, redis_client: Redis) -> None:
    """Event type, device, device type, product number, labels (all of them), and words."""
    await acme.pool.execute(
        "UPDATE device_models SET device_type = 'co2', product_number = '77', event_mappings = $2 WHERE id = $1",
        acme.model_id,
        {"n": "co2"},
    )
    hall = await acme.device(name="Hall", labels={"floor": "2", "room": ""})
    cellar = await acme.device(name="Cellar", labels={"floor": "-1"})
    user = await account_of(acme, "project.user")
    passing = [
        "event_types=co2",
        f"deviceIds={hall}&device_ids=x",
        "device_types=co2&device_types=touch&event_types=co2",
        "product_numbers=77",
        "label_filters=floor%3D2",
        "label_filters=floor&label_filters=room",
        "label_filters=name%3DHall",
        "query=hall+co2",
    ]
    blocking = ["event_types=touch", "device_ids=x", "device_types=touch", "query=attic", "label_filters=floor%3D3"]
    async with contextlib.AsyncExitStack() as stack:
        open_streams = [
            await stack.enter_async_context(streaming(user, f"?ping_interval=1s&{query}"))
            for query in passing + blocking
        ]
        await send(edge, hall, telemetries={"n": 1})
        await store_all(edge, redis_client)
        for query, lines in zip(passing, open_streams, strict=False):
            event = await lines.event()
            assert event["targetName"].endswith(str(hall)), query
            assert event["eventType"] == ("co2" if "types=co2" in query else "telemetry"), query
        for query, lines in list(zip(passing + blocking, open_streams, strict=True))[len(passing) :]:
            assert (await lines.next())["result"]["event"]["eventType"] == "ping", query
    assert cellar


async def test_what_a_device_tells_in_its_makers_words_is_streamed(edge: Any, acme: Owner, redis_client: Redis) -> None:
    """`deviceEvent`, for who asks for it: `name, category, int_key_1/2, string_key_1/2`."""
    device_id = await acme.device()
    async with streaming(await account_of(acme, "project.user"), "?event_types=deviceEvent") as lines:
        body = {"name": "door_opened", "category": "access", "int_key_1": 1, "int_key_2": 2}
        body |= {"string_key_1": "a", "string_key_2": "b"}
        key = edge.services.access_keys.issue(str(device_id), 0)
        assert await acme.ask("POST", f"/v1/devices/{device_id}/events", body, key) == (200, {"status": True})
        await send(edge, device_id, telemetries={"n": 1})
        await store_all(edge, redis_client)
        event = await lines.event()
        assert event["eventType"] == "deviceEvent"
        told = event["data"]["deviceEvent"]
        assert told | {"updateTime": ""} == {
            "updateTime": "",
            "name": "door_opened",
            "category": "access",
            "intKey1": 1,
            "intKey2": 2,
            "stringKey1": "a",
            "stringKey2": "b",
        }


async def test_server_sent_events_for_who_accepts_them(edge: Any, acme: Owner, redis_client: Redis) -> None:
    """The same objects, each as the data of an event."""
    device_id = await acme.device()
    user = await account_of(acme, "project.user")
    async with streaming(user, accept="text/event-stream") as lines:
        assert lines.response.content_type == "text/event-stream"
        await send(edge, device_id, status="online")
        await store_all(edge, redis_client)
        async with asyncio.timeout(WAIT_S):
            line, empty = await lines.response.content.readline(), await lines.response.content.readline()
        assert (line[:6], empty) == (b"data: ", b"\n")
        event = msgspec.json.decode(line[6:])["result"]["event"]
        assert list(event) == ["eventId", "targetName", "eventType", "data", "timestamp"]
    async with streaming(user) as lines:
        assert lines.response.content_type == "application/x-ndjson"


async def test_pings_come_to_who_asks_for_them(acme: Owner) -> None:
    """When nothing else does, as often as is asked for; other intervals than whole sensible ones are refused."""
    user = await account_of(acme, "project.user")
    for accept in ("*/*", "text/event-stream"):
        async with streaming(user, "?ping_interval=1s", accept=accept) as lines:
            async with asyncio.timeout(WAIT_S):
                line = await lines.response.content.readline()
            ping = msgspec.json.decode(line.removeprefix(b"data: "))["result"]["event"]
            assert (ping["eventType"], ping["data"]) == ("ping", None)
    for wrong in ("0s", "10", "10m", "1e3s", "1000s", "-1s", "%00s"):
        status, answer = await user.ask("GET", f"{stream_path(acme)}?ping_interval={wrong}")
        assert (status, answer["error"]["code"]) == (400, 400)
    for wrong in ("event_types=x", "query=" + "a+" * 21, "device_types=%00"):
        assert (await user.ask("GET", f"{stream_path(acme)}?{wrong}"))[0] == 400


async def test_who_asks_for_no_pings_gets_events_only(
    edge: Any, acme: Owner, redis_client: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Server-sent events are kept alive by comments, which no client shows; lines are still until something happens."""
    monkeypatch.setattr(stream, "KEEP_ALIVE_S", 0.05)
    device_id = await acme.device()
    user = await account_of(acme, "project.user")
    async with streaming(user, accept="text/event-stream") as sent, streaming(user) as lines:
        async with asyncio.timeout(WAIT_S):
            said = [await sent.response.content.readline() for _ in range(4)]
        assert said == [b":\n", b"\n", b":\n", b"\n"]
        await send(edge, device_id, telemetries={"n": 1})
        await store_all(edge, redis_client)
        assert (await lines.next())["result"]["event"]["eventType"] == "telemetry"
        async with asyncio.timeout(WAIT_S):
            while (line := await sent.response.content.readline()) in (b":\n", b"\n"):
                pass
        assert msgspec.json.decode(line.removeprefix(b"data: "))["result"]["event"]["eventType"] == "telemetry"


async def test_a_silent_peer_is_asked_for_by_the_kernel(edge: Any, acme: Owner) -> None:
    """A stream of lines says nothing for days; a client that vanished must not hold its place for ever."""
    user = await account_of(acme, "project.user")
    async with streaming(user):
        [connection] = [c for c in edge.server.server_state.connections if c.cycle is not None]
        accepted = connection.transport.get_extra_info("socket")
        assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 60


async def test_a_reader_that_is_too_slow_is_told_so_and_dropped(
    edge: Any, acme: Owner, redis_client: Redis, pool: Pool
) -> None:
    """When more waits than its buffer holds; a faster one beside it gets everything."""
    device_id = await acme.device()
    user = await account_of(acme, "project.user")
    [shards] = flushers(edge, redis_client)
    text = "x" * 900
    count = 8_000  # more than the buffers of the kernel, of the transport and of the watch hold together
    host, port = "127.0.0.1", edge.port
    slow = socket.socket()
    slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    slow.connect((host, port))
    request = f"GET {stream_path(acme)} HTTP/1.1\r\nHost: x\r\nAuthorization: {user.basic}\r\n\r\n"
    await asyncio.to_thread(slow.sendall, request.encode())
    async with streaming(user) as fast:
        while edge.services.events._count < 2:
            await asyncio.sleep(0.01)
        seen = 0
        for first in range(0, count, 500):
            await _happen(pool, acme, device_id, first, 500, text)
            seen += len(await numbers(fast, 500))
        assert seen == count
        assert await drain(shards) == 0
    received = await asyncio.to_thread(_read_all, slow)
    last = received.rstrip(b"\r\n0").rpartition(b"\n")[2]
    error = msgspec.json.decode(b"{" + last.partition(b"{")[2].rstrip(b"\r\n"))["error"]
    assert (error["code"], "too slowly" in error["message"]) == (503, True)
    assert 100 < received.count(b"eventId") < count


async def _happen(pool: Pool, acme: Owner, device_id: UUID, first: int, count: int, text: str) -> None:
    """Store many events at once, as the flusher does."""
    shard = (await acme.row(device_id))["shard"]
    now = datetime.now(UTC)
    async with pool.acquire() as connection, connection.transaction():
        seq = await connection.fetchval(
            "UPDATE shards SET next_seq = next_seq + $2 WHERE shard = $1 RETURNING next_seq - $2", shard, count
        )
        await connection.copy_records_to_table(
            "events",
            columns=("shard", "seq", "stored_at", "type", "device_id", "project_id", "ts", "data"),
            records=[
                (
                    *(shard, seq + n, now, "telemetry", device_id, acme.project_id, now),
                    {"telemetry": {"telemetries": {"n": first + n, "text": text}}},
                )
                for n in range(count)
            ],
        )


def _read_all(connection: socket.socket) -> bytes:
    connection.settimeout(WAIT_S)
    received = b""
    with contextlib.suppress(ConnectionResetError):
        while not received.endswith(b"0\r\n\r\n"):
            piece = connection.recv(1 << 20)
            if not piece:
                break
            received += piece
    connection.close()
    return received


async def test_a_client_that_takes_nothing_for_long_is_cut_off() -> None:
    """Its connection is ended without waiting for it, and with it the stream."""
    ended: list[str] = []

    async def never(_message: Any) -> None:
        await asyncio.Event().wait()

    said = _Sender(never, {"extensions": {ABORT: lambda: ended.append("aborted")}}, timeout_s=0.01)
    with pytest.raises(_GoneError):
        await said.body(b"x")
    assert ended == ["aborted"]


async def test_a_watch_overflows_at_its_limits() -> None:
    """By number and by bytes; then it takes nothing more."""

    class Event(dict[str, Any]):
        json = b"x"

        def __init__(self) -> None:
            super().__init__(shard=0, seq=1)

    watch = event_tail.Watch(UUID(int=1), event_tail.Watcher(UUID(int=2), "account"), event_tail.WatchFilter())
    for _ in range(event_tail.BUFFER_EVENTS_MAX):
        watch.offer(Event())  # type: ignore[arg-type]
    assert not watch.overflowed
    assert len(watch.take()) == event_tail.BUFFER_EVENTS_MAX
    for _ in range(event_tail.BUFFER_EVENTS_MAX + 1):
        watch.offer(Event())  # type: ignore[arg-type]
    assert watch.overflowed
    watch = event_tail.Watch(UUID(int=1), event_tail.Watcher(UUID(int=2), "account"), event_tail.WatchFilter())
    event = Event()
    event.json = b"x" * (event_tail.BUFFER_BYTES_MAX // 2 + 1)
    watch.offer(event)  # type: ignore[arg-type]
    assert not watch.overflowed
    watch.offer(event)  # type: ignore[arg-type]
    assert (watch.overflowed, watch.take()) == (True, [])


async def test_a_stream_ends_when_its_account_may_no_longer_read(acme: Owner) -> None:
    """Within a ping interval: 401 when it may not sign in so, 404 without a role, 503 (come again) for an old token."""
    user = await account_of(acme, "project.user")
    now = int(time.time())
    claims = {"sub": user.id, "key": user.key_id, "aud": AUDIENCE, "iat": now - 3598, "exp": now + 2}
    short = jwt.encode(claims, token_key(MASTER_KEY), "HS256")
    long = issue_token(MASTER_KEY, user.id, user.key_id, now)

    async def end(lines: Lines) -> Any:
        while "error" not in (line := await lines.next()):
            pass
        assert await lines.next() is None
        return line["error"]

    async with (
        streaming(user, "?ping_interval=1s", authorization=f"Bearer {short}") as expiring,
        streaming(user, "?ping_interval=1s", authorization=f"Bearer {long}") as kept,
        streaming(user, "?ping_interval=1s") as basic,
    ):
        assert (await end(expiring))["code"] == 503
        await acme.pool.execute("UPDATE service_accounts SET basic_auth_enabled = false WHERE id = $1", user.id)
        assert (await end(basic))["code"] == 401
        assert "result" in await kept.next()
        await acme.pool.execute("DELETE FROM memberships WHERE service_account_id = $1", user.id)
        assert (await end(kept))["code"] == 404


async def test_a_client_of_http_1_0_gets_no_chunks(acme: Owner) -> None:
    """But the lines as they are, until the connection ends; as a proxy that speaks 1.0 inwards passes them on."""
    user = await account_of(acme, "project.user")
    host, _, port = acme.url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    path = f"{stream_path(acme)}?ping_interval=1s"
    writer.write(f"GET {path} HTTP/1.0\r\nHost: x\r\nAuthorization: {user.basic}\r\n\r\n".encode())
    async with asyncio.timeout(WAIT_S):
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        assert b"chunked" not in head
        assert b"connection: close" in head
        for _ in range(2):
            assert msgspec.json.decode(await reader.readline())["result"]["event"]["eventType"] == "ping"
        await acme.pool.execute("DELETE FROM service_account_keys WHERE id = $1", user.key_id)
        *_, last = (await reader.read()).splitlines()
    assert msgspec.json.decode(last)["error"]["code"] == 401
    writer.close()
    await writer.wait_closed()


async def test_a_deleted_key_ends_its_streams(acme: Owner) -> None:
    """With 401, after which the client does not try again."""
    user = await account_of(acme, "project.user")
    async with streaming(user, "?ping_interval=1s") as lines:
        await acme.pool.execute("DELETE FROM service_account_keys WHERE id = $1", user.key_id)
        while "error" not in (line := await lines.next()):
            pass
        assert line["error"]["code"] == 401


async def test_streams_end_when_the_gateway_shuts_down(dsn: str, redis_url: str, redis_client: Redis) -> None:
    """With an error that tells clients to connect again, and without holding the process up."""
    await open_shards(redis_client)
    async with contextlib.AsyncExitStack() as stack:
        running = await stack.enter_async_context(running_edge(dsn, redis_url, shutdown_timeout_s=600))
        user = await account_of(await owner(running, "Acme"), "project.user")
        lines = await stack.enter_async_context(streaming(user))
        running.end()
        assert (await lines.next())["error"]["code"] == 503
        assert await lines.next() is None
        async with asyncio.timeout(WAIT_S):
            await stack.aclose()


async def test_streams_are_bounded(acme: Owner, edge: Any) -> None:
    """One more than an edge serves is refused with 503, and a place that is free again can be had."""
    user = await account_of(acme, "project.user")
    tail = edge.services.events
    watches = [
        event_tail.Watch(acme.project_id, event_tail.Watcher(uuid4(), str(n)), event_tail.WatchFilter())
        for n in range(edge.services.settings.streams_max)
    ]
    for watch in watches:
        await tail.begin(watch)
    status, answer = await user.ask("GET", stream_path(acme))
    assert (status, answer["error"]["code"]) == (503, 503)
    for watch in watches[1:]:
        tail.end(watch)
    async with streaming(user):
        tail.end(watches[0])
    async with user.owner.http.head(acme.url + stream_path(acme), headers={"authorization": user.basic}) as response:
        assert response.status == 200
