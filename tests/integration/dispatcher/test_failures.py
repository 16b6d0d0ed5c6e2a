"""Receivers that do anything but acknowledge: what is made of it, and that nothing is lost by it."""

import asyncio
import socket
import ssl
import threading
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from webhooks import (
    Behaviour,
    MovedClock,
    Project,
    Receiver,
    answers,
    answers_after,
    endless,
    hangs,
    make_project,
    resets,
    until,
)

from gateway.stores.connectors import ledgers
from schemas.egress import EgressPolicy, GuardedResolver
from schemas.postgres import Pool
from workers.dispatcher.pace import RUN_OF_FAILURES

DEADLINE_S = 0.4
SILENT = 300


def huge_headers(count: int, size: int) -> Behaviour:
    """An answer with so many headers of such a size."""
    return answers(200, **{f"X-{n}": "x" * size for n in range(count)})


FAILURES = [
    (answers(500), "status"),
    (answers(410), "status"),
    (answers(302, Location="/elsewhere"), "status"),
    (answers(307, Location="/elsewhere"), "status"),
    (resets, "connect"),
    (endless(500, 0, b"x" * 65536), "status"),
    (huge_headers(1, 100_000), "protocol"),
    (huge_headers(2_000, 50), "protocol"),
]
LATE = [(hangs, "timeout"), (answers_after(1.5 * DEADLINE_S), "timeout")]


@pytest.mark.parametrize(("failures", "timeout_s"), [(FAILURES, 20), (LATE, DEADLINE_S)], ids=["early", "late"])
async def test_a_failure_is_noted_by_its_cause_and_the_event_is_delivered_later(
    project: Project, failures: list[tuple[Behaviour, str]], timeout_s: float
) -> None:
    """No redirect is followed, no answer is waited for beyond the deadline; then the receivers come to themselves."""
    receivers = [Receiver() for _ in failures]
    connectors = []
    for receiver, (behave, _) in zip(receivers, failures, strict=True):
        await receiver.start()
        receiver.behave = behave
        connectors.append(await project.connector(receiver.url))
    async with project.dispatcher(chance=lambda: 0.2, delivery_timeout_s=timeout_s):
        [event_id] = await project.happen()
        for connector in connectors:
            await until(lambda c=connector: ledgers.attempts(project.pool, c))
            assert (await project.ledger(connector)).delivered == 0
        for receiver in receivers:
            receiver.behave = answers(200)
        for receiver, connector in zip(receivers, connectors, strict=True):
            ledger = await until(lambda c=connector: project.settled(c))
            assert (ledger.accepted, ledger.delivered) == (1, 1)
            assert {r.path for r in receiver.received} == {"/hook"}
            assert set(receiver.event_ids) == {event_id}
    causes = []
    for connector in connectors:
        causes.append((await ledgers.attempts(project.pool, connector))[-1]["cause"])
        row = await project.row(connector)
        assert (row["failing_since"], row["failures_in_a_row"]) == (None, 0)
        assert row["last_success_at"] == row["last_attempt_at"]
    assert causes == [cause for _, cause in failures]
    for receiver in receivers:
        await receiver.stop()


@pytest.mark.parametrize("behave", [endless(200, 0.01, b"x"), endless(200, 0, b"x" * 65536)])
async def test_a_2xx_counts_though_its_answer_never_ends(
    project: Project, receiver: Receiver, behave: Behaviour
) -> None:
    """The status line has said all; the rest costs a connection and nothing more."""
    receiver.behave = behave
    connector = await project.connector(receiver.url)
    async with project.dispatcher():
        await project.happen(3)
        await until(lambda: project.settled(connector))
        await until(lambda: receiver.under_way == 0)
    assert len(receiver.received) == 3


async def test_a_name_without_an_address_and_a_closed_port_are_failures_too(project: Project) -> None:
    """Told apart by their causes."""

    class Nowhere(GuardedResolver):
        def look_up(self, host: str, port: int, family: int) -> list[tuple[Any, ...]]:
            raise socket.gaierror(socket.EAI_NONAME, "unknown")

    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        unknown = await project.connector("https://unknown.example/")
        refused = await project.connector(f"http://127.0.0.1:{closed.getsockname()[1]}/")
        async with project.dispatcher(resolver=Nowhere(EgressPolicy())):
            await project.happen()
            causes = [
                (await until(lambda c=c: ledgers.attempts(project.pool, c)))[-1]["cause"] for c in (unknown, refused)
            ]
    assert causes == ["dns", "connect"]


