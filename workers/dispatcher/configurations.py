"""What the rows of connectors become: where each sends, how fast it may, and the connector itself."""

import logging
from collections.abc import Callable
from datetime import datetime
from typing import Any

from schemas import logs
from schemas.egress import EgressPolicy
from schemas.secrets import SecretError, Vault
from workers.dispatcher.connector import Connector, Health
from workers.dispatcher.cursors import Cursor
from workers.dispatcher.pace import Pace
from workers.dispatcher.queue import Queue
from workers.dispatcher.request import Requests, Target

log = logging.getLogger(__name__)


class Configurations:
    """Makes what follows from a connector's row and the settings of this process."""

    def __init__(
        self,
        vault: Vault,
        policy: EgressPolicy,
        *,
        issuer: str,
        exposed_max: int,
        timeout_s: float,
        clock: Callable[[], float],
    ) -> None:
        self.issuer = issuer
        self._vault = vault
        self._policy = policy
        self._exposed_max = exposed_max
        self._lanes_max = max(1, exposed_max // 2)
        self._timeout_s = timeout_s
        self._clock = clock

    def target(self, row: Any) -> Target | None:
        """Where a connector's row says to send; None when its secrets cannot be read."""
        try:
            return Target.of_row(row, self._vault, self._policy)
        except SecretError as error:
            logs.event(log, logging.ERROR, "secret_unreadable", connector=row["id"], cause=str(error))
            return None

    def requests(self, target: Target, before: Requests | None = None) -> Requests:
        """What makes the requests; `before` are those of an earlier revision."""
        return Requests(target, self.issuer, self._clock, before)

    def connector(self, row: Any, target: Target, cursors: dict[int, Cursor]) -> Connector:
        """A connector that was just taken over."""
        failing_since: datetime | None = row["failing_since"]
        return Connector(
            row["id"],
            row["project_id"],
            row["epoch"],
            row["starts"],
            target,
            self.requests(target),
            self._pace(target, row["failures_in_a_row"]),
            Queue(cursors, self._exposed_max),
            Health(failing_since.timestamp() if failing_since else None),
            (row["backlog"], row["owed_since"]),
        )

    def configure(self, connector: Connector, target: Target) -> None:
        """Let a connector be as its row says now, from its next attempt on."""
        before = connector.target
        if target.url != before.url:
            connector.pace = self._pace(target)
        elif target.in_flight_max != before.in_flight_max:
            connector.pace.limit(self._lanes(target))
        if target.event_types != before.event_types:
            connector.unread = None
        connector.target = target
        connector.requests = self.requests(target, connector.requests)

    def _pace(self, target: Target, failures: int = 0) -> Pace:
        return Pace(self._lanes(target), failures, timeout_s=self._timeout_s)

    def _lanes(self, target: Target) -> int:
        return min(self._lanes_max, target.in_flight_max or self._lanes_max)
