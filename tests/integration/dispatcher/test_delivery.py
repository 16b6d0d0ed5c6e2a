"""Every event reaches every connector that wants it, in a request that receivers can check."""

from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
import msgspec
import pytest
import standardwebhooks
from disruptive.errors import ConfigurationError
from dtintegrations.data_connector.http_push import HttpPush
from webhooks import MovedClock, Project, Receiver, answers, hangs, make_project, until

from gateway.stores.connectors import ledgers
from schemas import signing_keys
from schemas.deliveries import LATENCY_BOUNDS_MS
from schemas.postgres import Pool
from workers.dispatcher.queue import FRESH_MAX
from workers.dispatcher.request import USER_AGENT

SECRET = "a secret of the length that its algorithm wants"


async def test_each_event_is_delivered_once_and_counted(project: Project, receiver: Receiver) -> None:
    """To a receiver that always answers 2xx nothing is sent twice, and the ledger tells the number."""
    connector = await project.connector(receiver.url)
    async with project.dispatcher():
        happened = await project.happen(100)
        happened += await project.happen(5)
        await until(lambda: len(receiver.received) >= 105)
        ledger = await until(lambda: project.settled(connector))
    assert sorted(receiver.event_ids) == sorted(happened)
    assert (ledger.accepted, ledger.delivered, ledger.oldest_pending_s) == (105, 105, 0.0)


async def test_the_request_is_what_the_contract_says(project: Project, receiver: Receiver) -> None:
    """Body to the byte, headers, and signatures that the vendor's and the standard's packages accept."""
    connector = await project.connector(
        receiver.url,
        secret=SECRET,
        headers={"X-Customer": "Ünï".encode().decode("latin-1"), "Authorization": "Bearer 1"},
        standard_webhooks=True,
        asymmetric_signature=True,
        labels=["name", "floor", "missing"],
    )
    at = datetime.now(UTC)
    async with project.dispatcher(public_url="https://gateway.example"):
        [event_id] = await project.happen(labels={"name": "hall", "floor": "3", "hidden": "x"}, stored_at=at)
        await until(lambda: project.settled(connector))
    [received] = receiver.received
    stamp = at.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    device, parent = project.devices[0], project.project_id
    assert received.body.decode() == (
        f'{{"event":{{"eventId":"{event_id}","targetName":"projects/{parent}/devices/{device}","eventType":"touch",'
        f'"data":{{"touch":{{"updateTime":"{stamp}","n":0}}}},"timestamp":"{stamp}"}},'
        f'"labels":{{"name":"hall","floor":"3"}},'
        f'"metadata":{{"deviceId":"{device}","projectId":"{parent}","deviceType":"touch","productNumber":""}}}}'
    )
    headers = received.headers
    assert (headers["Content-Type"], headers["User-Agent"]) == ("application/json", USER_AGENT)
    assert (headers["X-Customer"], headers["Authorization"]) == ("Ünï".encode().decode("latin-1"), "Bearer 1")
    push = HttpPush(headers, received.body, SECRET)
    assert (push.event.event_id, push.labels) == (event_id, {"name": "hall", "floor": "3"})
    with pytest.raises(ConfigurationError):
        HttpPush(headers, received.body + b" ", SECRET)
    assert headers["webhook-id"] == event_id
    standardwebhooks.Webhook(SECRET.encode()).verify(received.body, headers)
    async with project.pool.acquire() as connection:
        keys = jwt.PyJWKSet.from_dict({"keys": await signing_keys.shown(connection, at)})
    token = headers["DT-Asymmetric-Signature"]
    kid = jwt.get_unverified_header(token)["kid"]
    claims = jwt.decode(token, keys[kid], ["ES256"], issuer="https://gateway.example/data-connector")
    assert claims["sub"] == str(project.organization_id)


async def test_without_a_secret_nothing_is_signed(project: Project, receiver: Receiver) -> None:
    """And no header says otherwise."""
    connector = await project.connector(receiver.url)
    async with project.dispatcher():
        await project.happen()
        await until(lambda: project.settled(connector))
    names = {name.lower() for name in receiver.received[0].headers}
    assert not names & {"x-dt-signature", "dt-asymmetric-signature", "webhook-id", "webhook-signature"}


async def test_a_retry_has_a_signature_of_its_own(project: Project, receiver: Receiver) -> None:
    """The same body and event, another token."""
    connector = await project.connector(receiver.url, secret=SECRET)
    receiver.behave = answers(500)
    async with project.dispatcher(chance=lambda: 0.0):
        await project.happen()
        await until(lambda: len(receiver.received) >= 2)
        receiver.behave = answers(200)
        await until(lambda: project.settled(connector))
    first, second = receiver.received[:2]
    tokens = [jwt.decode(r.headers["X-Dt-Signature"], SECRET, ["HS256"]) for r in (first, second)]
    assert first.body == second.body
    assert tokens[0]["jti"] != tokens[1]["jti"]


