"""Rules that open incidents by telemetry, as their makers keep them: owners for their own devices, vendors for all of
their models.

A rule is for a model, a project, or a space with all below it. Flushers evaluate it from the next message on (see
`workers.flusher.rules`). A rule that is switched off opens and closes nothing; one that is deleted closes what it
opened.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from msgspec import Struct

from gateway.refusals import DoesNotFit, NotFound
from gateway.stores.change import Change
from gateway.stores.tenants import projects, spaces
from gateway.stores.whose import Whose
from schemas import incidents
from schemas.postgres import Connection, Executor
from schemas.rule_evaluation import Comparison, Value

UNKNOWN = "Incident rule not found"
MODEL_UNKNOWN = "Model not found"
RULES_MAX = 1_000
TOO_MANY = f"There are at most {RULES_MAX} incident rules of one organization"

_RULE = """id, model_id, project_id, space_id, telemetry_key AS telemetry, comparison, value, duration_s, hysteresis,
           priority, title, description, enabled, created_at"""


class IncidentRule(Struct, kw_only=True):
    """A rule: of the devices of a model, of a project, or of a space and all below it; one of the three is not null.

    It holds while `telemetry` is, compared so, beyond `value`; for `duration_s` seconds without interruption it opens
    an incident, which it closes when the value is no longer beyond by more than `hysteresis`.
    """

    id: UUID
    model_id: UUID | None
    project_id: UUID | None
    space_id: UUID | None
    telemetry: str
    comparison: Comparison
    value: Value
    duration_s: int
    hysteresis: float
    priority: int
    title: str
    description: str
    enabled: bool
    created_at: datetime


async def page(
    connection: Executor,
    maker: Whose,
    *,
    project_ids: Sequence[UUID] | None = None,
    after: UUID | None,
    offset: int,
    limit: int,
) -> list[IncidentRule]:
    """The maker's rules, oldest first, from behind `after` on; or those that devices in these projects may be under."""
    rows = await connection.fetch(
        f"""SELECT {_RULE} FROM incident_rules
             WHERE organization_id = $1 AND as_vendor = $2 AND ($3::uuid IS NULL OR id > $3)
               AND ($6::uuid[] IS NULL OR model_id IS NOT NULL OR project_id = ANY($6)
                    OR space_id IN (SELECT s.id FROM spaces s WHERE s.project_id = ANY($6)))
             ORDER BY id OFFSET $4 LIMIT $5""",
        *maker,
        after,
        offset,
        limit,
        project_ids,
    )
    return [IncidentRule(**row) for row in rows]


async def read(connection: Executor, maker: Whose, rule_id: UUID) -> IncidentRule:
    """Raises NotFound for an unknown rule and for another's alike."""
    return await _read(connection, maker, rule_id, "")


async def project_of(connection: Executor, organization_id: UUID, rule_id: UUID) -> UUID | None:
    """The project that an owner's rule is for, itself or by its space; None of one for a model. Raises NotFound."""
    row = await connection.fetchrow(
        """SELECT coalesce(r.project_id, s.project_id) AS project_id
             FROM incident_rules r LEFT JOIN spaces s ON s.id = r.space_id
            WHERE r.id = $2 AND r.organization_id = $1 AND NOT r.as_vendor""",
        organization_id,
        rule_id,
    )
    if row is None:
        raise NotFound(UNKNOWN)
    project_id: UUID | None = row["project_id"]
    return project_id


async def create(change: Change, maker: Whose, rule: IncidentRule) -> IncidentRule:
    """Keep a new rule.

    Raises NotFound for what it is for, DoesNotFit when it is one too many.
    """
    connection = change.connection
    await _check_scope(connection, maker, rule)
    # Of two at once the second waits, so that the limit holds.
    await connection.execute("SELECT FROM organizations WHERE id = $1 FOR NO KEY UPDATE", maker.organization_id)
    count = await connection.fetchval(
        "SELECT count(*) FROM incident_rules WHERE organization_id = $1 AND as_vendor = $2", *maker
    )
    if count >= RULES_MAX:
        raise DoesNotFit(TOO_MANY)
    row = await connection.fetchrow(
        f"""INSERT INTO incident_rules
                   (id, organization_id, as_vendor, model_id, project_id, space_id, telemetry_key, comparison, value,
                    duration_s, hysteresis, priority, title, description, enabled, created_at)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16) RETURNING {_RULE}""",
        rule.id,
        *maker,
        rule.model_id,
        rule.project_id,
        rule.space_id,
        *_columns(rule),
        rule.created_at,
    )
    assert row is not None
    return IncidentRule(**row)


async def lock(connection: Connection, maker: Whose, rule_id: UUID) -> IncidentRule:
    """A rule that is about to change. Raises NotFound."""
    return await _read(connection, maker, rule_id, "FOR NO KEY UPDATE")


async def update(change: Change, rule: IncidentRule) -> IncidentRule:
    """Store what a locked rule says from now on; what it is for stays."""
    row = await change.connection.fetchrow(
        f"""UPDATE incident_rules SET telemetry_key = $2, comparison = $3, value = $4, duration_s = $5,
                   hysteresis = $6, priority = $7, title = $8, description = $9, enabled = $10
             WHERE id = $1 RETURNING {_RULE}""",
        rule.id,
        *_columns(rule),
    )
    assert row is not None
    return IncidentRule(**row)


async def delete(change: Change, maker: Whose, rule_id: UUID) -> None:
    """Delete a rule and close what it opened. Raises NotFound."""
    await lock(change.connection, maker, rule_id)
    await change.connection.execute("DELETE FROM incident_rules WHERE id = $1", rule_id)
    await incidents.close_of_rule(change.connection, rule_id, change.moment)


async def _read(connection: Executor, maker: Whose, rule_id: UUID, locked: str) -> IncidentRule:
    row = await connection.fetchrow(
        f"SELECT {_RULE} FROM incident_rules WHERE id = $1 AND organization_id = $2 AND as_vendor = $3 {locked}",
        rule_id,
        *maker,
    )
    if row is None:
        raise NotFound(UNKNOWN)
    return IncidentRule(**row)


def _columns(rule: IncidentRule) -> tuple[Any, ...]:
    return (
        rule.telemetry,
        rule.comparison,
        rule.value,
        rule.duration_s,
        rule.hysteresis,
        rule.priority,
        rule.title,
        rule.description,
        rule.enabled,
    )


async def _check_scope(connection: Connection, maker: Whose, rule: IncidentRule) -> None:
    """Raises NotFound unless what the rule is for is the maker's: an owner may name a model that it has devices of."""
    if rule.project_id is not None:
        await projects.read(connection, maker.organization_id, rule.project_id)
    elif rule.space_id is not None:
        await spaces.read(connection, maker.organization_id, rule.space_id)
    elif not await connection.fetchval(
        """SELECT EXISTS (SELECT FROM device_models WHERE id = $1 AND organization_id = $2)
               OR NOT $3 AND EXISTS (SELECT FROM devices
                                      WHERE model_id = $1 AND organization_id = $2 AND deleted_at IS NULL)""",
        rule.model_id,
        *maker,
    ):
        raise NotFound(MODEL_UNKNOWN)
