"""The hot path: telemetry in, the response map out, every message in the stream before its 2xx."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from owners import Owner
from webhooks import until

from gateway.ingest import pressure
from gateway.ingest.call_limit import WINDOW_S
from schemas import entries, ids, keys, replies, telemetry
from schemas.redis import Redis
from tests.conftest import SHARDS


def device(edge: Any) -> tuple[str, str]:
    """The id and access key of a device that need not exist: nothing is looked up."""
    device_id = str(ids.new_id())
    return device_id, edge.services.access_keys.issue(device_id, 0)


async def post(edge: Any, device_id: str, key: str, body: bytes) -> tuple[int, Any]:
    url = f"{edge.url}/v1/devices/{device_id}/telemetry"
    async with edge.http.post(url, data=body, headers={"authorization": key}) as response:
        return response.status, json.loads(await response.read())


async def stored(client: Redis) -> list[tuple[bytes, bytes]]:
    """Device id and body of every message in the streams."""
    found = []
    for shard in range(SHARDS):
        for _, fields in await client.xrange(keys.ingest(shard)):
            items = entries.unpack(fields[b"b"]).items
            found += [(items[i], items[i + 2]) for i in range(0, len(items), 3)]
    return found


async def test_an_accepted_message_is_in_the_stream(edge: Any, redis_client: Redis) -> None:
    """201 with the response map, and the bytes as they were sent."""
    device_id, key = device(edge)
    body = b'{"status":"online","telemetries":{"cpu":12.5}}'
    status, answer = await post(edge, device_id, key, body)
    assert status == 201
    assert answer == {
        "success": True,
        "config_version": 0,
        "command": False,
        "new_licenses": False,
        "info_version": 0,
        "space_data_version": 0,
        "latest_fw_version": None,
        "latest_fw_file_id": None,
    }
    assert await stored(redis_client) == [(device_id.encode(), body)]


async def test_a_wrong_key_is_refused_and_nothing_is_stored(edge: Any, redis_client: Redis) -> None:
    """Another device's key, no key and garbage are all 401."""
    device_id, key = device(edge)
    for wrong in (device(edge)[1], "", "x" * 32, key[:-1], key.upper() + "0"):
        status, answer = await post(edge, device_id, wrong, b'{"status":"online"}')
        assert (status, answer) == (401, {"error": "Unauthorized"})
    assert await stored(redis_client) == []


async def test_a_key_of_another_version_than_the_reply_names_is_refused(edge: Any, redis_client: Redis) -> None:
    """Old keys are told 401, and so is one that was not issued yet; the device's own and the one beside it are good."""
    device_id, _ = device(edge)
    given = [edge.services.access_keys.issue(device_id, version) for version in range(1, 5)]
    reply = b"%014x%02x%02x%b.%b" % (1, 2, 3, replies.DEFAULT_RATE_LIMIT_HEX, replies.NOTHING_WAITS)
    await redis_client.hset(keys.reply(ids.shard_of(device_id.encode(), SHARDS)), device_id, reply)
    statuses = [(await post(edge, device_id, key, b'{"status":"online"}'))[0] for key in given]
    assert statuses == [401, 201, 201, 401]


async def test_calls_beyond_the_limit_are_refused_on_the_hot_path(edge: Any, redis_client: Redis) -> None:
    """429 with Retry-After, exactly from the call after the last one that the device's reply allows."""
    device_id, key = device(edge)
    reply = b"%014x0000%08x.%b" % (5, 8, replies.NOTHING_WAITS)
    await redis_client.hset(keys.reply(ids.shard_of(device_id.encode(), SHARDS)), device_id, reply)
    headers = {"authorization": key}
    statuses, window = [], int(time.time()) // WINDOW_S
    while len(statuses) < 12:
        url = f"{edge.url}/v1/devices/{device_id}/telemetry"
        async with edge.http.post(url, data=b'{"status":"online"}', headers=headers) as response:
            statuses.append(response.status)
        if int(time.time()) // WINDOW_S != window:  # the count began anew
            statuses, window = [], window + 1
    assert statuses == [201] * 8 + [429] * 4
    assert 1 <= int(response.headers["retry-after"]) <= WINDOW_S


