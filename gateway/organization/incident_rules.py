"""Rules of the owner that open incidents of its devices by what they tell."""

import math
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated
from uuid import UUID

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType, field

from gateway.api import paging
from gateway.api.callers.api_keys import ORGANIZATION_KEY
from gateway.api.endpoint import Success, endpoint
from gateway.api.paging import Page, PageQuery, Window
from gateway.api.scopes import FleetScope, OrganizationScope
from gateway.api.validation import Name, Text, check_priority
from gateway.organization.histories import Moment, RangeQuery
from gateway.permissions import Permission
from gateway.refusals import DoesNotFit
from gateway.services import Services
from gateway.stores.change import change
from gateway.stores.devices import owner_view
from gateway.stores.events import telemetry_history
from gateway.stores.events.examining import Part, Range
from gateway.stores.events.telemetry_history import ListedMessage
from gateway.stores.incidents import dry_runs, rules
from gateway.stores.incidents.dry_runs import RuleTrial
from gateway.stores.incidents.rules import IncidentRule, Maker
from schemas import ids
from schemas.incidents import PRIORITY
from schemas.rule_evaluation import NUMBERS, Comparison, Condition
from schemas.telemetry import INTEGER_MAX, INTEGER_MIN, KEY_CHARACTERS_MAX, STRING_BYTES_MAX

RULES = "/core/v1/organization/incident_rules"
UNKNOWN = {404: "Incident rule not found."}
DURATION_S_MAX = 30 * 86_400

Key = Annotated[str, Meta(min_length=1, max_length=KEY_CHARACTERS_MAX, examples=["disk"])]
Threshold = (
    Annotated[int, Meta(ge=INTEGER_MIN, le=INTEGER_MAX)]
    | float
    | bool
    | Annotated[str, Meta(max_length=STRING_BYTES_MAX)]
)
Duration = Annotated[int, Meta(ge=0, le=DURATION_S_MAX, description="Seconds.")]
Hysteresis = Annotated[float, Meta(ge=0)]


class RuleTerms(Struct, kw_only=True):
    """When it holds: the value of a telemetry key is compared with `value`, and is beyond it for `duration_s`.

    `gt, ge, lt, le` compare numbers, `eq, ne` values of any kind; a value of another kind tells nothing.
    """

    telemetry: Key
    comparison: Comparison
    value: Annotated[Threshold, Meta(examples=[90])]
    duration_s: Duration = 0
    hysteresis: Hysteresis = 0.0


class RuleText(RuleTerms, kw_only=True):
    """When a rule holds, and what the incidents that it opens say. `priority` goes from 1, critical, to 5, planning."""

    title: Annotated[Name, Meta(examples=["Disk is nearly full"])]
    description: Text = ""
    priority: Annotated[int, Meta(examples=[PRIORITY])] = PRIORITY
    enabled: bool = True


class NewOwnersRule(RuleText, kw_only=True):
    """A rule, for the owner's devices of a model, in a project, or in a space and all below it: give one of these."""

    model_id: UUID | None = None
    project_id: UUID | None = None
    space_id: UUID | None = None


class RuleChange(Struct, kw_only=True):
    """What changes of a rule; members that are absent stay. What it is for cannot be changed."""

    telemetry: Key | UnsetType = UNSET
    comparison: Comparison | UnsetType = UNSET
    value: Threshold | UnsetType = UNSET
    duration_s: Duration | UnsetType = UNSET
    hysteresis: Hysteresis | UnsetType = UNSET
    title: Name | UnsetType = UNSET
    description: Text | UnsetType = UNSET
    priority: int | UnsetType = UNSET
    enabled: bool | UnsetType = UNSET


class RuleToTry(RuleTerms, kw_only=True):
    """Terms to try with what a device told in a time range: at most 31 days, by default the last day."""

    device_id: UUID
    since: Moment | None = field(default=None, name="from")
    until: Moment | None = field(default=None, name="to")


@endpoint("GET", RULES, caller=ORGANIZATION_KEY, permission=Permission.READ)
async def list_rules(services: Services, fleet: FleetScope, query: PageQuery) -> Page[IncidentRule]:
    """List the organization's incident rules, oldest first."""
    return await rule_page(services, Maker(fleet.id, as_vendor=False), query, fleet.project_ids)


@endpoint(
    "POST",
    RULES,
    caller=ORGANIZATION_KEY,
    permission=Permission.DEVELOP,
    status=201,
    errors={404: "Model, project or space not found."},
)
async def create_rule(services: Services, organization: OrganizationScope, body: NewOwnersRule) -> IncidentRule:
    """Make an incident rule; it counts from the next message of each device on."""
    if [body.model_id, body.project_id, body.space_id].count(None) != 2:
        raise DoesNotFit("Give one of model id, project id and space id")
    async with change(services) as changed:
        rule = rule_of(body, changed.moment, body.model_id, body.project_id, body.space_id)
        return await rules.create(changed, Maker(organization.id, as_vendor=False), rule)