async def test_while_two_secrets_overlap_a_receiver_of_either_accepts(project: Project, receiver: Receiver) -> None:
    """One that knows only the previous secret gets its signature after it has refused the new one."""
    previous = SECRET[::-1]
    connector = await project.connector(
        receiver.url,
        secret=SECRET,
        previous_secret=previous,
        previous_secret_until=datetime.now(UTC) + timedelta(hours=1),
        standard_webhooks=True,
    )

    async def accept_previous(_request: Any, received: Any) -> Any:
        try:
            HttpPush(received.headers, received.body, previous)
        except ConfigurationError:
            return await answers(401)(_request, received)
        return await answers(200)(_request, received)

    receiver.behave = accept_previous
    async with project.dispatcher(chance=lambda: 0.0):
        await project.happen()
        await until(lambda: project.settled(connector))
        assert len(receiver.received) == 2
        await project.happen(3)
        await until(lambda: project.settled(connector))
    assert len(receiver.received) == 5
    for key in (SECRET, previous):
        standardwebhooks.Webhook(key.encode()).verify(receiver.received[-1].body, receiver.received[-1].headers)


async def test_only_events_of_the_wanted_types_are_sent(project: Project, receiver: Receiver) -> None:
    """The others are never accepted; a connector without types gets all."""
    picky = await project.connector(f"{receiver.url}/picky", event_types=["temperature"])
    greedy = await project.connector(f"{receiver.url}/greedy")
    async with project.dispatcher():
        await project.happen(10, "touch")
        wanted = await project.happen(10, "temperature")
        ledgers = [await until(lambda c=c: project.settled(c)) for c in (picky, greedy)]
    got = [received for received in receiver.received if received.path == "/hook/picky"]
    assert sorted(received.event_id for received in got) == sorted(wanted)
    assert [ledger.accepted for ledger in ledgers] == [10, 20]


async def test_each_connector_of_a_project_gets_its_events_and_no_others(
    pool: Pool, dsn: str, receiver: Receiver
) -> None:
    """Two projects, two connectors each."""
    projects = [await make_project(pool, dsn) for _ in range(2)]
    connectors = [(p, await p.connector(f"{receiver.url}/{n}")) for n, p in enumerate(projects) for _ in range(2)]
    async with projects[0].dispatcher():
        happened = [await p.happen(20) for p in projects]
        for p, connector in connectors:
            await until(lambda p=p, connector=connector: p.settled(connector))
    for n, ids in enumerate(happened):
        got = [r.event_id for r in receiver.received if r.path == f"/hook/{n}"]
        assert sorted(got) == sorted(2 * ids)


async def test_a_connector_that_catches_up_gets_events_of_its_project_only(
    project: Project, receiver: Receiver
) -> None:
    """Those behind the tail are read by windows, past the events of others that lie between."""
    other = await make_project(project.pool, project.dsn)
    projects = {"one": project, "other": other}
    connectors = {name: await p.connector(f"{receiver.url}/{name}") for name, p in projects.items()}
    happened: dict[str, list[str]] = {name: [] for name in projects}
    for _ in range(10):
        for name, each in projects.items():
            happened[name] += await each.happen(20)
    async with project.dispatcher():
        for name, each in projects.items():
            await until(lambda name=name, each=each: each.settled(connectors[name]))
    for name, event_ids in happened.items():
        assert sorted(r.event_id for r in receiver.received if r.path == f"/hook/{name}") == sorted(event_ids)


async def test_events_on_both_sides_of_midnight_are_delivered(project: Project, receiver: Receiver) -> None:
    """Also one that is stored late by a worker whose clock is behind: it lies in the day before."""
    clock = MovedClock()
    midnight = clock.moment().replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
    clock.move(seconds=midnight.timestamp() - clock() - 1)
    connector = await project.connector(receiver.url)
    happened: list[str] = []
    async with project.dispatcher(clock):
        for stored_at in (midnight - timedelta(seconds=1), midnight, midnight - timedelta(minutes=1)):
            happened += await project.happen(8, stored_at=stored_at)
            await until(lambda: sorted(receiver.event_ids) == sorted(happened))  # noqa: B023
            clock.move(seconds=1)
        assert (await until(lambda: project.settled(connector))).delivered == len(happened)


async def test_what_a_hanging_receiver_is_owed_stays_in_the_log(project: Project, receiver: Receiver) -> None:
    """In memory are so many events and no more, however many happen while the connector follows the tail."""
    receiver.behave = hangs
    connector = await project.connector(receiver.url)
    async with project.dispatcher() as dispatcher:
        queue = (await until(lambda: dispatcher.roster.connectors.get(connector))).queue
        await until(lambda: all(cursor.live for cursor in queue.cursors.values()))
        await project.happen(4 * FRESH_MAX)
        heads = {row["shard"]: row["next_seq"] for row in await project.pool.fetch("SELECT * FROM shards")}
        await until(lambda: {shard: s.seq for shard, s in dispatcher.roster.shards.items()} == heads)
        assert 0 < len(queue.fresh) <= FRESH_MAX