@pytest.fixture
async def nearly_full(
    redis_client: Redis, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Callable[[bool], Awaitable[None]]]:
    """Makes Redis nearly full, and gives it room again; an edge that is started afterwards looks often."""
    monkeypatch.setattr(pressure, "INTERVAL_S", 0.01)
    [before] = (await redis_client.config_get("maxmemory")).values()

    async def set_full(full: bool) -> None:
        used = (await redis_client.info("memory"))["used_memory"]
        await redis_client.config_set("maxmemory", used * 20 // 19 if full else before)

    yield set_full
    await set_full(False)


async def test_telemetry_is_shed_while_redis_is_nearly_full(
    nearly_full: Callable[[bool], Awaitable[None]], edge: Any, redis_client: Redis
) -> None:
    """Past its mark, before Redis itself must refuse: 503 with a reason and the reply; room again, telemetry again."""
    device_id, key = device(edge)

    async def answered(status: int) -> Any:
        found, answer = await post(edge, device_id, key, b'{"status":"online"}')
        return answer if found == status else None

    assert await answered(201)
    await nearly_full(True)
    told = await until(lambda: answered(503), 10)
    assert told["error"] == "Telemetry is not taken at the moment: the message store is nearly full"
    assert (told["success"], told["command"]) == (False, False)
    taken = len(await stored(redis_client))
    assert await answered(503)
    assert len(await stored(redis_client)) == taken
    await nearly_full(False)
    assert (await until(lambda: answered(201), 10))["success"] is True


@pytest.mark.parametrize(
    ("body", "status", "text"),
    [
        (b"", 400, "Body is not valid JSON"),
        (b"{", 400, "Body is not valid JSON"),
        (b"[]", 422, "Body must be a JSON object"),
        (b'{"telemetries":[]}', 422, "Telemetries must be a map"),
        (b'{"telemetries":{"a":{"b":1}}}', 422, "Common telemetries.a must be string, number or boolean"),
        (b'{"telemetries":{"a":9223372036854775808}}', 422, "Common telemetries.a must be a 64-bit signed integer"),
        (b'{"telemetries":{"a":1e309}}', 422, "Common telemetries.a must be a 64-bit float"),
        (b'{"telemetries":{"a":NaN}}', 400, "Body is not valid JSON"),
        (b'{"telemetries":{"\xff":1}}', 400, "Body is not valid JSON"),
        (b'{"status":"fine"}', 422, "Status must be one of online, offline, error"),
        (b"{}", 422, "One of status and telemetries is required"),
        (b'{"x":' + b"[" * 60_000 + b"]" * 60_000 + b"}", 400, "Body is nested too deeply"),
        (b'{"telemetries":{"a":"' + b"\xc3\xa9" * 501 + b'"}}', 422, "Common telemetries.a must be at most 1000 bytes"),
        (
            b'{"status":"online","timestamp":"2999-01-01T00:00:00Z"}',
            422,
            "Timestamp is more than 24 hours in the future",
        ),
    ],
)
async def test_hostile_bodies_get_a_sentence(
    edge: Any, redis_client: Redis, body: bytes, status: int, text: str
) -> None:
    """Never a 500, and nothing reaches the stream."""
    assert await post(edge, *device(edge), body) == (status, {"error": text})
    assert await stored(redis_client) == []


async def test_a_message_over_the_limit_is_413_and_the_connection_ends(edge: Any, redis_client: Redis) -> None:
    """The body is not read to its end."""
    device_id, key = device(edge)
    size = telemetry.BODY_BYTES_MAX + 1
    status, answer = await post(edge, device_id, key, b" " * size)
    assert (status, answer) == (413, {"error": f"A telemetry message is at most {telemetry.BODY_BYTES_MAX} bytes"})
    assert await stored(redis_client) == []


async def test_pipelined_messages_are_answered_in_order(edge: Any, redis_client: Redis) -> None:
    """Three messages in one write: three answers, three messages in the stream in the order they were sent."""
    device_id, key = device(edge)
    reader, writer = await asyncio.open_connection("127.0.0.1", edge.port)
    for number in range(3):
        body = b'{"telemetries":{"n":%d}}' % number
        head = f"POST /v1/devices/{device_id}/telemetry HTTP/1.1\r\nHost: x\r\nAuthorization: {key}\r\n"
        writer.write(head.encode() + b"Content-Length: %d\r\n\r\n" % len(body) + body)
    for _ in range(3):
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        assert head.startswith("HTTP/1.1 201")
        length = int(head.lower().split("content-length: ")[1].split("\r\n")[0])
        await reader.readexactly(length)
    writer.close()
    assert [body for _, body in await stored(redis_client)] == [b'{"telemetries":{"n":%d}}' % n for n in range(3)]


async def test_a_half_closed_client_still_gets_its_answer(edge: Any) -> None:
    """A client that stops sending after its request reads 201, then the end."""
    device_id, key = device(edge)
    reader, writer = await asyncio.open_connection("127.0.0.1", edge.port)
    body = b'{"status":"online"}'
    head = f"POST /v1/devices/{device_id}/telemetry HTTP/1.1\r\nHost: x\r\nAuthorization: {key}\r\n"
    writer.write(head.encode() + b"Content-Length: %d\r\n\r\n" % len(body) + body)
    writer.write_eof()
    assert (await reader.read()).startswith(b"HTTP/1.1 201")
    writer.close()


async def test_expect_continue_and_chunked_bodies_are_served(edge: Any, redis_client: Redis) -> None:
    """The one takes the ordinary route, the other the hot path; both store the message."""
    device_id, key = device(edge)
    url, headers = f"{edge.url}/v1/devices/{device_id}/telemetry", {"authorization": f"Bearer {key}"}
    async with edge.http.post(url, data=b'{"status":"online"}', headers=headers, expect100=True) as response:
        assert response.status == 201

    async def chunks() -> Any:
        yield b'{"status":'
        yield b'"offline"}'

    async with edge.http.post(url, data=chunks(), headers=headers) as response:
        assert response.status == 201
    assert [body for _, body in await stored(redis_client)] == [b'{"status":"online"}', b'{"status":"offline"}']


async def test_an_emptied_redis_means_503_until_the_shard_is_rebuilt(edge: Any, redis_client: Redis) -> None:
    """Nothing is accepted, and no device is told that nothing waits for it."""
    device_id, key = device(edge)
    await redis_client.flushall()
    status, answer = await post(edge, device_id, key, b'{"status":"online"}')
    assert (status, answer) == (503, {"error": "The message store is being rebuilt"})
    assert await stored(redis_client) == []


async def test_the_limit_of_calls_is_exact_on_one_edge(edge: Any) -> None:
    """The 31st call of a window is 429 and says when to come back."""
    # A window may end in between: then the count begins anew, no call is refused, and the next device has a whole one.
    for _ in range(2):
        device_id, key = device(edge)
        url, headers = f"{edge.url}/v1/devices/{device_id}/telemetry", {"authorization": key}
        statuses = []
        for _ in range(31):
            async with edge.http.post(url, data=b'{"status":"online"}', headers=headers) as response:
                statuses.append(response.status)
                retry_after = response.headers.get("retry-after")
        if statuses != [201] * 31:
            break
    assert statuses == [201] * 30 + [429]
    assert retry_after is not None
    assert 1 <= int(retry_after) <= 30


async def test_many_messages_in_one_request_each_get_their_own_answer(edge: Any, redis_client: Redis) -> None:
    """A good message is stored without its token, a bad one is told why; the whole is 422."""
    (good, key), (bad, _) = device(edge), device(edge)
    body = {
        good: {"access_token": key, "telemetries": {"a": 1}},
        bad: {"access_token": key, "telemetries": {"a": 1}},
    }
    async with edge.http.post(f"{edge.url}/v1/devices/{good}/children/telemetries", json=body) as response:
        assert response.status == 422
        answer = await response.json()
    assert answer[good]["success"] is True
    assert answer[bad] == {"error": "Unauthorized"}
    assert await stored(redis_client) == [(good.encode(), b'{"telemetries":{"a":1}}')]


async def registered(edge: Any, acme: Owner) -> tuple[str, str]:
    """The id and access key of a device that exists, as ordinary routes ask for."""
    device_id = str(await acme.device())
    return device_id, edge.services.access_keys.issue(device_id, 0)


async def mass(edge: Any, device_id: str, key: str, body: bytes) -> tuple[int, Any]:
    url = f"{edge.url}/v1/devices/{device_id}/children/telemetries"
    async with edge.http.post(url, data=body, headers={"authorization": key}) as response:
        return response.status, json.loads(await response.read())


def numbered(*numbers: int, **members: Any) -> list[dict[str, Any]]:
    """Messages that differ in a number."""
    return [{"telemetries": {"n": n}, **members} for n in numbers]


async def test_an_offline_device_sends_its_batch_as_an_array(edge: Any, acme: Owner, redis_client: Redis) -> None:
    """By its own key, more messages than it may make calls; one answer for the device, all stored in order."""
    device_id, key = await registered(edge, acme)
    batch = numbered(*range(100))
    status, answer = await mass(edge, device_id, key, json.dumps({device_id.upper(): batch}).encode())
    assert (status, answer[device_id.upper()]["success"]) == (201, True)
    found = [(name, json.loads(body)) for name, body in await stored(redis_client) if body]
    assert found == [(device_id.encode(), message) for message in batch]
    metrics = edge.services.metrics
    assert (metrics.received._value.get(), metrics.accepted._value.get()) == (100, 100)


async def test_an_array_with_tokens_needs_no_other_key(edge: Any, redis_client: Redis) -> None:
    """In each of its messages or in one, as in a header; two different ones are 401 for that device; they are
    never stored."""
    (each, key), (one, key_of_one), (two, key_of_two), (three, key_of_three) = (device(edge) for _ in range(4))
    body = {
        each: numbered(1, access_token=key) + numbered(2, access_token=f" bearer {key}\n", access_key=f"{key} "),
        one: numbered(3) + numbered(4, access_key=key_of_one),
        two: numbered(5, access_token=key_of_two) + numbered(6, access_token=key),
        three: numbered(7, access_token=key_of_three, access_key=key),
    }
    status, answer = await mass(edge, each, "", json.dumps(body).encode())
    assert (status, answer[two], answer[three]) == (422, {"error": "Unauthorized"}, {"error": "Unauthorized"})
    assert answer[each]["success"] is answer[one]["success"] is True
    found = await stored(redis_client)
    assert sorted(json.loads(body)["telemetries"]["n"] for _, body in found) == [1, 2, 3, 4]
    assert all(b"access" not in body for _, body in found)


@pytest.mark.parametrize(
    ("batch", "text"),
    [
        ([], "One message at least is required"),
        ([{"telemetries": {"n": 1}}, {"telemetries": {"n": {}}}], "Message 2: Common telemetries.n must be string,"),
        ([{}, {"status": "online"}], "Message 1: One of status and telemetries is required"),
        ([[{"status": "online"}], {"status": "online"}], "Message 1: Body must be a JSON object"),
        (
            [{"status": "online"}, {"message": "x" * 140_000, "status": "online"}],
            "Message 2: A telemetry message is at",
        ),
    ],
)
async def test_an_array_is_stored_whole_or_not_at_all(
    edge: Any, acme: Owner, redis_client: Redis, batch: Any, text: str
) -> None:
    """Else a device that sends it again would double what was good; others in the request are stored."""
    device_id, key = await registered(edge, acme)
    other, other_key = device(edge)
    body = {device_id: batch, other: {"access_token": other_key, "status": "online"}}
    status, answer = await mass(edge, device_id, key, json.dumps(body).encode())
    assert status == 422
    assert answer[device_id]["error"].startswith(text)
    assert answer[other]["success"] is True
    assert [name for name, body in await stored(redis_client) if body] == [other.encode()]


async def test_the_messages_of_arrays_count(edge: Any, redis_client: Redis) -> None:
    """A hundred in one request, however they are spread; one more and the whole is refused."""
    (a, key), (b, _) = device(edge), device(edge)
    for body in ({a: numbered(*range(101))}, {a: numbered(*range(60)), b: numbered(*range(41))}):
        status, answer = await mass(edge, a, key, json.dumps(body).encode())
        assert (status, answer) == (422, {"error": "At most 100 messages are sent at once"})
    assert await stored(redis_client) == []


@pytest.mark.parametrize("layout", [b"{%b:%b,%b:%b}", b"{ %b : %b,\n%b : %b }", b"\xef\xbb\xbf{%b:%b,%b:%b}"])
@pytest.mark.parametrize("second", [b'"%b"', b'"\\u00%b"'])
@pytest.mark.parametrize("case", ["lower", "upper"])
async def test_a_device_that_stands_twice_is_refused_with_the_whole(
    edge: Any, redis_client: Redis, layout: bytes, second: bytes, case: str
) -> None:
    """However the map is written: a decoder would keep the last message and lose the other."""
    device_id, key = device(edge)
    again = getattr(device_id, case)().encode()
    again = second % (b"%x%b" % (again[0], again[1:]) if b"u00" in second else again)
    message = b'{"telemetries":{"%b":1}}' % device_id.encode()
    body = layout % (b'"%b"' % device_id.encode(), message, again, message)
    status, answer = await mass(edge, device_id, key, body)
    assert (status, answer) == (
        422,
        {"error": f"{device_id} stands there twice: send several messages of a device as an array"},
    )
    assert await stored(redis_client) == []


async def test_a_map_that_only_looks_as_if_an_id_stood_twice_is_taken(
    edge: Any, acme: Owner, redis_client: Redis
) -> None:
    """The id as a telemetry key, as a value, and spaces that a library puts between members."""
    device_id, key = await registered(edge, acme)
    for body in (
        json.dumps({device_id: {"telemetries": {device_id: device_id, "x": f'"{device_id}":'}}}, indent=3),
        json.dumps({device_id: {"telemetries": {"ä/\n": 1e300, "n": 10**18}}}),
    ):
        status, _ = await mass(edge, device_id, key, body.encode())
        assert status == 201
    assert len([body for _, body in await stored(redis_client) if body]) == 2