async def test_connectors_whose_name_servers_are_silent_hold_up_nobody(
    project: Project, pool: Pool, dsn: str, receiver: Receiver
) -> None:
    """All that others are owed arrives while hundreds of another tenant wait for names; the cause said is that."""
    answered = threading.Event()

    class Servers(GuardedResolver):
        def look_up(self, host: str, port: int, family: int) -> list[tuple[Any, ...]]:
            if host.startswith("silent"):
                answered.wait()
                raise socket.gaierror(socket.EAI_AGAIN, "no answer")
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    other = await make_project(pool, dsn)
    silent = [await other.connector(f"https://silent{n}.example/") for n in range(SILENT)]
    port = receiver.url.rpartition(":")[2].partition("/")[0]
    healthy = await project.connector(f"http://healthy.example:{port}/")
    try:
        async with project.dispatcher(resolver=Servers(EgressPolicy("127.0.0.0/8")), delivery_timeout_s=2):
            await other.happen()
            await asyncio.gather(*(project.happen() for _ in range(20)))
            await until(lambda: project.settled(healthy))
            assert [noted for noted in await ledgers.attempts(pool, healthy) if noted["cause"]] == []
            for connector in silent[:: SILENT // 10]:
                noted = await until(lambda c=connector: ledgers.attempts(pool, c))
                assert {one["cause"] for one in noted} == {"dns"}
            project_ids = await project.happen(5)
            await until(lambda: set(project_ids) <= set(receiver.event_ids))
    finally:
        answered.set()


async def test_what_the_operator_did_not_allow_is_not_connected_to(project: Project, receiver: Receiver) -> None:
    """A URL saved under another policy, and a name that leads inward."""

    class Inward(GuardedResolver):
        def look_up(self, host: str, port: int, family: int) -> list[tuple[Any, ...]]:
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    port = receiver.url.rpartition(":")[2].partition("/")[0]
    connectors = [
        await project.connector(receiver.url),
        await project.connector(f"http://inward.example:{port}/"),
        await project.connector(f"https://inward.example:{port}/"),
    ]
    for http in (False, True):
        policy = EgressPolicy(http=http)
        async with project.dispatcher(egress_allow="", egress_http=http, resolver=Inward(policy)):
            await project.happen()
            for connector in connectors:
                await until(lambda c=connector: ledgers.attempts(project.pool, c))
    for connector in connectors:
        assert {noted["cause"] for noted in await ledgers.attempts(project.pool, connector)} == {"egress"}
    assert receiver.received == []


class Certified:
    """A receiver on HTTPS, whose certificate changes."""

    def __init__(self, folder: Path) -> None:
        self.url = ""
        self.server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.client = ssl.create_default_context()
        self.received = 0
        self._folder = folder

    def certify(self, *, days: int = 1, known: bool = True) -> None:
        """From the next handshake on: a certificate that ends so soon, whose issuer the client knows or not."""
        path = self._folder / "receiver.pem"
        path.write_bytes(certificate(datetime.now(UTC) + timedelta(days=days)))
        self.server.load_cert_chain(path)
        if known:
            self.client.load_verify_locations(path)

    async def answer(self, _: web.Request) -> web.Response:
        self.received += 1
        return web.Response(headers={"connection": "close"})


def certificate(ends: datetime) -> bytes:
    """A certificate of localhost and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    number = x509.random_serial_number()
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"localhost {number}"[:60])])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(number)
        .not_valid_before(ends - timedelta(days=2))
        .not_valid_after(ends)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    encoding = serialization.Encoding.PEM
    return made.public_bytes(encoding) + key.private_bytes(
        encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


@pytest.fixture
async def certified(tmp_path: Path) -> AsyncIterator[Certified]:
    """It has a good certificate at first."""
    made = Certified(tmp_path)
    made.certify()
    app = web.Application()
    app.router.add_post("/hook", made.answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=made.server).start()
    made.url = f"https://localhost:{runner.addresses[0][1]}/hook"
    yield made
    await runner.cleanup()


async def test_a_certificate_must_be_good(project: Project, certified: Certified) -> None:
    """While it has expired, or nobody vouches for it, attempts fail; nothing is lost until there is a new one."""
    connector = await project.connector(certified.url)
    async with project.dispatcher(tls=certified.client, chance=lambda: 0.0):
        await project.happen()
        await until(lambda: project.settled(connector))
        for bad in ({"days": -1}, {"known": False}):
            certified.certify(**bad)
            await project.happen()
            noted = await until(lambda: _failed(project, connector))
            assert noted["cause"] == "tls"
            certified.certify()
            await until(lambda: project.settled(connector))
    ledger = await project.ledger(connector)
    assert (ledger.delivered, ledger.expired, certified.received) == (3, 0, 3)


async def _failed(project: Project, connector: str) -> Any:
    """The newest attempt, if it failed."""
    noted = await ledgers.attempts(project.pool, connector)
    return noted[0] if noted and noted[0]["cause"] else None


async def test_new_events_pass_those_that_failed(project: Project, receiver: Receiver) -> None:
    """A receiver that refuses one device's events gets all the others at once."""
    connector = await project.connector(receiver.url)
    poison = str(project.devices[0])

    async def refuse_one(request: web.Request, received: Any) -> web.StreamResponse:
        return await answers(500 if poison.encode() in received.body else 200)(request, received)

    receiver.behave = refuse_one
    async with project.dispatcher(chance=lambda: 0.5):
        happened = await project.happen(80)
        ledger = await until(lambda: _delivered(project, connector, 70))
        assert (ledger.delivered, ledger.pending, ledger.backlog) == (70, 10, 0)
        receiver.behave = answers(200)
        await until(lambda: project.settled(connector))
    assert set(receiver.event_ids) == set(happened)


async def _delivered(project: Project, connector: str, count: int) -> ledgers.Ledger | None:
    ledger = await project.ledger(connector)
    return ledger if ledger.delivered >= count else None


@pytest.mark.parametrize("status", [429, 503, 500])
async def test_retry_after_is_honoured(project: Project, receiver: Receiver, status: int) -> None:
    """The event is not tried again before; nothing else is, where the receiver said that it is overloaded."""
    receiver.behave = answers(status, **{"Retry-After": "1"})
    connector = await project.connector(receiver.url)
    async with project.dispatcher(chance=lambda: 0.0):
        [first] = await project.happen()
        await until(lambda: receiver.received)
        receiver.behave = answers(200)
        await project.happen()
        await until(lambda: project.settled(connector))
    at = {r.event_id: r.at for r in reversed(receiver.received)}
    asked_at = receiver.received[0].at
    tried_again_at = [r.at for r in receiver.received if r.event_id == first][1]
    assert tried_again_at - asked_at >= 0.95
    [other_at] = [moment for event_id, moment in at.items() if event_id != first]
    assert (other_at - asked_at >= 0.95) == (status != 500)


async def test_an_event_that_nobody_takes_expires_after_the_window(project: Project, receiver: Receiver) -> None:
    """Counted as expired, those that were tried as well as those that a dead endpoint was spared."""
    receiver.behave = answers(500)
    clock = MovedClock()
    connector = await project.connector(receiver.url, retry_window_s=3600)
    async with project.dispatcher(clock, chance=lambda: 0.5) as dispatcher:
        await project.happen(300)
        await until(lambda: len(receiver.received) >= RUN_OF_FAILURES)
        clock.move(seconds=3590)
        assert (await project.ledger(connector)).expired == 0
        clock.move(seconds=20)

        async def expired() -> Any:
            assert dispatcher.sweep is not None
            await dispatcher.sweep.sweep()
            return await project.settled(connector)

        ledger = await until(expired)
    assert (ledger.accepted, ledger.expired, ledger.delivered) == (300, 300, 0)
    assert len(receiver.received) < 60


async def test_a_dead_endpoint_is_probed_and_its_backlog_drains_when_it_answers(
    project: Project, receiver: Receiver
) -> None:
    """Few requests while it is dead, one at a time; all events once it is back, the retries and the rest."""
    receiver.behave = answers(500)
    connector = await project.connector(receiver.url)
    async with project.dispatcher(chance=lambda: 0.0):
        happened = await project.happen(400)
        await until(lambda: len(receiver.received) > RUN_OF_FAILURES)
        dead_since = len(receiver.received)
        receiver.most_under_way = receiver.under_way
        await until(lambda: len(receiver.received) > dead_since)
        assert receiver.most_under_way <= 1
        assert len(receiver.received) < 60
        receiver.behave = answers(200)
        ledger = await until(lambda: project.settled(connector))
    assert set(receiver.event_ids) == set(happened)
    assert ledger.delivered == 400


async def test_a_restart_forgets_neither_retries_nor_that_an_endpoint_is_dead(
    project: Project, receiver: Receiver
) -> None:
    """The next dispatcher begins with a single probe."""
    receiver.behave = answers(500)
    connector = await project.connector(receiver.url)
    async with project.dispatcher(chance=lambda: 0.9):
        happened = await project.happen(100)
        await until(lambda: len(receiver.received) >= RUN_OF_FAILURES)
    before = len(receiver.received)
    receiver.behave = hangs
    async with project.dispatcher(chance=lambda: 0.0):
        await until(lambda: len(receiver.received) > before)
        assert len(receiver.received) == before + 1
        receiver.behave = answers(200)
    async with project.dispatcher(chance=lambda: 0.0):
        await until(lambda: project.settled(connector))
    assert set(receiver.event_ids) == set(happened)