async def test_what_happened_before_a_connector_was_made_is_not_sent(project: Project, receiver: Receiver) -> None:
    """It begins at the head of the log."""
    await project.happen(20)
    async with project.dispatcher():
        connector = await project.connector(receiver.url)
        happened = await project.happen(20)
        await until(lambda: project.settled(connector))
    assert sorted(receiver.event_ids) == sorted(happened)


async def test_a_backlog_is_caught_up_with_while_new_events_arrive(project: Project, receiver: Receiver) -> None:
    """Each once, though the queue in memory holds far fewer."""
    connector = await project.connector(receiver.url)
    happened = await project.happen(2500)
    async with project.dispatcher():
        await until(lambda: receiver.received)
        for _ in range(5):
            happened += await project.happen(100)
        ledger = await until(lambda: project.settled(connector))
    assert sorted(receiver.event_ids) == sorted(happened)
    assert ledger.delivered == 3000


async def test_what_was_owed_when_nobody_worked_is_sent_afterwards(project: Project, receiver: Receiver) -> None:
    """Two dispatchers, one after the other, with events before, between and after."""
    connector = await project.connector(receiver.url)
    happened: list[str] = []
    for _ in range(2):
        happened += await project.happen(30)
        async with project.dispatcher():
            await until(lambda: project.settled(connector))
            happened += await project.happen(30)
            await until(lambda: project.settled(connector))
    assert sorted(receiver.event_ids) == sorted(happened)


async def test_attempts_and_latencies_can_be_read(project: Project, receiver: Receiver) -> None:
    """Counts of the last three hours, and the last attempts with the beginning of each answer."""
    connector = await project.connector(receiver.url)
    receiver.behave = answers(503, "busy \0 now" + "x" * 1000)
    async with project.dispatcher(chance=lambda: 0.0):
        [event_id] = await project.happen()
        await until(lambda: receiver.received)
        receiver.behave = answers(200, "thanks")
        await until(lambda: project.settled(connector))
    found = await ledgers.recent(project.pool, connector, datetime.now(UTC))
    assert (found.successes, found.errors) == (1, len(receiver.received) - 1)
    assert 0 < found.latency_p99_s < 10
    last, *_, first = await ledgers.attempts(project.pool, connector)
    assert (last["event_id"], last["status"], last["cause"], last["answer"]) == (event_id, 200, None, "thanks")
    assert (first["attempt"], first["status"], first["cause"]) == (1, 503, "status")
    assert first["answer"] == ("busy \ufffd now" + "x" * 1000)[:256]


@pytest.mark.parametrize(("share", "seconds"), [(0.5, 0.005), (0.99, 0.1), (1.0, 0.1)])
def test_percentiles_are_interpolated_in_their_bucket(share: float, seconds: float) -> None:
    """90 attempts of up to 7 ms, 10 of up to 100 ms."""
    buckets = [0] * (len(LATENCY_BOUNDS_MS) + 1)
    buckets[LATENCY_BOUNDS_MS.index(7)] = 90
    buckets[LATENCY_BOUNDS_MS.index(100)] = 10
    assert ledgers.percentile_s(buckets, share) == pytest.approx(seconds, rel=0.3)
    assert ledgers.percentile_s([], share) == 0


async def test_a_changed_configuration_holds_for_the_next_attempt(project: Project, receiver: Receiver) -> None:
    """Address, headers, secret and types, without a restart; an event that waits is sent to the new address."""
    receiver.behave = answers(500)
    connector = await project.connector(f"{receiver.url}/old", headers={"X-Version": "1"})
    async with project.dispatcher(chance=lambda: 0.2) as dispatcher:
        await project.happen()
        await until(lambda: len(receiver.received) >= 2)
        receiver.behave = answers(200)
        await project.change(connector, url=f"{receiver.url}/new", headers={"X-Version": "2"}, secret=SECRET)
        await until(lambda: project.settled(connector))
        last = receiver.received[-1]
        assert (last.path, last.headers["X-Version"]) == ("/hook/new", "2")
        assert msgspec.json.decode(last.body)["event"] == msgspec.json.decode(receiver.received[0].body)["event"]
        HttpPush(last.headers, last.body, SECRET)
        await project.change(connector, event_types=["motion"])
        await until(lambda: not dispatcher.roster.connectors[connector].target.wants("touch"))
        unwanted, wanted = await project.happen(5), await project.happen(5, "motion")
        await until(lambda: set(wanted) <= set(receiver.event_ids))
        await until(lambda: project.settled(connector))
    assert not set(unwanted) & set(receiver.event_ids)