@endpoint("GET", f"{RULES}/{{rule_id}}", caller=ORGANIZATION_KEY, permission=Permission.READ, errors=UNKNOWN)
async def read_rule(services: Services, organization: OrganizationScope, rule_id: UUID) -> IncidentRule:
    """Read one incident rule."""
    return await rules.read(services.postgres, Maker(organization.id, as_vendor=False), rule_id)


@endpoint("PATCH", f"{RULES}/{{rule_id}}", caller=ORGANIZATION_KEY, permission=Permission.DEVELOP, errors=UNKNOWN)
async def change_rule(
    services: Services, organization: OrganizationScope, rule_id: UUID, body: RuleChange
) -> IncidentRule:
    """Change an incident rule; what it opened stays open until its new terms release it."""
    return await changed_rule(services, Maker(organization.id, as_vendor=False), rule_id, body)


@endpoint("DELETE", f"{RULES}/{{rule_id}}", caller=ORGANIZATION_KEY, permission=Permission.DEVELOP, errors=UNKNOWN)
async def delete_rule(services: Services, organization: OrganizationScope, rule_id: UUID) -> Success:
    """Delete an incident rule, and close what it opened."""
    async with change(services) as changed:
        await rules.delete(changed, Maker(organization.id, as_vendor=False), rule_id)
    return Success()


@endpoint(
    "POST",
    f"{RULES}/dry_run",
    audited=False,
    caller=ORGANIZATION_KEY,
    permission=Permission.DEVELOP,
    errors={404: "Device not found."},
)
async def try_rule(services: Services, fleet: FleetScope, body: RuleToTry) -> RuleTrial:
    """Tell which incidents a rule would have opened and closed by what a device told; nothing is changed."""
    since, until = RangeQuery(since=body.since, until=body.until).range(services.clock())
    condition = condition_of(body)
    await owner_view.ever_owned(services.postgres, fleet.id, body.device_id)
    project_ids = await fleet.projects(services)

    async def read(within: Range, limit: int) -> Part[ListedMessage]:
        return await telemetry_history.page(
            services.log,
            services.shards,
            project_ids,
            within,
            device_id=body.device_id,
            space_id=None,
            name=None,
            status=None,
            offset=0,
            limit=limit,
        )

    return await dry_runs.run(read, body.telemetry, condition, since, until)


async def rule_page(
    services: Services, maker: Maker, query: PageQuery, project_ids: Sequence[UUID] | None = None
) -> Page[IncidentRule]:
    """A page of the rules of an organization, as owner or as vendor; where given, for these projects."""

    async def read(window: Window) -> list[IncidentRule]:
        after = None if window.after is None else UUID(str(window.after[0]))
        return await rules.page(
            services.postgres, maker, project_ids=project_ids, after=after, offset=window.offset, limit=window.limit
        )

    scope = ("incident rules", *maker, project_ids)
    return await paging.read_page(
        services, scope, query.page, query.per_page, read, boundary=lambda rule: [str(rule.id)]
    )


async def changed_rule(services: Services, maker: Maker, rule_id: UUID, body: RuleChange) -> IncidentRule:
    """A rule after a change. Raises NotFound, or DoesNotFit when its terms do not go together."""
    changes = {name: value for name, value in msgspec.structs.asdict(body).items() if value is not UNSET}
    async with change(services) as changed:
        was = await rules.lock(changed.connection, maker, rule_id)
        rule = msgspec.structs.replace(was, **changes)
        condition_of(rule)
        check_priority(rule.priority)
        return await rules.update(changed, rule)


def rule_of(
    body: RuleText,
    moment: datetime,
    model_id: UUID | None,
    project_id: UUID | None = None,
    space_id: UUID | None = None,
) -> IncidentRule:
    """The rule that a body describes. Raises DoesNotFit when its terms do not go together."""
    condition_of(body)
    check_priority(body.priority)
    scope = {"model_id": model_id, "project_id": project_id, "space_id": space_id}
    return IncidentRule(id=ids.new_id(), created_at=moment, **(msgspec.structs.asdict(body) | scope))


def condition_of(terms: RuleTerms | IncidentRule) -> Condition:
    """The condition that terms mean. Raises DoesNotFit when they do not go together."""
    if terms.comparison in NUMBERS:
        if isinstance(terms.value, bool | str):
            raise DoesNotFit(f"Value must be a number for the comparison {terms.comparison}")
    elif terms.hysteresis:
        raise DoesNotFit(f"Hysteresis must be 0 for the comparison {terms.comparison}")
    if isinstance(terms.value, str) and len(terms.value.encode()) > STRING_BYTES_MAX:
        raise DoesNotFit(f"Value must be at most {STRING_BYTES_MAX} bytes")
    if not math.isfinite(terms.hysteresis):
        raise DoesNotFit("Hysteresis must be a finite number")
    return Condition(terms.comparison, terms.value, terms.duration_s, terms.hysteresis)


ENDPOINTS = (list_rules, create_rule, try_rule, read_rule, change_rule, delete_rule)
