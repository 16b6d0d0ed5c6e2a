"""What a flusher must know of the models of a batch's devices: how much a state holds, and what is mapped to events."""

import logging
from collections.abc import Iterable
from datetime import timedelta
from typing import NamedTuple
from uuid import UUID

import msgspec

from schemas import logs, mappings
from schemas.mappings import EventMapping, MappingError
from schemas.postgres import Connection
from workers.flusher.rules import Rules, RuleSet
from workers.flusher.states import Limits
from workers.offline_incidents import CHECK_MAX

log = logging.getLogger(__name__)

PARSED_MAX = 10_000
_MICROSECOND = timedelta(microseconds=1)


class ModelRules(NamedTuple):
    """The rules of one model."""

    limits: Limits
    mapping: EventMapping | None
    check_after: int
    """The silence in µs after which the offline sweep looks at a device."""
    places: dict[bytes, RuleSet] | None
    """Which rules that open incidents its devices have (see `Rules.places`)."""


class Models:
    """Reads the rules of models; mappings are parsed once while they stay the same."""

    def __init__(self, limits: Limits) -> None:
        self.incident_rules = Rules()
        """As of the last call of `of`."""
        self._limits = limits
        self._parsed: dict[tuple[str, str], EventMapping | None] = {}

    def __repr__(self) -> str:
        return f"<Models parsed={len(self._parsed)}>"

    async def of(self, connection: Connection, model_ids: Iterable[UUID]) -> dict[bytes, ModelRules]:
        """The rules of these models, by the bytes of their ids, whose hashes cost less."""
        rows = await connection.fetch(
            """SELECT id, device_type, event_mappings::text AS mapping, state_keys_max, state_bytes_max,
                      offline_threshold_s, (SELECT revision FROM incident_rules_revision) AS rules_revision
                 FROM device_models WHERE id = ANY($1::uuid[])""",
            list(model_ids),
        )
        if rows:
            await self.incident_rules.refresh(connection, rows[0]["rules_revision"])
        return {
            row["id"].bytes: ModelRules(
                Limits(row["state_keys_max"] or self._limits.keys, row["state_bytes_max"] or self._limits.bytes),
                None if row["mapping"] == "{}" else self._parse(row["device_type"], row["mapping"]),
                min(row["offline_threshold_s"] * 1_000_000, CHECK_MAX // _MICROSECOND),
                self.incident_rules.places(row["id"]),
            )
            for row in rows
        }

    def _parse(self, device_type: str, text: str) -> EventMapping | None:
        key = (device_type, text)
        if key not in self._parsed:
            if len(self._parsed) >= PARSED_MAX:
                self._parsed.clear()
            try:
                self._parsed[key] = mappings.parse(device_type, msgspec.json.decode(text))
            except MappingError as error:
                logs.event(log, logging.ERROR, "mapping_ignored", mapping=text, cause=str(error))
                self._parsed[key] = None
        return self._parsed[key]
