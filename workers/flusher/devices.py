"""The devices of a batch: what of them decides on their messages, and their states while messages are merged in."""

import logging
from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from typing import Any

from msgspec import UNSET

from schemas import logs
from schemas.postgres import Connection
from schemas.telemetry import Telemetry
from workers import key_overlaps
from workers.flusher.messages import Message
from workers.flusher.models import ModelRules
from workers.flusher.rows import Subject
from workers.flusher.rules import NO_RULES, Rules
from workers.flusher.states import StoredState
from workers.flusher.watch import Watch

log = logging.getLogger(__name__)

MODEL_ID = 2
"""Its place in the rows that `read` gives."""


class Device(Subject):
    """A device of the batch."""

    __slots__ = (
        "_incident_rules",
        "_row",
        "_watched",
        "awaits_key",
        "check_after",
        "deleted",
        "full",
        "is_watched",
        "key_version",
        "mapping",
        "registered_at",
        "stored",
        "watch",
    )

    def __init__(self, shard: int, row: Any, state: Any, rules: ModelRules, incident_rules: Rules) -> None:
        """`state` is the row of its state, None where it has none yet."""
        device_id, project_id, model_id, self.key_version, self.deleted = row[:5]
        self.registered_at, self.full, self.awaits_key, organization_id, space_id = row[5:10]
        self._row = row
        limits, mapping, self.check_after, places = rules
        self.mapping = None if project_id is None else mapping
        Subject.__init__(self, shard, device_id, project_id, row)
        self.stored = StoredState(state, limits)
        self._incident_rules = incident_rules
        self._watched = NO_RULES
        if places is not None:
            place = b"" if space_id is None else space_id.bytes
            watched = places.get(place)
            if watched is None:
                watched = places[place] = incident_rules.of(model_id, organization_id, project_id, space_id)
            self._watched = watched
        progress = None if state is None else state["rule_states"]
        self.watch = None if progress is None else Watch(self._watched, incident_rules.by_id, progress)
        self.is_watched = progress is not None or self._watched is not NO_RULES
        """Whether rules look at its messages."""

    def __repr__(self) -> str:
        return f"<Device {self.device_id}>"

    def has_good_key(self, message: Message) -> bool:
        """Whether the key that a message was sent with was good then."""
        return message.key_version == self.key_version or key_overlaps.was_good(
            self._row, message.key_version, message.received_at
        )

    def look(self, message: Telemetry, ordered_at: datetime, *, late: bool) -> None:
        """Let rules look at a message that is about to be merged."""
        if self.watch is None:
            if message.telemetries is UNSET or not self._watched.may_hold(message.telemetries):
                return
            self.watch = Watch(self._watched, self._incident_rules.by_id, None)
        self.watch.look(message, ordered_at, self.stored, late=late)

    def needs_whole(self, telemetry: Telemetry) -> bool:
        """Whether the state must be whole before this is merged into it."""
        mapped: Collection[str] = ()
        if self.mapping is not None and telemetry.telemetries is not UNSET:
            mapped = self.mapping.read_with(telemetry.telemetries)
        return self.stored.needs_whole(telemetry, full=self.full, others=mapped)


async def read(connection: Connection, device_ids: Iterable[str]) -> dict[str, Any]:
    """The rows that devices are made of. What `Device` takes by place comes first.

    Empty JSON is none: to decode it costs more than not to send it.
    """
    rows = await connection.fetch(
        """SELECT id, project_id, model_id, key_version, deleted_at IS NOT NULL AS deleted, registered_at,
                  state_full_at IS NOT NULL AS full, previous_key_good, organization_id, space_id,
                  name, description, CASE WHEN labels::text <> '{}' THEN labels END AS labels,
                  previous_key_version, previous_key_until
             FROM devices WHERE id = ANY($1::uuid[])""",
        list(device_ids),
    )
    return {str(row[0]): row for row in rows}


async def mark_full(connection: Connection, devices: Sequence[Device], full_at: datetime | None) -> None:
    """Note since when states are full, or that they have room again. What is locked is left for the next message."""
    marked = await connection.fetch(
        """UPDATE devices d SET state_full_at = $2
             FROM (SELECT id FROM devices WHERE id = ANY($1::uuid[]) FOR NO KEY UPDATE SKIP LOCKED) AS free
            WHERE d.id = free.id RETURNING d.id""",
        [device.device_id for device in devices],
        full_at,
    )
    for row in marked:
        if full_at is None:
            logs.event(log, logging.INFO, "state_has_room", device=str(row["id"]))
        else:
            logs.event(log, logging.WARNING, "state_full", device=str(row["id"]))
