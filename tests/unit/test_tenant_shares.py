"""Long reads of one organization come one after the other, with rests; nobody else waits for them, nor a short call."""

import asyncio

import pytest
from prometheus_client import CollectorRegistry

from gateway import tenant_shares
from gateway.giving_way import let_others_go_first
from gateway.refusals import DoesNotFit, TooMany
from gateway.tenant_shares import REST, REST_BESIDE_OTHERS, TenantShares
from schemas.metrics import Metrics

TOOK_S = 0.02


def shares(wait_s: float = 5.0) -> TenantShares:
    return TenantShares(10, 0.3, Metrics(CollectorRegistry()), wait_s)


async def finished(made: TenantShares) -> None:
    while "tenants=0" not in repr(made):
        await asyncio.sleep(0.001)


async def test_long_reads_of_an_organization_are_one_at_a_time() -> None:
    """However many are asked for; those of another organization, and short calls of the same one, go on beside them."""
    made, under_way, most = shares(), 0, 0

    async def read() -> None:
        nonlocal under_way, most
        async with made.long_read("acme"):
            under_way += 1
            most = max(most, under_way)
            await asyncio.sleep(0)
            under_way -= 1

    async with asyncio.TaskGroup() as group, made.long_read("acme"):
        for _ in range(5):
            group.create_task(read())
        async with made.long_read("globex"), made.place("acme"), made.place("acme"):
            await asyncio.sleep(0)
            assert under_way == 0
    assert most == 1
    await finished(made)


@pytest.mark.parametrize("refused", [False, True])
async def test_a_long_read_is_followed_by_a_rest(refused: bool) -> None:
    """So many times what it took, also where it ended in a refusal; until then the next has not begun."""
    made, loop = shares(), asyncio.get_running_loop()
    try:
        async with made.long_read("acme"):
            await asyncio.sleep(TOOK_S)
            if refused:
                raise DoesNotFit("too deep")
    except DoesNotFit:
        assert refused
    ended = loop.time()
    async with made.long_read("acme"):
        assert loop.time() - ended > 0.9 * REST * TOOK_S  # timers of the loop are a moment early
    await finished(made)


async def test_the_rest_is_longer_where_others_called_meanwhile() -> None:
    """A tenth of the time is left to who reads all it can, and the rest to its neighbours."""
    made, loop = shares(), asyncio.get_running_loop()
    async with made.long_read("acme"), made.place("globex"):
        await asyncio.sleep(TOOK_S)
    ended = loop.time()
    async with made.long_read("acme"):
        assert loop.time() - ended > 0.9 * REST_BESIDE_OTHERS * TOOK_S
    await finished(made)


async def test_a_long_read_goes_on_when_no_short_call_is_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """One whose caller is still to be proven counts, too; other long reads do not, and what is no long read never
    waits."""
    monkeypatch.setattr(tenant_shares, "GIVE_WAY_S", 60.0)
    made = shares()
    done: list[str] = []

    async def read() -> None:
        async with made.long_read("acme"), made.long_read("globex"):
            await let_others_go_first()
            done.append("read")

    async with made.place("globex"):
        with made.short():
            reading = asyncio.create_task(read())
            await let_others_go_first()
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.01)
        done.append("short call")
    await reading
    assert done == ["short call", "read"]
    await finished(made)


async def test_a_long_read_is_not_put_off_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """On an edge where somebody always calls; the wait is no part of what its rest is measured by."""
    monkeypatch.setattr(tenant_shares, "GIVE_WAY_S", 0.05)
    made, loop = shares(), asyncio.get_running_loop()
    with made.short():
        async with made.long_read("acme"):
            await let_others_go_first()
        ended = loop.time()
        await finished(made)
    assert loop.time() - ended < REST * 0.05


async def test_a_refused_long_read_rests_though_it_took_no_time() -> None:
    """Whoever asks for what is refused would ask again at once, as often as it can."""
    made = shares(wait_s=0.001)
    with pytest.raises(DoesNotFit):
        async with made.long_read("acme"):
            raise DoesNotFit("too deep")
    with pytest.raises(TooMany):
        async with made.long_read("acme"):
            pass
    async with made.place("acme"):
        pass
    await finished(made)
    async with made.long_read("acme"):
        pass


async def test_who_goes_away_while_waiting_leaves_nothing_behind() -> None:
    """Neither a turn that is never given back, nor a place."""
    made = shares()
    async with made.place("acme"), made.place("acme"), made.place("acme"):
        waiting = [asyncio.create_task(_read(made)) for _ in range(3)]  # one for a place, two for the turn
        await asyncio.sleep(0)
        for one in waiting:
            one.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
    await finished(made)
    async with made.long_read("acme"), made.place("acme"), made.place("acme"):
        pass


async def _read(made: TenantShares) -> None:
    async with made.long_read("acme"):
        raise AssertionError("there is no place")
