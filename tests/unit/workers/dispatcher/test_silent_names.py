"""What connectors whose name servers are silent cost others: nothing, in simulated time to the millisecond."""

import asyncio
import socket
from statistics import quantiles
from typing import Any

import pytest
from aiohttp.abc import AbstractResolver, ResolveResult
from simulation import simulate

from schemas.egress import LOOKUPS_MAX
from workers.lookup_turns import OF_TENANT
from workers.names import LookupFailure, Names

SILENT, GOOD, OF_GOOD = 400, 20, 30
ANSWER_S, SYSTEM_GIVES_UP_S, ATTEMPT_WAITS_S = 0.02, 30.0, 5.0


class Threads(AbstractResolver):
    """The system's resolver: each look-up has a thread to itself until it is answered or given up."""

    def __init__(self) -> None:
        self._free = asyncio.Semaphore(LOOKUPS_MAX)

    async def resolve(self, host: str, port: int = 0, family: Any = socket.AF_UNSPEC) -> list[ResolveResult]:
        async with self._free:
            if host.startswith("silent"):
                await asyncio.sleep(SYSTEM_GIVES_UP_S)
                raise socket.gaierror(socket.EAI_AGAIN, "no answer")
            await asyncio.sleep(ANSWER_S)
            return [ResolveResult(hostname=host, host="192.0.2.1", port=port, family=2, proto=6, flags=0)]

    async def close(self) -> None:
        pass


async def p99_of_healthy(silent: int, hostile: int) -> float:
    """How long a healthy connector waits for its name, beside so many silent ones of so many tenants."""
    names, waits = Names(Threads(), ATTEMPT_WAITS_S), []

    async def fail(number: int) -> None:
        while True:
            with pytest.raises(LookupFailure, match="no name server answered"):
                await names.addresses(f"silent{number}", 443, f"hostile {number % hostile}")
            await asyncio.sleep(1)

    async def deliver(number: int) -> None:
        for _ in range(OF_GOOD):
            began = asyncio.get_running_loop().time()
            await names.addresses(f"good{number}", 443, f"tenant {number % 5}")
            waits.append(asyncio.get_running_loop().time() - began)
            await asyncio.sleep(3)

    failing = [asyncio.ensure_future(fail(number)) for number in range(silent)]
    await asyncio.sleep(1)
    await asyncio.gather(*(deliver(number) for number in range(GOOD)))
    for one in failing:
        one.cancel()
    await asyncio.gather(*failing, return_exceptions=True)
    return quantiles(waits, n=100)[98]


@pytest.mark.parametrize(("hostile", "times"), [(3, 1.05), (40, OF_TENANT)])
def test_silent_name_servers_do_not_lengthen_the_p99_of_others(hostile: int, times: float) -> None:
    """With 400 such connectors, which are tried again every few seconds, it is what it is without them; where dozens of
    tenants have them, a tenant's own new names may have to wait for one another."""
    found: list[float] = []

    async def scenario() -> None:
        found.append(await p99_of_healthy(0, hostile))
        found.append(await p99_of_healthy(SILENT, hostile))

    simulate(scenario)
    alone, beside = found
    assert 0 < alone <= 2 * ANSWER_S
    assert beside <= times * alone
