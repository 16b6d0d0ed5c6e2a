"""What looks for connectors that stand still, should a wake-up be lost after all."""

from webhooks import Project, Receiver, answers, until

from schemas.metrics import Metrics
from schemas.placement import ONE_POSTGRES
from workers.dispatcher.stalls import STALLED_S, StallSweep


async def test_a_connector_that_nobody_woke_is_counted_and_sent_on_its_way(
    project: Project, receiver: Receiver
) -> None:
    """Its timer was lost, and there is no event to wake it; the sweep finds it once it has rested for too long."""
    receiver.behave = answers(503, **{"Retry-After": "600"})
    connector = await project.connector(receiver.url)
    async with project.dispatcher() as dispatcher:
        await project.happen(400)
        await until(lambda: receiver.received and not dispatcher.roster.connectors[connector].lanes)
        receiver.behave = answers(200)
        made = dispatcher.roster.connectors[connector]
        assert made.waking is not None
        made.waking.cancel()
        made.waking, made.pace.resume_at = None, 0.0
        stalls = dispatcher.stalls
        assert stalls is not None
        found: Metrics = stalls._metrics
        now_s = 1000.0
        sweep = StallSweep(
            stalls._pool, stalls._roster, stalls._lanes, found, stalls._clock, ONE_POSTGRES, lambda: now_s
        )
        await sweep.sweep()
        assert found.connectors_stalled._value.get() == 0
        now_s += STALLED_S
        await sweep.sweep()
        assert found.connectors_stalled._value.get() == 1
        await until(lambda: len(receiver.counts) == 400)
        found.connectors_stalled.reset()
