"""Long reads of one organization come one after the other, with rests; nobody else waits for them, nor a short call."""

import asyncio

import pytest
from prometheus_client import CollectorRegistry

from gateway.refusals import DoesNotFit, TooMany
from gateway.tenant_shares import REST, TenantShares
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
