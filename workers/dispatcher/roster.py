"""Which connectors this process serves, and with which configuration.

A connector falls into a slot by its id; the slots of this process come and go (see `workers.shares`). A trigger tells
of every change of a connector, so it holds for the next attempt; and because a notification can be lost with its
connection, everything is compared once a second as well.
"""

import asyncio
import logging
import time
import zlib
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from schemas import event_log, logs, signing_keys
from schemas.deliveries import SLOTS
from schemas.egress import EgressPolicy
from schemas.postgres import Connection, PostgresAway
from schemas.secrets import SecretError, Vault
from schemas.signing import SigningKey
from workers.dispatcher import store
from workers.dispatcher.connector import Connector, Health
from workers.dispatcher.pace import Pace
from workers.dispatcher.queue import CLOCK_SLACK, Cursor, Queue, Shard
from workers.dispatcher.request import Requests, Target
from workers.dispatcher.session import Session

log = logging.getLogger(__name__)

CHANNEL = "data_connectors"
COMPARE_S = 1.0
COALESCE_S = 0.01
LOAD_MAX = 200
LOST_PAUSE_S = 1.0
"""A connector that somebody else took, or was disabled, is not taken back at once."""
KEY_S = 60.0
RETRY_S = 0.25


def slot_of(connector_id: str) -> int:
    """The slot of a connector."""
    return zlib.crc32(connector_id.encode()) % SLOTS


