"""Many requests on a connection, good and bad: all are answered, in their order, and each has limits of its own."""

import asyncio
from typing import Any

import pytest
from connections import BODY, Client
from edges import RunningEdge, open_shards, running_edge
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from gateway.ingest.protocol import HEAD_BYTES_MAX
from gateway.ingest.route_timeouts import RouteTimeouts
from schemas.redis import Redis

GET = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"
BAD = b"G=T /livez HTTP/1.1\r\nHost: x\r\n\r\n"
KEPT_OPEN = 10_000


@pytest.fixture
async def slow(edge: RunningEdge) -> asyncio.Event:
    """Lets `GET /slow`, which until then is under way, be answered."""
    event = asyncio.Event()

    async def answer(request: Request) -> JSONResponse:
        await event.wait()
        return JSONResponse({})

    app: Any = edge.server.config.app
    app.router.routes.insert(0, Route("/slow", answer))
    return event


async def test_ten_thousand_small_requests_in_a_row_are_all_answered(edge: RunningEdge) -> None:
    """The limit of the headers counts for each request, however the requests are cut into pieces."""
    client = await Client(edge).connect()
    sending = asyncio.create_task(_send(client, GET * KEPT_OPEN))
    for _ in range(KEPT_OPEN):
        assert (await client.answer())[0] == 200
    await sending
    client.writer.write(client.head() + BODY)
    assert (await client.answer())[0] == 201
    client.writer.close()


async def _send(client: Client, data: bytes) -> None:
    for start in range(0, len(data), 7_919):
        client.writer.write(data[start : start + 7_919])
        await client.writer.drain()


@pytest.mark.parametrize("where", ["head", "trailers", "chunk extension"])
async def test_headers_that_never_end_are_refused(edge: RunningEdge, where: str) -> None:
    """Also behind good requests, and where a body should be."""
    client = await Client(edge).connect()
    chunked = client.head().split(b"Content-Length")[0] + b"Transfer-Encoding: chunked\r\n\r\n"
    begin = {"head": GET[:-2] + b"A: ", "trailers": chunked + b"0\r\nA: ", "chunk extension": chunked + b"5;a="}[where]
    client.writer.write(3 * GET + begin + b"a" * (3 * HEAD_BYTES_MAX))
    answer = await client.end()
    assert answer.count(b"HTTP/1.1 200") == 3
    assert answer.split(b"HTTP/1.1 ")[-1].startswith(b"431")


@pytest.mark.parametrize(
    ("bad", "status"),
    [
        (BAD, b"400"),
        (b"\x00\x01\r\n\r\n", b"400"),
        (b"GET /livez HTTP/1.1\r\nHost: x\r\nA: " + b"a" * (3 * HEAD_BYTES_MAX), b"431"),
        (b"POST /v1/devices HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", b"400"),
        (b"GET /livez HTTP/1.1\r\nHost: x\r\nAuthorization: a\r\nAuthorization: b\r\n\r\n", b"400"),
        (b"CONNECT a:1 HTTP/1.1\r\nHost: x\r\n\r\n", b"400"),
    ],
)
@pytest.mark.parametrize("ahead", [0, 1, 3])
async def test_a_refusal_never_overtakes_answers_that_are_under_way(
    edge: RunningEdge, slow: asyncio.Event, ahead: int, bad: bytes, status: bytes
) -> None:
    """Whatever is wrong with a request, it is said behind the answers to those before it, and then the end."""
    client = await Client(edge).connect()
    client.writer.write(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n" + ahead * (client.head() + BODY) + bad + 5 * GET)
    await _until_refused(edge)
    slow.set()
    answers = (await client.end()).split(b"HTTP/1.1 ")[1:]
    assert [answer[:3] for answer in answers] == [b"200", *[b"201"] * ahead, status]
    assert b"Connection: close" in answers[-1]


async def test_a_refusal_behind_telemetry_waits_for_it(edge: RunningEdge) -> None:
    """On the hot path, whose answer waits for Redis."""
    for between in (b"", b"x" * 10):
        client = await Client(edge).connect()
        client.writer.write(client.head(len(BODY) + len(between)) + BODY + between + BAD)
        answers = (await client.end()).split(b"HTTP/1.1 ")[1:]
        assert [answer[:3] for answer in answers] == [b"400" if between else b"201", b"400"]


async def _until_refused(edge: RunningEdge) -> None:
    async with asyncio.timeout(20):
        while not any(protocol.refusal for protocol in edge.server.server_state.connections):  # type: ignore[union-attr]
            await asyncio.sleep(0.005)


async def test_a_request_that_does_not_arrive_is_refused_behind_the_answers_before_it(
    dsn: str, redis_url: str, redis_client: Redis
) -> None:
    """408, and only its own."""
    await open_shards(redis_client)
    async with running_edge(dsn, redis_url, request_timeout_s=1) as edge:
        client = await Client(edge).connect()
        client.writer.write(client.head() + BODY + client.head() + BODY[:5])
        answers = (await client.end()).split(b"HTTP/1.1 ")[1:]
        assert [answer[:3] for answer in answers] == [b"201", b"408"]


async def test_a_route_may_have_a_time_of_its_own(dsn: str, redis_url: str, redis_client: Redis) -> None:
    """A slow upload there is taken, while one elsewhere is given up."""
    await open_shards(redis_client)
    timeouts = "/v1/devices/*/telemetry=60"
    async with running_edge(dsn, redis_url, request_timeout_s=1, route_timeouts=timeouts) as edge:
        patient, usual = await Client(edge).connect(), await Client(edge).connect()
        patient.writer.write(patient.head() + BODY[:5])
        usual.writer.write(b"POST /v1/devices HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n" + BODY[:5])
        assert (await usual.end()).startswith(b"HTTP/1.1 408")
        patient.writer.write(BODY[5:])
        assert (await patient.answer())[0] == 201
        # The time is the request's, not the connection's.
        patient.writer.write(GET[:20])
        assert (await patient.end()).startswith(b"HTTP/1.1 408")


def test_the_first_route_that_matches_counts() -> None:
    """`*` is one member of a path, `**` all that follow; a query is no part of it."""
    timeouts = RouteTimeouts("/v1/devices/*/dumps/**=600,/v1/devices/*=30,/v1/**=40")
    assert timeouts.of(b"/v1/devices/a/dumps/text%2Fplain/x.log?y=/z") == 600
    assert timeouts.of(b"/v1/devices/a") == 30
    assert timeouts.of(b"/v1/devices/a/config") == 40
    assert timeouts.of(b"/v2/devices") is None
    assert not RouteTimeouts("")


@pytest.mark.parametrize("path", ["telemetry", "telemetry?x=1", "config", "nothing"])
async def test_names_of_headers_are_written_in_their_usual_case(edge: RunningEdge, path: str) -> None:
    """On all routes: some clients on microcontrollers compare letter by letter."""
    client = await Client(edge).connect()
    client.writer.write(
        client.head(extra="Expect: 100-continue\r\nConnection: close\r\n").replace(b"telemetry", path.encode())
    )
    client.writer.write(BODY)
    answer = (await client.end()).removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n").decode()
    names = {line.partition(":")[0] for line in answer.partition("\r\n\r\n")[0].split("\r\n")[1:]}
    assert {"Content-Length", "Content-Type", "Date", "Connection"} <= names
    assert all(part[:1].isupper() for name in names for part in name.split("-")), names
