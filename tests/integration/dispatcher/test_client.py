"""The HTTP of deliveries against servers that speak it well, badly or not at all, byte by byte."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_failures import certificate

from schemas.egress import EgressPolicy
from workers import egress, names
from workers.dispatcher import client as clients
from workers.dispatcher.client import ANSWER_KEPT_CHARS, Answer, Cause, Client
from workers.egress import Dialer, Origin

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
REQUEST = b"POST /hook HTTP/1.1\r\nHost: receiver\r\nContent-Length: 2\r\n\r\n{}"


class Server:
    """Answers the requests it gets, over all connections, with the given answers in turn: pieces, written one by one.

    None closes the connection. The last answer is for all requests that follow.
    """

    def __init__(self, *answers: list[bytes | None]) -> None:
        self.answers = list(answers)
        self.connections = 0
        self.open = 0
        self.requests: list[int] = []
        """The number of the connection of each request."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.open += 1
        number = self.connections
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = int(head.partition(b"Content-Length: ")[2].split(b"\r")[0])
                await reader.readexactly(length)
                self.requests.append(number)
                answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
                for n, piece in enumerate(answer):
                    if piece is None:
                        return
                    if n:
                        await asyncio.sleep(0.001)
                    writer.write(piece)
                    await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.open -= 1
            writer.close()
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                await writer.wait_closed()


@asynccontextmanager
async def listening(server: Server, **options: Any) -> AsyncIterator[Origin]:
    """The server on a port of its own."""
    listener = await asyncio.start_server(server.serve, "127.0.0.1", 0, **options)
    yield Origin("127.0.0.1", listener.sockets[0].getsockname()[1], bool(options))
    listener.close()


@asynccontextmanager
async def a_client(timeout_s: float = 20, tls: ssl.SSLContext | None = None) -> AsyncIterator[Client]:
    client = Client(Dialer(EgressPolicy("127.0.0.0/8", http=True), tls=tls), timeout_s)
    yield client
    await client.close()


async def exchanged(*answers: list[bytes | None], requests: int = 2) -> tuple[list[Answer], Server]:
    """What becomes of some requests, one after another."""
    server = Server(*answers)
    async with listening(server) as origin, a_client() as client:
        return [await client.post(origin, REQUEST) for _ in range(requests)], server


WHOLE = {
    "length": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    "chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\no\r\n1;x=y\r\nk\r\n0\r\nTrailer: t\r\n\r\n",
    "after 103 and 100": b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n"
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    "no reason": b"HTTP/1.1 200\r\ncontent-length:2\r\n\r\nok",
}


@pytest.mark.parametrize("whole", WHOLE.values(), ids=WHOLE)
async def test_an_answer_is_understood_however_it_is_cut(whole: bytes) -> None:
    """And the connection serves for the next request."""

    @settings(max_examples=25, deadline=None)
    @given(cuts=st.sets(st.integers(1, len(whole) - 1), max_size=6))
    def check(cuts: set[int]) -> None:
        places = [0, *sorted(cuts), len(whole)]
        pieces: list[bytes | None] = [whole[a:b] for a, b in pairwise(places)]
        answers, server = asyncio.run(exchanged(pieces))
        assert [(answer.cause, answer.status, answer.text) for answer in answers] == 2 * [(None, 200, "ok")]
        assert server.requests == [1, 1]

    await asyncio.to_thread(check)


