"""What real clients send, and the hot path and the ordinary routes must take alike."""

import asyncio
import json
import shutil

import pytest
from connections import BODY, Client
from edges import RunningEdge
from fleets import Fleet, fleet_of
from owners import Owner

H2C = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n"
WEBSOCKET = "Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
CONFIG = b'{"brightness":7}'


@pytest.fixture
async def fleet(acme: Owner) -> Fleet:
    """The fleet of Acme, whose devices may call as often as they like."""
    await acme.pool.execute("UPDATE device_models SET rate_limit = 100000")
    return await fleet_of(acme)


async def client_of(edge: RunningEdge, fleet: Fleet) -> Client:
    """A connection of a device that is registered."""
    unit = await fleet.unit()
    client = await Client(edge).connect()
    client.device_id, client.key = unit.id, unit.key
    return client


def requests(client: Client, body: bytes = BODY, extra: str = "") -> dict[str, bytes]:
    """The head of a POST to the hot path, to its address on the ordinary path, to another route, to all devices."""
    heads = {
        "hot": f"POST /v1/devices/{client.device_id}/telemetry HTTP/1.1",
        "ordinary": f"POST /v1/devices/{client.device_id}/telemetry?x=1 HTTP/1.1",
        "config": f"POST /v1/devices/{client.device_id}/config HTTP/1.1",
    }
    rest = f"Host: x\r\nAuthorization: {client.key}\r\n{extra}"
    return {name: f"{line}\r\n{rest}".encode() for name, line in heads.items()}


@pytest.mark.parametrize("offer", [H2C, WEBSOCKET], ids=["h2c", "websocket"])
@pytest.mark.parametrize("route", ["hot", "ordinary", "config"])
async def test_an_offer_to_upgrade_is_ignored_and_the_request_served(
    edge: RunningEdge, fleet: Fleet, route: str, offer: str
) -> None:
    """With its body, in one piece, in two, byte by byte, in chunks, after `100 Continue`, and pipelined."""
    client = await client_of(edge, fleet)
    accepted = 200 if route == "config" else 201
    head = requests(client, extra=offer)[route]
    length, chunked = b"Content-Length: %d\r\n\r\n" % len(BODY), b"Transfer-Encoding: chunked\r\n\r\n"
    chunks = b"5\r\n%b\r\n%x\r\n%b\r\n0\r\n\r\n" % (BODY[:5], len(BODY) - 5, BODY[5:])
    for pieces in (
        [head + length + BODY],
        [head + length, BODY],
        [head + length, BODY[:3], BODY[3:]],
        [bytes([byte]) for byte in head + length + BODY],
        [head + chunked + chunks],
        [head + chunked, chunks[:7], chunks[7:]],
    ):
        for piece in pieces:
            client.writer.write(piece)
            await client.writer.drain()
            await asyncio.sleep(0)
        assert (await client.answer())[0] == accepted, pieces
    client.writer.write(3 * (head + length + BODY))
    assert [(await client.answer())[0] for _ in range(3)] == [accepted] * 3
    client.writer.write(head + b"Expect: 100-continue\r\n" + length)
    assert await client.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    client.writer.write(BODY)
    assert (await client.answer())[0] == accepted
    client.writer.close()


async def test_an_offer_to_upgrade_without_a_body_is_ignored(edge: RunningEdge, fleet: Fleet) -> None:
    """A GET is answered, and the connection goes on in HTTP/1.1; one that is to be closed is closed."""
    client = await client_of(edge, fleet)
    get = f"GET /v1/devices/{client.device_id} HTTP/1.1\r\nHost: x\r\nAuthorization: {client.key}\r\n"
    client.writer.write(f"{get}{H2C}\r\n".encode() + client.head() + BODY)
    status, body = await client.answer()
    assert (status, json.loads(body)["id"]) == (200, client.device_id)
    assert (await client.answer())[0] == 201
    client.writer.write(f"{get}{H2C.replace('Upgrade, ', 'close, Upgrade, ')}\r\n".encode())
    assert b"connection: close" in (await client.end()).lower()


async def test_curl_that_offers_http_2_is_served(edge: RunningEdge, fleet: Fleet) -> None:
    """A POST of telemetry, a registration and a large config, as curl sends them."""
    curl = shutil.which("curl")
    if curl is None:
        pytest.skip("curl is not on this machine")
    unit = await fleet.unit()
    large = json.dumps({"text": "x" * 60_000})
    for path, body, accepted in (
        (f"/v1/devices/{unit.id}/telemetry", BODY.decode(), "201"),
        (f"/v1/devices/{unit.id}/config", large, "200"),
        ("/v1/devices", json.dumps(fleet.registration()), "201"),
    ):
        for more in ([], ["-H", "Transfer-Encoding: chunked"], ["-H", "Expect: 100-continue"]):
            if path == "/v1/devices":
                body = json.dumps(fleet.registration())
            process = await asyncio.create_subprocess_exec(
                *[
                    curl,
                    "-sS",
                    "--http2",
                    "-o",
                    "/dev/null",
                    "-w",
                    "%{http_code}",
                    edge.url + path,
                    "--data-binary",
                    "@-",
                ],
                *["-H", f"Authorization: {unit.key}", "-H", "Content-Type: application/json", *more],
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
            )
            told, _ = await process.communicate(body.encode())
            assert told.decode() == accepted, (path, more)


