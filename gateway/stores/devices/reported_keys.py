"""Which telemetry keys the devices of a model report: those in the states of its newest devices.

No list of keys is kept anywhere: a device may report what it likes. The newest devices have the newest firmware, so
what they hold is what somebody who writes a rule or a mapping looks for.
"""

from collections.abc import Sequence
from typing import Any, Literal
from uuid import UUID

from gateway.stores.devices import states
from schemas.postgres import Executor

ValueType = Literal["number", "boolean", "string"]

DEVICES = 3
"""Looked at of each model."""


async def of_models(connection: Executor, model_ids: Sequence[UUID]) -> dict[UUID, dict[str, ValueType]]:
    """Keys by model, each with what its newest value is."""
    rows = await connection.fetch(
        """SELECT d.model_id, d.id, d.shard FROM unnest($1::uuid[]) AS m (id)
            CROSS JOIN LATERAL (SELECT model_id, id, shard FROM devices
                                 WHERE model_id = m.id AND deleted_at IS NULL ORDER BY id DESC LIMIT $2) d""",
        model_ids,
        DEVICES,
    )
    found = await states.read(connection, [(row["shard"], row["id"]) for row in rows])
    keys: dict[UUID, dict[str, ValueType]] = {}
    for row in rows:
        of_model = keys.setdefault(row["model_id"], {})
        for key, value in found.get(row["id"], states.NEVER_SEEN).telemetries.items():
            of_model.setdefault(key, _type(value))
    return keys


def _type(value: Any) -> ValueType:
    if isinstance(value, bool):
        return "boolean"
    return "string" if isinstance(value, str) else "number"
