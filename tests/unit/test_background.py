"""The loops beside an edge's requests."""

import asyncio

import pytest

from gateway import background
from gateway.background import Background


async def test_a_loop_that_loses_a_cancellation_is_cancelled_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """As clients of Redis do that are cancelled at the moment when their own time limit ends."""
    monkeypatch.setattr(background, "CANCEL_AGAIN_S", 0.01)
    cancelled = 0

    async def deaf() -> None:
        nonlocal cancelled
        while cancelled < 2:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancelled += 1

    loops = Background(lambda: None)
    loops.start("deaf", deaf())
    await asyncio.sleep(0)
    async with asyncio.timeout(20):
        await loops.stop()
    assert cancelled == 2


@pytest.mark.parametrize("how", ["raises", "returns", "is cancelled"])
async def test_however_a_loop_ends_the_edge_is_told_to_go(how: str) -> None:
    """A loop has no reason to end before it is stopped."""
    ended = asyncio.Event()

    async def dying() -> None:
        if how == "raises":
            raise KeyError("broken")
        if how == "is cancelled":
            raise asyncio.CancelledError

    loops = Background(ended.set)
    loops.start("dying", dying())
    async with asyncio.timeout(20):
        await ended.wait()
    assert loops.cause is not None
    await loops.stop()