ENDS = {
    "said": [b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok", None],
    "HTTP/1.0": [b"HTTP/1.0 200 OK\r\n\r\nok", None],
    "by its end": [b"HTTP/1.1 200 OK\r\n\r\nok", None],
    "said and not done": [b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok"],
    "silently": [b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", None],
    "too soon": [b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nok", None],
    "in rubbish": [b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok\0\0"],
    "in a second answer": [b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok" + OK],
    "in a bad chunk": [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\nzz\r\n"],
    "by its length": [b"HTTP/1.1 200 OK\r\nContent-Length: 70000\r\n\r\nok", b"x" * 69_998],
}


@pytest.mark.parametrize("answer", ENDS.values(), ids=ENDS)
async def test_a_connection_that_ends_serves_no_other_request(answer: list[bytes | None]) -> None:
    """The status stands; the next request has a connection of its own and knows nothing of the last."""
    answers, server = await exchanged(answer, [OK])
    assert [(answer.cause, answer.status) for answer in answers] == 2 * [(None, 200)]
    assert answers[0].text.startswith("ok")
    assert answers[1].text == ""
    assert server.requests == [1, 2]


@pytest.mark.parametrize(
    ("answer", "cause", "status"),
    [
        ([b"SSH-2.0-OpenSSH_9.6\r\n"], Cause.PROTOCOL, None),
        ([b"\0" * 100], Cause.PROTOCOL, None),
        ([b"HTTP/1.1 99999 OK\r\n\r\n"], Cause.PROTOCOL, None),
        ([b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n"], None, 200),
        ([b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n"], None, 200),
        ([b"HTTP/1.1 200 OK\r\nX: " + 200_000 * b"x"], Cause.PROTOCOL, None),
        ([b"HTTP/1.1 200 OK\r\n" + 9_000 * b"X: 56789\r\n"], Cause.PROTOCOL, None),
        ([50_000 * b"HTTP/1.1 100 Continue\r\n\r\n"], Cause.PROTOCOL, None),
        ([b"HTTP/1.1 200 O", None], Cause.CONNECT, None),
        ([None], Cause.CONNECT, None),
        ([b"HTTP/1.1 100 Continue\r\n\r\n"], Cause.TIMEOUT, None),
        ([b"HTTP/1.1 200 O"], Cause.TIMEOUT, None),
        (
            [b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n\x81\0"],
            Cause.STATUS,
            101,
        ),
        ([b"HTTP/1.1 204 No Content\r\n\r\n"], None, 204),
        ([b"HTTP/1.1 304 Not Modified\r\nContent-Length: 70\r\n\r\n"], Cause.STATUS, 304),
        ([b"HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n"], Cause.STATUS, 302),
    ],
)
async def test_what_is_no_answer_is_told_by_its_cause(
    answer: list[bytes | None], cause: Cause | None, status: int | None
) -> None:
    """And costs no more than this attempt."""
    async with listening(Server(answer, [OK])) as origin, a_client(0.5 if cause is Cause.TIMEOUT else 20) as client:
        first = await client.post(origin, REQUEST)
        client._timeout_s = 20
        second = await client.post(origin, REQUEST)
    assert (first.cause, first.status) == (cause, status)
    assert (second.cause, second.status) == (None, 200)
    assert (first.text == "") == (status is not None)


async def test_what_an_answer_says_is_kept_in_part() -> None:
    """Text, whatever its bytes; the first Retry-After."""
    body = b"\xff\0" + 2_000 * "ü".encode()
    answer = b"HTTP/1.1 503 No\r\nretry-AFTER: 7\r\nRetry-After: 9\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    [answered], _ = await exchanged([answer], requests=1)
    assert (answered.cause, answered.status, answered.retry_after_s) == (Cause.STATUS, 503, 7.0)
    assert answered.text == "\ufffd\ufffd" + (ANSWER_KEPT_CHARS - 2) * "ü"


async def test_an_answer_before_the_request_was_read_counts_and_ends_the_connection() -> None:
    """A receiver that refuses a large body need not read it."""

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
        await gone.wait()
        writer.close()

    gone = asyncio.Event()
    listener = await asyncio.start_server(refuse, "127.0.0.1", 0)
    origin = Origin("127.0.0.1", listener.sockets[0].getsockname()[1], False)
    body = 32 * 1024 * 1024 * b"x"
    async with a_client() as client:
        request = b"POST / HTTP/1.1\r\nHost: r\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
        assert (await client.post(origin, request)).status == 413
        assert client._take(origin) is None
    gone.set()
    listener.close()


async def test_a_connection_that_was_closed_while_idle_is_no_failure() -> None:
    """Whether that is known before the request is sent or only after; a new connection that breaks is one."""
    server = Server([OK], [None], [OK], [None])
    async with listening(server) as origin, a_client() as client:
        assert (await client.post(origin, REQUEST)).cause is None
        assert (await client.post(origin, REQUEST)).cause is None
        assert server.requests == [1, 1, 2]
        assert (await client.post(origin, REQUEST)).cause is Cause.CONNECT
        assert server.requests == [1, 1, 2, 2, 3]


async def test_idle_connections_are_closed_and_unasked_words_are_not_taken_for_answers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nothing is left open after a while; an answer to nothing closes its connection."""
    monkeypatch.setattr(clients, "KEEP_ALIVE_S", 0.1)
    server = Server([OK, b"HTTP/1.1 500 Unasked\r\nContent-Length: 0\r\n\r\n"], [OK])
    async with listening(server) as origin, a_client() as client:
        assert (await client.post(origin, REQUEST)).status == 200
        while server.open:
            await asyncio.sleep(0.005)
        assert (await client.post(origin, REQUEST)).status == 200
        assert server.requests == [1, 2]
        async with asyncio.timeout(20):
            while server.open:
                await asyncio.sleep(0.01)
        assert client._idle == {}


async def test_an_attempt_that_is_cancelled_closes_its_connection() -> None:
    """While waiting for the answer, or for its end."""
    for answer in ([b"HTTP/1.1 200 O"], [b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"]):
        server = Server(answer)
        async with listening(server) as origin, a_client() as client:
            attempt = asyncio.create_task(client.post(origin, REQUEST))
            while not server.requests:
                await asyncio.sleep(0.001)
            await asyncio.sleep(0.02)
            attempt.cancel()
            with pytest.raises(asyncio.CancelledError):
                await attempt
            async with asyncio.timeout(20):
                while server.open:
                    await asyncio.sleep(0.001)


async def test_connections_are_kept_with_tls_too(tmp_path: Path) -> None:
    """One handshake for several requests, at once and one after another."""
    path = tmp_path / "receiver.pem"
    path.write_bytes(certificate(datetime.now(UTC) + timedelta(days=1)))
    context, trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context(cafile=path)
    context.load_cert_chain(path)
    server = Server([OK])
    async with listening(server, ssl=context) as origin, a_client(tls=trusting) as client:
        named = origin._replace(host="localhost")
        for _ in range(3):
            assert {(await answer).status for answer in [client.post(named, REQUEST) for _ in range(4)]} == {200}
        assert server.connections == 1
        answers = await asyncio.gather(*(client.post(named, REQUEST) for _ in range(4)))
        assert {answer.status for answer in answers} == {200}
        assert server.connections == 4


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_a_server_that_wants_a_certificate_of_ours_is_told_by_its_cause(
    tmp_path: Path, version: ssl.TLSVersion
) -> None:
    """Of TLS, in the handshake or behind it, and not of a connection that broke."""
    path = tmp_path / "receiver.pem"
    path.write_bytes(certificate(datetime.now(UTC) + timedelta(days=1)))
    context, trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context(cafile=path)
    context.load_cert_chain(path)
    context.load_verify_locations(path)
    context.verify_mode = ssl.CERT_REQUIRED
    context.maximum_version = version

    def refuse(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection, contextlib.suppress(ssl.SSLError), context.wrap_socket(connection, server_side=True):
            raise AssertionError

    with socket.create_server(("127.0.0.1", 0)) as listener:
        refusing = asyncio.create_task(asyncio.to_thread(refuse, listener))
        async with a_client(tls=trusting) as client:
            answer = await client.post(Origin("localhost", listener.getsockname()[1], True), REQUEST)
        await refusing
    assert answer.cause == Cause.TLS, answer


async def test_a_name_is_looked_up_once_for_many_and_again_after_it_failed() -> None:
    """However many ask at once."""
    lookups = 0

    class Resolver:
        async def resolve(self, host: str, port: int = 0, family: int = socket.AF_INET) -> list[dict[str, Any]]:
            nonlocal lookups
            lookups += 1
            await asyncio.sleep(0.01)
            if lookups == 1:
                raise socket.gaierror(socket.EAI_AGAIN, "not now")
            return [{"hostname": host, "host": "127.0.0.1", "port": port, "family": 2, "proto": 6, "flags": 0}]

        async def close(self) -> None:
            pass

    server = Server([OK])
    async with listening(server) as origin:
        client = Client(Dialer(EgressPolicy("127.0.0.0/8", http=True), Resolver()), 5.0)  # type: ignore[arg-type]
        named = origin._replace(host="receiver.example")
        for expected in (Cause.DNS, None, None):
            answers = await asyncio.gather(*(client.post(named, REQUEST) for _ in range(5)))
            assert {answer.cause for answer in answers} == {expected}
        await client.close()
    assert lookups == 2


async def test_whatever_the_event_loop_makes_of_a_failed_connection_is_a_failed_attempt(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """uvloop has errors of its own, and an attempt must not end the dispatcher."""

    async def refuse(*_: Any, **__: Any) -> socket.socket:
        raise RuntimeError("unable to perform operation")

    monkeypatch.setattr(egress, "start_connection", refuse)
    async with a_client() as client:
        answer = await client.post(Origin("127.0.0.1", 9, False), REQUEST)
    assert (answer.cause, answer.text) == (Cause.CONNECT, "unable to perform operation")


SLOPPY = {
    "bare line feeds": b"HTTP/1.1 200 OK\nContent-Type: text/plain\nContent-Length: 2\n\nok",
    "folded": b"HTTP/1.1 201 Created\r\nX-A: a\r\n  b\r\nContent-Length: 2\r\n\r\nok",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok",
    "a space before the colon": b"HTTP/1.1 202 Accepted\r\nX-A : a\r\nContent-Length: 2\r\n\r\nok",
    "no colon": b"HTTP/1.1 204 No Content\r\nX-A\r\n\r\n",
}


@pytest.mark.parametrize("answer", SLOPPY.values(), ids=SLOPPY)
async def test_a_2xx_whose_head_is_not_quite_http_is_a_success(answer: bytes) -> None:
    """However it is cut; its first line has said what matters."""
    for pieces in ([answer], [answer[:14], answer[14:]]):
        answers, _ = await exchanged(list(pieces), requests=1)
        assert [found.cause for found in answers] == [None]


async def test_a_handshake_that_is_cut_off_and_silent_name_servers_are_told_by_their_causes() -> None:
    """Neither is a refused connection, nor a slow receiver."""

    async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.abort()

    class Silent:
        async def resolve(self, *_: object) -> list[dict[str, Any]]:
            await asyncio.Event().wait()
            raise AssertionError

        async def close(self) -> None:
            pass

    listener = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    dialer = Dialer(EgressPolicy("127.0.0.0/8", http=True), Silent(), None, 0.01)  # type: ignore[arg-type]
    client = Client(dialer, 5.0)
    assert (await client.post(Origin("127.0.0.1", port, True), REQUEST)).cause == Cause.TLS
    silent = await client.post(Origin("silent.example", port, False), REQUEST)
    assert (silent.cause, "no name server answered" in silent.text) == (Cause.DNS, True)
    await client.close()
    listener.close()


async def test_a_busy_connection_follows_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """When its time is over the name is looked up again, and leads elsewhere by then."""
    addresses = {"receiver.example": "127.0.0.1"}

    class Resolver:
        async def resolve(self, host: str, port: int = 0, family: int = socket.AF_INET) -> list[dict[str, Any]]:
            found = addresses[host]
            return [{"hostname": host, "host": found, "port": port, "family": 2, "proto": 6, "flags": 0}]

        async def close(self) -> None:
            pass

    before, after = Server([OK]), Server([OK])
    async with listening(before) as origin:
        moved = await asyncio.start_server(after.serve, "127.0.0.2", origin.port)
        client = Client(Dialer(EgressPolicy("127.0.0.0/8", http=True), Resolver()), 5.0)  # type: ignore[arg-type]
        named = origin._replace(host="receiver.example")
        await client.post(named, REQUEST)
        addresses["receiver.example"] = "127.0.0.2"
        await client.post(named, REQUEST)
        assert (len(before.requests), len(after.requests)) == (2, 0)
        monkeypatch.setattr("workers.dispatcher.client.CONNECTION_LIFE_S", -1.0)
        monkeypatch.setattr(names, "KEPT_S", -1.0)
        await client.post(named, REQUEST)
        await client.close()
        moved.close()
    assert (len(before.requests), len(after.requests)) == (2, 1)


async def test_a_busy_connection_is_not_kept_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a while another one is made, which finds the name's address of then."""
    server = Server([OK])
    async with listening(server) as origin, a_client() as client:
        await client.post(origin, REQUEST)
        await client.post(origin, REQUEST)
        assert server.requests == [1, 1]
        monkeypatch.setattr("workers.dispatcher.client.CONNECTION_LIFE_S", -1.0)
        await client.post(origin, REQUEST)
    assert server.requests == [1, 1, 2]
