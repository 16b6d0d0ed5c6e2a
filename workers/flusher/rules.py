"""Rules that open incidents by what devices tell: loaded when one changes, found by the place of a device.

A rule is for a model, a project, or a space with all below it. An owner's rule of a model is for the owner's devices
alone, a vendor's for all. Which rules a device has follows from where it is, so it is worked out once for each place.
Whether rules changed is told with the models of a batch: it takes no query of its own.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple
from uuid import UUID

from schemas.postgres import Connection
from schemas.rule_evaluation import NUMBERS, Condition

PLACES_MAX = 100_000


class Rule(NamedTuple):
    """A rule, and what its incidents say."""

    id: str
    key: str
    condition: Condition
    mark: int
    title: str
    description: str
    priority: int
    enabled: bool
    below: float
    above: float
    """It does not hold for a number between the two."""

    @property
    def issue(self) -> str:
        """What its incidents are called."""
        return f"rule:{self.id}"


class RuleSet:
    """The enabled rules of a device."""

    __slots__ = ("_bounds", "_by_key", "ids")

    def __init__(self, rules: Iterable[Rule]) -> None:
        self._by_key: defaultdict[str, list[Rule]] = defaultdict(list)
        for rule in rules:
            self._by_key[rule.key].append(rule)
        self._bounds = {
            key: (max(rule.below for rule in of_key), min(rule.above for rule in of_key))
            for key, of_key in self._by_key.items()
        }
        self.ids = frozenset(rule.id for of_key in self._by_key.values() for rule in of_key)

    def __repr__(self) -> str:
        return f"<RuleSet {len(self.ids)}>"

    def may_hold(self, values: Mapping[str, Any]) -> bool:
        """Whether a rule may hold with these values; of most messages none does, and nothing else is looked at."""
        bounds = self._bounds
        try:
            for key in bounds if len(bounds) < len(values) else values:
                if key in bounds and key in values:
                    below, above = bounds[key]
                    if not below < values[key] < above:
                        return True
        except TypeError:  # no number
            return True
        return False

    def of_key(self, key: str) -> Sequence[Rule]:
        """Those about a key."""
        return self._by_key.get(key, ())


NO_RULES = RuleSet(())


class Rules:
    """All rules, as of a revision."""

    def __init__(self) -> None:
        self.by_id: dict[str, Rule] = {}
        self._revision: int | None = None
        self._of_scope: dict[UUID, list[Rule]] = {}
        """By model, project, or space; those of a space also for each space below it."""
        self._of_owner: dict[tuple[UUID, UUID], list[Rule]] = {}
        """Those of owners, by model and organization."""
        self._of_model: dict[bytes, dict[bytes, RuleSet]] = {}

    def __repr__(self) -> str:
        return f"<Rules {len(self.by_id)}>"

    async def refresh(self, connection: Connection, revision: int) -> None:
        """Read the rules anew where this is another revision."""
        if revision == self._revision:
            return
        rows = await connection.fetch(
            """SELECT id, organization_id, as_vendor, model_id, project_id, space_id, telemetry_key, comparison, value,
                      duration_s, hysteresis, title, description, priority, enabled FROM incident_rules ORDER BY id"""
        )
        below = await _spaces_below(connection) if any(row["space_id"] for row in rows) else {}
        by_id: dict[str, Rule] = {}
        of_scope: defaultdict[UUID, list[Rule]] = defaultdict(list)
        of_owner: defaultdict[tuple[UUID, UUID], list[Rule]] = defaultdict(list)
        for row in rows:
            condition = Condition(row["comparison"], row["value"], row["duration_s"], row["hysteresis"])
            said = (row["title"], row["description"], row["priority"], row["enabled"])
            rule = Rule(str(row["id"]), row["telemetry_key"], condition, condition.mark(), *said, *bounds(condition))
            by_id[rule.id] = rule
            if row["model_id"] is not None and not row["as_vendor"]:
                of_owner[row["model_id"], row["organization_id"]].append(rule)
            elif row["space_id"] is not None:
                for space_id in below.get(row["space_id"], ()):
                    of_scope[space_id].append(rule)
            else:
                of_scope[row["model_id"] or row["project_id"]].append(rule)
        self.by_id, self._of_scope, self._of_owner = by_id, of_scope, of_owner
        self._of_model = {}
        self._revision = revision

    def places(self, model_id: UUID) -> dict[bytes, RuleSet] | None:
        """What is worked out by now for the devices of a model, by the bytes of their spaces; None without any rule."""
        if not self.by_id:
            return None
        known = self._of_model.setdefault(model_id.bytes, {})
        if len(known) >= PLACES_MAX:
            known.clear()
        return known

    def of(
        self, model_id: UUID, organization_id: UUID | None, project_id: UUID | None, space_id: UUID | None
    ) -> RuleSet:
        """The rules of a device that is of this model and in this place."""
        scopes = [scope for scope in (model_id, project_id, space_id) if scope is not None]
        rules = [rule for scope in scopes for rule in self._of_scope.get(scope, ())]
        if organization_id is not None:
            rules += self._of_owner.get((model_id, organization_id), ())
        enabled = RuleSet(rule for rule in rules if rule.enabled)
        return enabled if enabled.ids else NO_RULES


def bounds(condition: Condition) -> tuple[float, float]:
    """Numbers between which a condition is not met."""
    threshold: Any = condition.value
    if condition.comparison not in NUMBERS:
        return math.inf, -math.inf  # nothing lies between: each value is looked at
    return (-math.inf, threshold) if condition.comparison in ("gt", "ge") else (threshold, math.inf)


async def _spaces_below(connection: Connection) -> dict[UUID, list[UUID]]:
    """Of each space that has rules: itself and all spaces below it."""
    rows = await connection.fetch(
        """WITH RECURSIVE below AS (
               SELECT DISTINCT space_id AS top, space_id AS id FROM incident_rules WHERE space_id IS NOT NULL
               UNION
               SELECT b.top, s.id FROM below b JOIN spaces s ON s.parent_id = b.id)
           SELECT top, array_agg(id) AS ids FROM below GROUP BY top"""
    )
    return {row["top"]: row["ids"] for row in rows}
