"""Places in the log and what waits: the bookkeeping of one connector, without any I/O."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from schemas.ids import new_id
from workers.dispatcher.body import Event
from workers.dispatcher.cursors import CLOCK_SLACK, Cursor, Shard
from workers.dispatcher.delivery import Delivery, End, Stage
from workers.dispatcher.queue import Queue
from workers.dispatcher.request import Target

NOW = datetime(2026, 5, 4, 12, tzinfo=UTC)
NOW_S = NOW.timestamp()
LIMIT = 8


def target(event_types: frozenset[str] = frozenset(), retry_window_s: int = 3600) -> Target:
    return Target(
        revision=1,
        url=None,
        refusal="",
        headers={},
        secret="",
        previous_secret="",
        previous_secret_until_s=0.0,
        asymmetric=False,
        standard=False,
        event_types=event_types,
        label_keys=frozenset(),
        retry_window_s=retry_window_s,
        organization_id=UUID(int=0),
    )


def event(seq: int, shard: int = 0, event_type: str = "touch", age_s: float = 0) -> Event:
    stored_at = NOW - timedelta(seconds=age_s)
    device = new_id()
    return Event(shard, seq, stored_at, event_type, device, device, stored_at, "{}", None, "touch", "")


def queue(shards: int = 1) -> Queue:
    cursors = {n: Cursor(1, NOW - timedelta(days=3), Shard(n, 100, NOW)) for n in range(shards)}
    return Queue(cursors, LIMIT)


def offer(made: Queue, *events: Event) -> None:
    for each in events:
        made.offer(each)
        made.cursors[each.shard].fall_behind(each.seq + 1)


def take(made: Queue, at: float = 100.0, to: Target | None = None) -> Delivery:
    delivery = made.take(NOW_S, at, to or target())
    assert delivery is not None
    return delivery


def test_a_place_is_passed_only_when_all_before_it_is_done() -> None:
    """The second of three ends first: nothing to tell until the first has ended, then both."""
    made = queue()
    offer(made, event(5), event(7), event(9))
    first, second, third = take(made), take(made), take(made)
    made.finish(second, End.DELIVERED)
    assert not made.collect(100.01)
    made.finish(first, End.DELIVERED)
    progress = made.collect(100.01)
    assert [(shard, seq) for shard, seq, _ in progress.positions] == [(0, 9)]
    assert (progress.accepted, progress.delivered, progress.exposed) == (2, 2, 2)
    made.committed(progress)
    assert made.exposed == 1
    made.finish(third, End.DELIVERED)
    progress = made.collect(100.01)
    assert [(shard, seq) for shard, seq, _ in progress.positions] == [(0, 10)]
    assert progress.positions[0][2] == NOW - CLOCK_SLACK


def test_no_more_is_begun_than_a_crash_may_repeat() -> None:
    """Begun and not committed are counted together."""
    made = queue()
    offer(made, *(event(n) for n in range(1, 21)))
    taken = [take(made) for _ in range(LIMIT)]
    assert made.take(NOW_S, 100.0, target()) is None
    for delivery in taken:
        made.finish(delivery, End.DELIVERED)
    assert made.take(NOW_S, 100.0, target()) is None
    assert made.pressed()
    made.committed(made.collect(100.1))
    assert made.take(NOW_S, 100.0, target()) is not None


def test_a_failure_waits_and_its_place_is_passed() -> None:
    """It is told with the time of its next try."""
    made = queue()
    offer(made, event(1), event(2))
    made.finish(take(made), End.FAILED, NOW_S + 5)
    made.finish(take(made), End.DELIVERED)
    progress = made.collect(100.1)
    assert [(d.event.seq, d.attempts, d.next_at) for d in progress.failed if d.event] == [(1, 1, NOW_S + 5)]
    assert (progress.accepted, progress.delivered) == (2, 1)


def test_a_straggler_is_set_apart_so_that_others_can_be_told() -> None:
    """Its end is told later by its row; it stays exposed until then."""
    made = queue()
    offer(made, event(1), event(2))
    slow, quick = take(made), take(made)
    made.finish(quick, End.DELIVERED)
    assert not made.collect(100.5)
    progress = made.collect(101.5)
    assert (progress.apart, progress.accepted, progress.delivered, progress.exposed) == ([slow], 2, 1, 1)
    slow.waiting_id = 77
    made.committed(progress)
    assert made.exposed == 1
    made.finish(slow, End.DELIVERED)
    progress = made.collect(101.6)
    assert (progress.ended, progress.accepted, progress.exposed) == ([slow], 0, 1)
    made.committed(progress)
    assert (made.exposed, made.loaded) == (0, set())


def test_a_straggler_that_ends_during_its_commit_is_told_by_the_next() -> None:
    """Its row exists by then."""
    made = queue()
    offer(made, event(1))
    slow = take(made)
    progress = made.collect(102.0)
    made.finish(slow, End.FAILED, NOW_S + 2)
    assert not made.collect(102.0)
    slow.waiting_id = 77
    made.committed(progress)
    assert made.collect(102.1).retried == [slow]


def test_what_expired_or_is_no_longer_wanted_ends_without_an_attempt() -> None:
    """Expired is counted; an event of another type was never accepted, a row of one is dropped."""
    made = queue()
    offer(made, event(1, age_s=3600), event(2, event_type="motion"), event(3))
    row = Delivery(event(4, event_type="motion"), NOW_S)
    row.waiting_id = 5
    made.offer_due(row)
    wanted = target(frozenset({"touch"}))
    assert take(made, to=wanted).event is not None
    assert made.take(NOW_S, 100.0, wanted) is None
    progress = made.collect(100.1)
    assert (progress.accepted, progress.expired, progress.exposed) == (1, 1, 0)
    assert [delivery.end for delivery in progress.ended] == [End.DROPPED]


def test_retries_and_new_events_take_turns() -> None:
    """Neither keeps the other waiting."""
    made = queue()
    offer(made, event(1), event(2), event(3))
    for row_id in (91, 92):
        row = Delivery(event(50), NOW_S)
        row.waiting_id = row_id
        made.offer_due(row)
    assert [take(made).waiting_id for _ in range(5)] == [0, 91, 0, 92, 0]


def test_while_nothing_is_taken_what_expires_is_still_told() -> None:
    """So the ledger of a dead endpoint goes on."""
    made = queue()
    offer(made, event(1, age_s=3700), event(2, age_s=3600), event(3))
    assert made.expire(NOW_S, target()) == 2
    progress = made.collect(100.0)
    assert (progress.accepted, progress.expired) == (2, 2)
    assert [(shard, seq) for shard, seq, _ in progress.positions] == [(0, 3)]


def test_places_passed_with_nothing_to_deliver_are_told_only_when_idle() -> None:
    """A commit for nothing else would be wasted."""
    made = queue()
    made.cursors[0].fall_behind(50)
    assert not made.collect(100.0)
    progress = made.collect(100.0, idle_since=NOW)
    assert progress.positions == [(0, 50, NOW - CLOCK_SLACK)]
    assert not made.collect(100.0, idle_since=NOW)


ENDS = st.sampled_from([End.DELIVERED, End.FAILED, End.EXPIRED, End.DROPPED])


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 30), ENDS), max_size=120))
def test_whatever_happens_every_event_ends_in_exactly_one_way(steps: list[tuple[int, int, End]]) -> None:
    """Take, finish and commit in any order: accepted = delivered + expired + rows, and places never go back."""
    made = queue(shards=2)
    offer(made, *(event(seq, shard) for seq in range(1, 21) for shard in (0, 1)))
    flying: list[Delivery] = []
    accepted = delivered = expired = gone = 0
    rows: set[int] = set()
    places = {0: 1, 1: 1}
    clock = 100.0

    def commit() -> None:
        nonlocal accepted, delivered, expired, gone
        progress = made.collect(clock)
        accepted += progress.accepted
        delivered += progress.delivered
        expired += progress.expired
        for shard, seq, _ in progress.positions:
            assert seq > places[shard]
            places[shard] = seq
        for each in progress.apart + progress.failed:
            each.waiting_id = 1000 + len(rows) + gone
            rows.add(each.waiting_id)
        for each in progress.ended:
            rows.discard(each.waiting_id)
            gone += 1
        made.committed(progress)

    for kind, number, end in steps:
        clock += 0.2
        if kind == 0 and (taken := made.take(NOW_S, clock, target())) is not None:
            flying.append(taken)
        elif kind == 1 and flying:
            finished = flying.pop(number % len(flying))
            fate = end if finished.apart or end is not End.DROPPED else End.DELIVERED
            made.finish(finished, fate, NOW_S)
        elif kind == 2:
            commit()
        assert 0 <= made.exposed <= LIMIT
    for each in flying:
        made.finish(each, End.DELIVERED)
    commit()
    commit()
    assert made.exposed == 0
    assert accepted == delivered + expired + len(rows) + gone
    assert all(d.stage is Stage.QUEUED for cursor in made.cursors.values() for d in cursor.queue)
