"""Brings the roster up to date: who is to be served, with which configuration, signed by which key.

A trigger tells of every change of a connector, so it holds for the next attempt; and because a notification can be lost
with its connection, everything is compared once in a while as well: each second while some connector is still to be
taken over, or Postgres turned out to be another.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from schemas import event_log, logs, signing_keys
from schemas.placement import Placement
from schemas.postgres import Connection, PostgresAway
from schemas.secrets import Vault
from schemas.signing import SigningKey
from workers.dispatcher import store
from workers.dispatcher.configurations import Configurations
from workers.dispatcher.cursors import CLOCK_SLACK, Cursor, Shard
from workers.dispatcher.lanes import Lanes
from workers.dispatcher.roster import Roster, slot_of
from workers.dispatcher.session import Session

log = logging.getLogger(__name__)

CHANNEL = "data_connectors"
COMPARE_S, SETTLED_COMPARE_S = 1.0, 5.0
"""How often all is compared, and how often where nothing is left to do."""
COALESCE_S = 0.01
LOAD_MAX = 200
KEY_S = 60.0
RETRY_S = 0.25


class Refresher:
    """Follows changes of connectors."""

    def __init__(
        self,
        dsn: str,
        roster: Roster,
        configurations: Configurations,
        key_vault: Vault,
        lanes: Lanes,
        on_notification: Callable[[bool], None],
        *,
        clock: Callable[[], float],
        generation: Callable[[], int],
        placement: Placement,
    ) -> None:
        """`on_notification` is called when somebody changed a connector or put work into its queue, with whether it is
        served here.
        """
        self._roster = roster
        self._configurations = configurations
        self._key_vault = key_vault
        self._lanes = lanes
        self._on_notification = on_notification
        self._clock = clock
        self._generation = generation
        self._placement = placement
        self._read_in = generation()
        """The generation of Postgres (see `workers.postgres_history`) in which all this was read."""
        self._session = Session(dsn, "dispatcher roster", self._listen)
        self._compare_at = 0.0
        """When all is compared next, in monotonic time."""
        self._key: SigningKey | None = None
        self._key_at = 0.0

    def __repr__(self) -> str:
        return f"<Refresher {self._roster!r}>"

    async def _listen(self, connection: Connection) -> None:
        await connection.add_listener(CHANNEL, self._told)
        self._roster.outdated.set()
        self._on_notification(False)  # what was told before may have been missed

    def _told(self, _connection: Any, _pid: int, _channel: str, what: object) -> None:
        connector_id, _, status = str(what).partition(" ")
        connector = self._roster.connectors.get(connector_id)
        self._on_notification(connector is not None)
        if connector is not None:
            connector.due_in(0)
            if status not in ("", "ACTIVE"):
                self._roster.remove(connector)
        if status:
            self._roster.outdated.set()

    async def run(self, stop: asyncio.Event) -> None:
        """Keep up with changes until `stop` is set."""
        outdated = self._roster.outdated
        while not stop.is_set():
            if outdated.is_set() or self._is_due():
                outdated.clear()
                try:
                    await self.refresh()
                except PostgresAway as error:
                    logs.event(log, logging.WARNING, "roster_deferred", cause=repr(error))
                    await self._session.drop()
                    await asyncio.sleep(RETRY_S)
            try:
                await asyncio.wait_for(outdated.wait(), COMPARE_S)
                await asyncio.sleep(COALESCE_S)
            except TimeoutError:
                continue
        await self._session.drop()

    def _is_due(self) -> bool:
        is_late = time.monotonic() >= self._compare_at
        return is_late or self._session.is_lost or self._read_in != self._generation()

    async def refresh(self) -> None:
        """Bring connectors and configurations up to date."""
        self._compare_at = 0.0
        connection, roster = await self._session.get(), self._roster
        if self._read_in != (generation := self._generation()):
            roster.forget()
            self._read_in = generation
        if not roster.shards:
            since = store.moment(self._clock()) - CLOCK_SLACK
            found = await self._placement.read(
                await event_log.shards(connection), lambda shards: event_log.heads(connection, shards)
            )
            roster.shards = {
                shard: Shard(shard, head, since) for heads in found.results for shard, head in heads.items()
            }
        active = await store.active(connection)
        for connector in list(roster.connectors.values()):
            known = active.get(connector.id)
            if known is None or known.starts != connector.starts:
                roster.remove(connector)
        changed = [c.id for c in roster.connectors.values() if active[c.id].revision != c.target.revision]
        for row in await store.configurations(connection, changed) if changed else ():
            self._configure(row)
        missing = roster.missing(active)
        for n in range(0, len(missing), LOAD_MAX):
            await self._load(connection, missing[n : n + LOAD_MAX])
        await self._refresh_key(connection)
        if roster.is_complete(active):
            self._compare_at = time.monotonic() + SETTLED_COMPARE_S

    def _configure(self, row: Any) -> None:
        connector, target = self._roster.connectors.get(row["id"]), self._configurations.target(row)
        if connector is not None and target is not None:
            self._configurations.configure(connector, target)
            self._lanes.pump(connector)

    async def _load(self, connection: Connection, connector_ids: list[str]) -> None:
        rows = await store.take_over(connection, connector_ids, store.moment(self._clock()))
        cursors: dict[str, dict[int, Cursor]] = {}
        for place in await store.positions(connection, connector_ids):
            shard, seq, stored_at = place["shard"], place["seq"], place["stored_at"]
            # A shard whose node was away is read from the farthest place that a connector has come to.
            tail = self._roster.shards.setdefault(shard, Shard(shard, seq, stored_at))
            cursor = Cursor(seq, stored_at, tail)
            cursors.setdefault(place["connector_id"], {})[shard] = cursor
        for row in rows:
            target = self._configurations.target(row)
            if target is None or slot_of(row["id"]) not in self._roster.slots:
                continue
            connector = self._configurations.connector(row, target, cursors.get(row["id"], {}))
            self._roster.add(connector)
            self._lanes.pump(connector)

    async def _refresh_key(self, connection: Connection) -> None:
        connectors = list(self._roster.connectors.values())
        wanted = any(connector.target.asymmetric for connector in connectors)
        if not wanted or (self._key is not None and time.monotonic() - self._key_at < KEY_S):
            return
        self._key = await signing_keys.signing_key(connection, self._key_vault, datetime.now(UTC))
        self._key_at = time.monotonic()
        self._lanes.sign_with(self._key)
        for connector in connectors:
            self._lanes.pump(connector)
