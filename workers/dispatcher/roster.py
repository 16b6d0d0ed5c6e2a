"""Which connectors this process serves: those of its slots, by project, and how far the log was read for them.

A connector falls into a slot by its id; the slots of this process come and go (see `workers.shares`). No I/O: the
refresher brings it up to date.
"""

import asyncio
import logging
import time
import zlib
from collections.abc import Iterable
from uuid import UUID

from schemas import logs
from schemas.deliveries import SLOTS
from workers.dispatcher.connector import Connector
from workers.dispatcher.cursors import Cursor, Shard

log = logging.getLogger(__name__)

LOST_PAUSE_S = 1.0
"""A connector that somebody else took, or was disabled, is not taken back at once."""


def slot_of(connector_id: str) -> int:
    """The slot of a connector."""
    return zlib.crc32(connector_id.encode()) % SLOTS


class Roster:
    """The connectors of this process. Only the refresher adds some."""

    def __init__(self) -> None:
        self.connectors: dict[str, Connector] = {}
        self.projects: dict[UUID, list[Connector]] = {}
        self.shards: dict[int, Shard] = {}
        self.joining: dict[Cursor, Connector] = {}
        """Cursors that do not follow the tail."""
        self.slots: set[int] = set()
        self.outdated = asyncio.Event()
        """Set when there may be something to bring up to date."""
        self._not_before: dict[str, float] = {}

    def __repr__(self) -> str:
        return f"<Roster connectors={len(self.connectors)} slots={sorted(self.slots)}>"

    def own(self, slot: int) -> None:
        """Serve the connectors of this slot from now on."""
        self.slots.add(slot)
        self.outdated.set()

    def disown(self, slot: int) -> list[Connector]:
        """Take no more connectors of this slot; returns those that are still served."""
        self.slots.discard(slot)
        return [connector for connector in self.connectors.values() if slot_of(connector.id) == slot]

    def missing(self, active: Iterable[str]) -> list[str]:
        """Those of these connectors that this process is to serve and does not."""
        now = time.monotonic()
        self._not_before = {i: at for i, at in self._not_before.items() if at > now}
        known = self.connectors.keys() | self._not_before.keys()
        return [i for i in active if i not in known and slot_of(i) in self.slots]

    def is_complete(self, active: Iterable[str]) -> bool:
        """Whether this process serves all of these connectors that it is to serve."""
        return all(i in self.connectors for i in active if slot_of(i) in self.slots)

    def add(self, connector: Connector) -> None:
        """Serve it from now on."""
        self.connectors[connector.id] = connector
        self.projects.setdefault(connector.project_id, []).append(connector)
        for cursor in connector.queue.cursors.values():
            self.joining[cursor] = connector

    def lose(self, connector: Connector) -> None:
        """Somebody else moved its epoch: forget what was under way, and read it anew if it is still ours."""
        if self.connectors.get(connector.id) is connector:
            logs.event(log, logging.INFO, "connector_lost", connector=connector.id)
            self._not_before[connector.id] = time.monotonic() + LOST_PAUSE_S
            self.outdated.set()
        self.remove(connector)

    def remove(self, connector: Connector) -> None:
        """Stop serving it; outcomes of requests in flight are ignored."""
        connector.close()
        if self.connectors.get(connector.id) is connector:
            del self.connectors[connector.id]
            served = self.projects[connector.project_id]
            served.remove(connector)
            if not served:
                del self.projects[connector.project_id]
        for cursor in connector.queue.cursors.values():
            self.joining.pop(cursor, None)

    def forget(self) -> None:
        """Serve none of them until they are read anew.

        In a Postgres at an earlier point the numbers of waiting deliveries are given again, to others: what was read
        before must not be written there.
        """
        for connector in list(self.connectors.values()):
            self.remove(connector)
        self.shards = {}