class Roster:
    """The connectors of this process. Only `refresh` adds some."""

    def __init__(
        self,
        dsn: str,
        vault: Vault,
        key_vault: Vault,
        policy: EgressPolicy,
        *,
        issuer: str,
        exposed_max: int,
        timeout_s: float,
        clock: Callable[[], float],
        generation: Callable[[], int],
    ) -> None:
        self.connectors: dict[str, Connector] = {}
        self.projects: dict[UUID, list[Connector]] = {}
        self.shards: dict[int, Shard] = {}
        self.joining: dict[Cursor, Connector] = {}
        """Cursors that do not follow the tail."""
        self.slots: set[int] = set()
        self.pump: Callable[[Connector], None] = lambda _: None
        self.on_notification: Callable[[bool], None] = lambda _: None
        """Called when somebody changed a connector or put work into its queue; says whether it is served here."""
        self.on_key: Callable[[SigningKey], None] = lambda _: None
        """Called with the key of asymmetric signatures."""
        self._vault = vault
        self._key_vault = key_vault
        self._policy = policy
        self.issuer = issuer
        self._exposed_max = exposed_max
        self._lanes_max = max(1, exposed_max // 2)
        self._timeout_s = timeout_s
        self._clock = clock
        self._generation = generation
        self._read_in = generation()
        """The generation of Postgres (see `workers.postgres_history`) in which all this was read."""
        self._session = Session(dsn, "dispatcher roster", self._listen)
        self._changed = asyncio.Event()
        self._not_before: dict[str, float] = {}
        self._key: SigningKey | None = None
        self._key_at = 0.0

    def __repr__(self) -> str:
        return f"<Roster connectors={len(self.connectors)} slots={sorted(self.slots)}>"

    async def _listen(self, connection: Connection) -> None:
        await connection.add_listener(CHANNEL, self._told)
        self._changed.set()

    def _told(self, _connection: Any, _pid: int, _channel: str, what: object) -> None:
        connector_id, _, status = str(what).partition(" ")
        connector = self.connectors.get(connector_id)
        self.on_notification(connector is not None)
        if connector is not None:
            connector.due_in(0)
            if status not in ("", "ACTIVE"):
                self.remove(connector)
        if status:
            self._changed.set()

    def wake(self) -> None:
        """Look for changes now."""
        self._changed.set()

    def own(self, slot: int) -> None:
        """Serve the connectors of this slot from now on."""
        self.slots.add(slot)
        self._changed.set()

    def disown(self, slot: int) -> list[Connector]:
        """Take no more connectors of this slot; returns those that are still served."""
        self.slots.discard(slot)
        return [connector for connector in self.connectors.values() if slot_of(connector.id) == slot]

    def lose(self, connector: Connector) -> None:
        """Somebody else moved its epoch: forget what was under way, and read it anew if it is still ours."""
        if self.connectors.get(connector.id) is connector:
            logs.event(log, logging.INFO, "connector_lost", connector=connector.id)
            self._not_before[connector.id] = time.monotonic() + LOST_PAUSE_S
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

    async def run(self, stop: asyncio.Event) -> None:
        """Keep up with changes until `stop` is set."""
        while not stop.is_set():
            self._changed.clear()
            try:
                await self.refresh()
            except PostgresAway as error:
                logs.event(log, logging.WARNING, "roster_deferred", cause=repr(error))
                await self._session.drop()
                await asyncio.sleep(RETRY_S)
            try:
                await asyncio.wait_for(self._changed.wait(), COMPARE_S)
                await asyncio.sleep(COALESCE_S)
            except TimeoutError:
                continue
        await self._session.drop()

    async def refresh(self) -> None:
        """Bring connectors and configurations up to date."""
        connection = await self._session.get()
        if self._read_in != (generation := self._generation()):
            self.forget()
            self._read_in = generation
        if not self.shards:
            since = store.moment(self._clock()) - CLOCK_SLACK
            heads = await event_log.heads(connection, await event_log.shards(connection))
            self.shards = {shard: Shard(shard, head, since) for shard, head in heads.items()}
        active = await store.active(connection)
        for connector in list(self.connectors.values()):
            known = active.get(connector.id)
            if known is None or known.starts != connector.starts:
                self.remove(connector)
        changed = [c.id for c in self.connectors.values() if active[c.id].revision != c.target.revision]
        for row in await store.configurations(connection, changed) if changed else ():
            self._configure(row)
        now = time.monotonic()
        self._not_before = {i: at for i, at in self._not_before.items() if at > now}
        fresh = [
            i for i in active if i not in self.connectors and slot_of(i) in self.slots and i not in self._not_before
        ]
        for n in range(0, len(fresh), LOAD_MAX):
            await self._load(connection, fresh[n : n + LOAD_MAX])
        await self._refresh_key(connection)

    def _configure(self, row: Any) -> None:
        connector = self.connectors.get(row["id"])
        if connector is None or (target := self.target(row)) is None:
            return
        if target.url != connector.target.url:
            connector.pace = self._pace(target)
        elif target.in_flight_max != connector.target.in_flight_max:
            connector.pace.limit(self._lanes(target))
        if target.event_types != connector.target.event_types:
            connector.unread = None
        connector.target = target
        connector.requests = Requests(target, self.issuer, self._clock, connector.requests)
        self.pump(connector)

    def _pace(self, target: Target, failures: int = 0) -> Pace:
        return Pace(self._lanes(target), failures, timeout_s=self._timeout_s)

    def _lanes(self, target: Target) -> int:
        return min(self._lanes_max, target.in_flight_max or self._lanes_max)

    def target(self, row: Any) -> Target | None:
        """Where a connector's row says to send; None when its secrets cannot be read."""
        try:
            return Target.of_row(row, self._vault, self._policy)
        except SecretError as error:
            logs.event(log, logging.ERROR, "secret_unreadable", connector=row["id"], cause=str(error))
            return None

    async def _load(self, connection: Connection, connector_ids: list[str]) -> None:
        rows = await store.take_over(connection, connector_ids, store.moment(self._clock()))
        cursors: dict[str, dict[int, Cursor]] = {}
        for place in await store.positions(connection, connector_ids):
            cursor = Cursor(place["seq"], place["stored_at"], self.shards[place["shard"]])
            cursors.setdefault(place["connector_id"], {})[place["shard"]] = cursor
        for row in rows:
            target = self.target(row)
            if target is None or slot_of(row["id"]) not in self.slots:
                continue
            failing_since: datetime | None = row["failing_since"]
            connector = Connector(
                row["id"],
                row["project_id"],
                row["epoch"],
                row["starts"],
                target,
                Requests(target, self.issuer, self._clock),
                self._pace(target, row["failures_in_a_row"]),
                Queue(cursors.get(row["id"], {}), self._exposed_max),
                Health(failing_since.timestamp() if failing_since else None),
                (row["backlog"], row["owed_since"]),
            )
            self.connectors[connector.id] = connector
            self.projects.setdefault(connector.project_id, []).append(connector)
            for cursor in connector.queue.cursors.values():
                self.joining[cursor] = connector
            self.pump(connector)

    async def _refresh_key(self, connection: Connection) -> None:
        wanted = any(connector.target.asymmetric for connector in self.connectors.values())
        if not wanted or (self._key is not None and time.monotonic() - self._key_at < KEY_S):
            return
        self._key = await signing_keys.signing_key(connection, self._key_vault, datetime.now(UTC))
        self._key_at = time.monotonic()
        self.on_key(self._key)