async def test_nobody_can_connect_through_the_edge(edge: RunningEdge) -> None:
    """It is no proxy; what follows is not parsed as another request."""
    client = await Client(edge).connect()
    client.writer.write(b"CONNECT example.com:443 HTTP/1.1\r\nHost: example.com\r\n\r\n" + client.head() + BODY)
    answer = await client.end()
    assert answer.startswith(b"HTTP/1.1 400")
    assert answer.count(b"HTTP/1.1") == 1


@pytest.mark.parametrize("route", ["hot", "ordinary", "config"])
@pytest.mark.parametrize(
    "space", [" {}", "{}", "   {}", "\t{}", " {} ", " {}\t", " {} \t ", " Bearer {} ", " bearer  {}\t", "\tBEARER {}"]
)
async def test_white_space_around_a_key_is_no_part_of_it(
    edge: RunningEdge, fleet: Fleet, route: str, space: str
) -> None:
    """RFC 9110, section 5.5; and a `Bearer ` prefix is tolerated."""
    client = await client_of(edge, fleet)
    head = requests(client)[route].replace(f" {client.key}".encode(), space.format(client.key).encode())
    client.writer.write(head + b"Content-Length:\t%d \r\n\r\n" % len(BODY) + BODY)
    assert (await client.answer())[0] == (200 if route == "config" else 201)
    client.writer.close()


@pytest.mark.parametrize("route", ["hot", "ordinary", "config"])
async def test_an_id_is_taken_in_any_case(edge: RunningEdge, fleet: Fleet, route: str) -> None:
    """RFC 9562: UUIDs are compared without regard to case."""
    client = await client_of(edge, fleet)
    for name in (client.device_id.upper(), client.device_id.title()):
        head = requests(client)[route].replace(client.device_id.encode(), name.encode())
        client.writer.write(head + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY)
        assert (await client.answer())[0] == (200 if route == "config" else 201)
    client.writer.close()


@pytest.mark.parametrize("route", ["hot", "ordinary", "config"])
async def test_two_different_keys_are_refused_and_the_same_one_twice_counts_once(
    edge: RunningEdge, fleet: Fleet, route: str
) -> None:
    """Whichever comes first, and not with 401, upon which a device would forget its key."""
    client = await client_of(edge, fleet)
    key = f"Authorization: {client.key}\r\n".encode()
    length = b"Content-Length: %d\r\n\r\n" % len(BODY)
    head = requests(client)[route]
    client.writer.write(head + b"authorization:  %b \r\n" % client.key.encode() + length + BODY)
    assert (await client.answer())[0] == (200 if route == "config" else 201)
    client.writer.close()
    other = b"Authorization: 0123\r\n"
    for keys in (key + other, other + key, key + b"Authorization:\r\n", key + b"Host: y\r\n" + other):
        again = await Client(edge).connect()
        again.writer.write(head.replace(key, keys) + length + BODY)
        answer = await again.end()
        assert answer.startswith(b"HTTP/1.1 400"), (keys, answer)
        assert b"Authorization is given more than once" in answer


@pytest.mark.parametrize("route", ["hot", "ordinary", "config"])
async def test_trailers_are_not_headers(edge: RunningEdge, fleet: Fleet, route: str) -> None:
    """A key behind the body is none; nor does it become one of the next request on the connection."""
    client = await client_of(edge, fleet)
    key = f"Authorization: {client.key}\r\n".encode()
    chunked = b"Transfer-Encoding: chunked\r\nTrailer: Authorization\r\n\r\n"
    chunks = b"%x\r\n%b\r\n0\r\n%b\r\n" % (len(BODY), BODY, key)
    keyless = requests(client)[route].replace(key, b"")
    client.writer.write(keyless + chunked + chunks + keyless + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY)
    for _ in range(2):
        assert await client.answer() == (401, b'{"error":"Unauthorized"}')
    # With the key where it belongs, a trailer with another one changes nothing.
    client.writer.write(keyless + key + chunked + chunks.replace(client.key.encode(), b"0123"))
    assert (await client.answer())[0] == (200 if route == "config" else 201)
    client.writer.close()
