"""The clock of the five days, moved: warnings, disabling, restarts, several workers, silence."""

from typing import Any

import pytest
from webhooks import MovedClock, Project, Receiver, answers, until

from workers.dispatcher import failing
from workers.dispatcher.dispatcher import Dispatcher


@pytest.fixture(autouse=True)
async def days_to_come(project: Project) -> None:
    """Partitions for the days that these tests visit."""
    await project.pool.execute("SELECT create_event_partitions(12)")


async def fail_once(project: Project, receiver: Receiver, connector: str, clock: MovedClock) -> None:
    """One more event whose first attempt fails, committed."""
    before = (await project.row(connector))["failures_in_a_row"]
    [event_id] = await project.happen(stored_at=clock.moment())
    await until(lambda: event_id in receiver.event_ids)
    await until(lambda: _failures(project, connector, before + 1))


async def _failures(project: Project, connector: str, count: int) -> bool:
    return bool((await project.row(connector))["failures_in_a_row"] >= count)


async def sweep(dispatcher: Dispatcher) -> None:
    """What happens every few seconds."""
    found: Any = await until(lambda: dispatcher.sweep)
    await found.sweep()


async def told(project: Project, connector: str, dispatcher: Dispatcher, kinds: list[str]) -> None:
    """Sweep until these are the notices: a connector that a commit holds at that moment is left for the next time."""

    async def look() -> bool:
        await sweep(dispatcher)
        return await notices(project, connector) == kinds

    await until(look)


async def notices(project: Project, connector: str) -> list[str]:
    rows = await project.pool.fetch("SELECT kind FROM connector_notices WHERE connector_id = $1 ORDER BY id", connector)
    return [row["kind"] for row in rows]


async def test_five_days_of_failure_disable_a_connector_across_restarts(project: Project, receiver: Receiver) -> None:
    """A new dispatcher each day; warnings on the first and the third; exact to the minute on the fifth."""
    receiver.behave = answers(500)
    clock = MovedClock()
    connector = await project.connector(receiver.url, retry_window_s=3600)
    one, three = "failing_1_day", "failing_3_days"
    for kinds in ([], [one], [one], [one, three], [one, three]):
        async with project.dispatcher(clock, chance=lambda: 0.99) as dispatcher:
            await fail_once(project, receiver, connector, clock)
            await told(project, connector, dispatcher, kinds)
            clock.move(days=1)
    since = (await project.row(connector))["failing_since"].timestamp()
    clock.move(seconds=since + 5 * 86400 - 60 - clock())
    async with project.dispatcher(clock, chance=lambda: 0.99) as dispatcher:
        await fail_once(project, receiver, connector, clock)
        await sweep(dispatcher)
        assert (await project.row(connector))["status"] == "ACTIVE"
        clock.move(seconds=60)
        await told(project, connector, dispatcher, [one, three, "system_disabled"])
        row = await project.row(connector)
        assert (row["status"], row["failing_since"].timestamp()) == ("SYSTEM_DISABLED", since)
        noted = await project.pool.fetch("SELECT action, target FROM audit_log WHERE actor = 'system'")
        assert [(one["action"], connector in one["target"]) for one in noted] == [("disable_connector", True)]
        await until(lambda: connector not in dispatcher.roster.connectors and not receiver.under_way)
        sent = len(receiver.received)
        receiver.behave = answers(200)
        await project.happen(stored_at=clock.moment())
        await project.change(connector, status="ACTIVE")
        fresh = await project.happen(stored_at=clock.moment())
        await until(lambda: project.settled(connector))
    assert receiver.event_ids[sent:] == fresh
    row = await project.row(connector)
    assert (row["failing_since"], row["warned_days"], row["status"]) == (None, 0, "ACTIVE")


async def test_one_success_sets_the_clock_back(project: Project, receiver: Receiver) -> None:
    """Six days, with one delivery on the third."""
    clock = MovedClock()
    connector = await project.connector(receiver.url)
    async with project.dispatcher(clock, chance=lambda: 0.99) as dispatcher:
        for day in range(7):
            if day == 3:
                receiver.behave = answers(200)
                await project.happen(stored_at=clock.moment())
                await until(lambda: project.settled(connector))
            receiver.behave = answers(500)
            before = (await project.row(connector))["last_attempt_at"]
            await project.happen(stored_at=clock.moment())
            await until(lambda before=before: _attempted_since(project, connector, before))
            await sweep(dispatcher)
            clock.move(days=1)
    assert (await project.row(connector))["status"] == "ACTIVE"


async def _attempted_since(project: Project, connector: str, before: Any) -> bool:
    row = await project.row(connector)
    return bool(row["failing_since"] and row["last_attempt_at"] != before)


async def test_silence_is_not_failure(project: Project, receiver: Receiver) -> None:
    """One failure, then nothing for ten days: neither warned nor disabled."""
    receiver.behave = answers(500)
    clock = MovedClock()
    connector = await project.connector(receiver.url, retry_window_s=60)
    async with project.dispatcher(clock, chance=lambda: 0.99) as dispatcher:
        await fail_once(project, receiver, connector, clock)
        clock.move(days=10)
        await until(lambda: project.settled(connector))
        await sweep(dispatcher)
        assert (await project.row(connector))["status"] == "ACTIVE"
        assert await notices(project, connector) == []


async def test_the_last_notices_of_a_connector_are_kept(
    project: Project, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And no more, however often it fails for days."""
    monkeypatch.setattr(failing, "NOTICES_KEPT", 2)
    receiver.behave = answers(500)
    clock = MovedClock()
    connector = await project.connector(receiver.url)
    one, three = "failing_1_day", "failing_3_days"
    async with project.dispatcher(clock, chance=lambda: 0.99) as dispatcher:
        for days, kinds in ((0, []), (1.01, [one]), (2.01, [one, three]), (2, [three, "system_disabled"])):
            clock.move(days=days)
            await fail_once(project, receiver, connector, clock)
            await told(project, connector, dispatcher, kinds)


async def test_two_workers_warn_and_disable_once(project: Project, receiver: Receiver) -> None:
    """Both believe that the connector is theirs."""
    receiver.behave = answers(500)
    clock = MovedClock()
    connector = await project.connector(receiver.url)
    async with project.dispatcher(clock, chance=lambda: 0.99) as first:
        await fail_once(project, receiver, connector, clock)
        clock.move(days=5.01)
        await fail_once(project, receiver, connector, clock)
        async with project.dispatcher(clock, chance=lambda: 0.99) as second:
            await until(lambda: connector in second.roster.connectors)
            for dispatcher in (first, second, first, second):
                await told(project, connector, dispatcher, ["failing_1_day", "failing_3_days", "system_disabled"])


@pytest.mark.parametrize("days", [-3, 4])
async def test_a_clock_that_jumps_stops_nothing(project: Project, receiver: Receiver, days: int) -> None:
    """Retries are due soon, whatever the clock says; a jump alone disables nobody."""
    receiver.behave = answers(500)
    clock = MovedClock()
    connector = await project.connector(receiver.url, retry_window_s=604800)
    async with project.dispatcher(clock, chance=lambda: 0.5) as dispatcher:
        await fail_once(project, receiver, connector, clock)
        clock.move(days=days)
        await sweep(dispatcher)
        receiver.behave = answers(200)
        ledger = await until(lambda: project.settled(connector))
    assert ledger.delivered == 1
    assert (await project.row(connector))["status"] == "ACTIVE"
