"""Follows the states of the devices that people look at: one look a second for all pages of an edge.

    device_state ──once a second, of all that are watched──▶ one edge ──those that changed──▶ pages

What it costs grows with the devices that are looked at and not with the messages that come, so a fleet's telemetry is
no slower for it. It looks only while somebody watches. While Postgres is away nothing comes, and pages say so.
"""

import asyncio
import logging
from collections import Counter
from uuid import UUID

from gateway.refusals import TooMany, Unavailable, retry_after_s
from gateway.stores.devices import states
from gateway.stores.devices.states import DeviceState
from schemas import logs
from schemas.ids import shard_of
from schemas.postgres import Pool, PostgresAway

log = logging.getLogger(__name__)

LOOK_S = 1.0
WATCHED_MAX = 1_000
"""Pages that are open at once on one edge, and of one person."""
WATCHED_OF_PERSON_MAX = 50


class StateWatch:
    """A page that shows one device, or none where it only wants to know whether the gateway is there."""

    def __init__(self, person: str, device_id: UUID | None) -> None:
        self.person = person
        self.device_id = device_id
        self.news = asyncio.Event()
        self.state: DeviceState | None = None
        """The newest; None until it is known, and where there is none."""

    def __repr__(self) -> str:
        return f"<StateWatch device={self.device_id}>"


class LiveStates:
    """The looks of one edge."""

    def __init__(self, pool: Pool, shards: int) -> None:
        self._pool = pool
        self._shards = shards
        self._watches: set[StateWatch] = set()
        self._of_person: Counter[str] = Counter()
        self._watched = asyncio.Event()

    def __repr__(self) -> str:
        return f"<LiveStates watches={len(self._watches)}>"

    def check_room(self, person: str) -> None:
        """Raises Unavailable when too many pages are open here, TooMany when too many of one person are."""
        if self._of_person[person] >= WATCHED_OF_PERSON_MAX:
            text = f"{WATCHED_OF_PERSON_MAX} live pages of yours are open already"
            raise TooMany(text, retry_after_s=retry_after_s())
        if len(self._watches) >= WATCHED_MAX:
            raise Unavailable(f"{WATCHED_MAX} live pages are open here already", retry_after_s=retry_after_s())

    def begin(self, watch: StateWatch) -> None:
        """Follow what a page shows, which is then ended."""
        self._watches.add(watch)
        self._of_person[watch.person] += 1
        self._watched.set()

    def end(self, watch: StateWatch) -> None:
        """Follow it no more."""
        self._watches.discard(watch)
        self._of_person[watch.person] -= 1
        if not self._of_person[watch.person]:
            del self._of_person[watch.person]
        if not self._watches:
            self._watched.clear()

    async def run(self) -> None:
        """Look for all who watch, until cancelled."""
        away = False
        while True:
            await self._watched.wait()
            try:
                await self._look()
                away = False
            except PostgresAway as error:
                if not away:
                    logs.event(log, logging.WARNING, "live_states_wait", cause=str(error))
                away = True
            await asyncio.sleep(LOOK_S)

    async def _look(self) -> None:
        watches = [watch for watch in self._watches if watch.device_id is not None]
        wanted = {watch.device_id for watch in watches if watch.device_id is not None}
        seen = await states.reachable(self._pool, [(shard_of(str(one).encode(), self._shards), one) for one in wanted])
        for watch in watches:
            state = None if watch.device_id is None else seen.get(watch.device_id)
            if state != watch.state and state is not states.AWAY:
                watch.state = state
                watch.news.set()
