"""Which requests count as live, so that a backlog yields to them."""

from collections.abc import Coroutine
from typing import Any
from uuid import UUID

import pytest
from test_queue import LIMIT, NOW_S, event, offer, queue, target

from workers.dispatcher.connector import Connector, Health
from workers.dispatcher.governor import Governor
from workers.dispatcher.lanes import LIVE_AGE_S, Lanes
from workers.dispatcher.pace import Pace
from workers.dispatcher.request import Requests


@pytest.mark.parametrize(
    ("age_s", "catching_up", "live"),
    [(LIVE_AGE_S / 2, False, True), (2 * LIVE_AGE_S, False, False), (LIVE_AGE_S / 2, True, False)],
)
async def test_only_what_is_new_counts_as_live(age_s: float, catching_up: bool, live: bool) -> None:
    """Neither the last events of a backlog, which no window announces, nor those of a connector that is behind."""

    def clock() -> float:
        return NOW_S

    governor, to = Governor(LIMIT), target()
    begun: list[Coroutine[Any, Any, None]] = []
    lanes = Lanes(
        *(None, None, governor, 100),  # type: ignore[arg-type]
        done=lambda _: None,
        low=lambda _: None,
        spawn=begun.append,
        clock=clock,
        random=lambda: 0.5,
    )
    made = queue()
    offer(made, event(5, age_s=age_s))
    connector = Connector("c", UUID(int=0), 0, 0, to, Requests(to, "", clock), Pace(LIMIT), made, Health(None))
    connector.catching_up = catching_up
    lanes.pump(connector)
    assert len(begun) == 1
    assert (governor.live_at > 0) is live
    begun[0].close()
