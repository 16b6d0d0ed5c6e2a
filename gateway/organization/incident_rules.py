"""Rules that open incidents of devices by what they tell: an owner's, or all those of a vendor's models."""

import math
from typing import Annotated, Any
from uuid import UUID

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType, field

from gateway.api import paging
from gateway.api.callers.api_keys import BOTH, OWNER, VENDOR
from gateway.api.endpoint import Success, endpoint
from gateway.api.paging import Page, PageQuery, Window
from gateway.api.scopes import SideScope, WholeScope
from gateway.api.validation import Name, Text, check_priority
from gateway.organization.histories import Moment, RangeQuery
from gateway.permissions import Permission
from gateway.refusals import DoesNotFit
from gateway.services import Services
from gateway.stores.change import change
from gateway.stores.devices import locking, owner_view
from gateway.stores.events import telemetry_history
from gateway.stores.events.examining import Part, Range
from gateway.stores.events.telemetry_history import ListedMessage
from gateway.stores.incidents import dry_runs, rules
from gateway.stores.incidents.dry_runs import RuleTrial
from gateway.stores.incidents.rules import IncidentRule
from schemas import ids
from schemas.incidents import PRIORITY
from schemas.rule_evaluation import NUMBERS, Comparison, Condition
from schemas.telemetry import INTEGER_MAX, INTEGER_MIN, KEY_CHARACTERS_MAX, STRING_BYTES_MAX

PATH = "/incident_rules"
ONE = f"{PATH}/{{rule_id}}"
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


class NewVendorsRule(RuleText, kw_only=True):
    """A rule for all devices of one of the partner's models."""

    model_id: UUID


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


@endpoint("GET", PATH, doors=BOTH, permission=Permission.READ)
async def list_rules(services: Services, side: SideScope, query: PageQuery) -> Page[IncidentRule]:
    """List incident rules, oldest first."""

    async def read(window: Window) -> list[IncidentRule]:
        return await rules.page(
            services.postgres,
            side.whose,
            project_ids=side.project_ids,
            after=None if window.after is None else UUID(str(window.after[0])),
            offset=window.offset,
            limit=window.limit,
        )

    scope = ("incident rules", *side.whose, side.project_ids)
    return await paging.read_page(services, scope, query.page, query.per_page, read, lambda one: [str(one.id)])


@endpoint(
    "POST",
    PATH,
    doors=(
        OWNER.but(body=NewOwnersRule, errors={404: "Model, project or space not found."}),
        VENDOR.but(body=NewVendorsRule, errors={404: "Model not found."}),
    ),
    permission=Permission.DEVELOP,
    status=201,
)
async def create_rule(services: Services, side: WholeScope, body: RuleText) -> IncidentRule:
    """Make an incident rule; it counts from the next message of each device on."""
    given: dict[str, Any] = {"model_id": None, "project_id": None, "space_id": None} | msgspec.structs.asdict(body)
    if [given["model_id"], given["project_id"], given["space_id"]].count(None) != 2:
        raise DoesNotFit("Give one of model id, project id and space id")
    condition_of(body)
    check_priority(body.priority)
    async with change(services) as changed:
        rule = IncidentRule(id=ids.new_id(), created_at=changed.moment, **given)
        return await rules.create(changed, side.whose, rule)


@endpoint("GET", ONE, doors=BOTH, permission=Permission.READ, errors=UNKNOWN)
async def read_rule(services: Services, side: WholeScope, rule_id: UUID) -> IncidentRule:
    """Read one incident rule."""
    return await rules.read(services.postgres, side.whose, rule_id)


@endpoint("PATCH", ONE, doors=BOTH, permission=Permission.DEVELOP, errors=UNKNOWN)
async def change_rule(services: Services, side: WholeScope, rule_id: UUID, body: RuleChange) -> IncidentRule:
    """Change an incident rule; what it opened stays open until its new terms release it."""
    changes = {name: value for name, value in msgspec.structs.asdict(body).items() if value is not UNSET}
    async with change(services) as changed:
        was = await rules.lock(changed.connection, side.whose, rule_id)
        rule = msgspec.structs.replace(was, **changes)
        condition_of(rule)
        check_priority(rule.priority)
        return await rules.update(changed, rule)


@endpoint("DELETE", ONE, doors=BOTH, permission=Permission.DEVELOP, errors=UNKNOWN)
async def delete_rule(services: Services, side: WholeScope, rule_id: UUID) -> Success:
    """Delete an incident rule, and close what it opened."""
    async with change(services) as changed:
        await rules.delete(changed, side.whose, rule_id)
    return Success()


@endpoint(
    "POST",
    f"{PATH}/dry_run",
    doors=BOTH,
    permission=Permission.DEVELOP,
    errors={404: "Device not found."},
    audited=False,
)
async def try_rule(services: Services, side: SideScope, body: RuleToTry) -> RuleTrial:
    """Tell which incidents a rule would have opened and closed by what a device told; nothing is changed."""
    since, until = RangeQuery(since=body.since, until=body.until).range(services.clock())
    condition = condition_of(body)
    of_side = locking.check_of_vendor if side.as_vendor else owner_view.ever_owned
    await of_side(services.postgres, side.id, body.device_id)
    project_ids = None if side.as_vendor else await side.projects(services)

    async def read(within: Range, limit: int) -> Part[ListedMessage]:
        return await telemetry_history.page_of_devices(
            services.log, services.shards, [body.device_id], within, project_ids=project_ids, offset=0, limit=limit
        )

    return await dry_runs.run(read, body.telemetry, condition, since, until)


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
