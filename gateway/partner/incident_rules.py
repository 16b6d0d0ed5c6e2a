"""Rules of the partner that open incidents of all devices of its models, whoever owns them."""

from uuid import UUID

from gateway.api.callers.api_keys import PARTNER_KEY
from gateway.api.endpoint import Success, endpoint
from gateway.api.paging import Page, PageQuery
from gateway.api.scopes import VendorScope
from gateway.organization.histories import RangeQuery
from gateway.organization.incident_rules import (
    UNKNOWN,
    RuleChange,
    RuleText,
    RuleToTry,
    changed_rule,
    condition_of,
    rule_of,
    rule_page,
)
from gateway.permissions import Permission
from gateway.services import Services
from gateway.stores.change import change
from gateway.stores.devices import locking
from gateway.stores.events import telemetry_history
from gateway.stores.events.examining import Part, Range
from gateway.stores.events.telemetry_history import ListedMessage
from gateway.stores.incidents import dry_runs, rules
from gateway.stores.incidents.dry_runs import RuleTrial
from gateway.stores.incidents.rules import IncidentRule, Maker

RULES = "/core/v1/partner/incident_rules"


class NewVendorsRule(RuleText, kw_only=True):
    """A rule for all devices of one of the partner's models."""

    model_id: UUID


@endpoint("GET", RULES, caller=PARTNER_KEY, permission=Permission.READ)
async def list_rules(services: Services, partner: VendorScope, query: PageQuery) -> Page[IncidentRule]:
    """List the partner's incident rules, oldest first."""
    return await rule_page(services, Maker(partner.id, as_vendor=True), query)


@endpoint(
    "POST",
    RULES,
    caller=PARTNER_KEY,
    permission=Permission.DEVELOP,
    status=201,
    errors={404: "Model not found."},
)
async def create_rule(services: Services, partner: VendorScope, body: NewVendorsRule) -> IncidentRule:
    """Make an incident rule; it counts from the next message of each device on."""
    async with change(services) as changed:
        rule = rule_of(body, changed.moment, body.model_id)
        return await rules.create(changed, Maker(partner.id, as_vendor=True), rule)


@endpoint("GET", f"{RULES}/{{rule_id}}", caller=PARTNER_KEY, permission=Permission.READ, errors=UNKNOWN)
async def read_rule(services: Services, partner: VendorScope, rule_id: UUID) -> IncidentRule:
    """Read one incident rule."""
    return await rules.read(services.postgres, Maker(partner.id, as_vendor=True), rule_id)


@endpoint("PATCH", f"{RULES}/{{rule_id}}", caller=PARTNER_KEY, permission=Permission.DEVELOP, errors=UNKNOWN)
async def change_rule(services: Services, partner: VendorScope, rule_id: UUID, body: RuleChange) -> IncidentRule:
    """Change an incident rule; what it opened stays open until its new terms release it."""
    return await changed_rule(services, Maker(partner.id, as_vendor=True), rule_id, body)


@endpoint("DELETE", f"{RULES}/{{rule_id}}", caller=PARTNER_KEY, permission=Permission.DEVELOP, errors=UNKNOWN)
async def delete_rule(services: Services, partner: VendorScope, rule_id: UUID) -> Success:
    """Delete an incident rule, and close what it opened."""
    async with change(services) as changed:
        await rules.delete(changed, Maker(partner.id, as_vendor=True), rule_id)
    return Success()


@endpoint(
    "POST",
    f"{RULES}/dry_run",
    caller=PARTNER_KEY,
    permission=Permission.DEVELOP,
    errors={404: "Device not found."},
    audited=False,
)
async def try_rule(services: Services, partner: VendorScope, body: RuleToTry) -> RuleTrial:
    """Tell which incidents a rule would have opened and closed by what a device told; nothing is changed."""
    since, until = RangeQuery(since=body.since, until=body.until).range(services.clock())
    condition = condition_of(body)
    await locking.check_of_vendor(services.postgres, partner.id, body.device_id)

    async def read(within: Range, limit: int) -> Part[ListedMessage]:
        return await telemetry_history.page_of_devices(
            services.log, services.shards, [body.device_id], within, offset=0, limit=limit
        )

    return await dry_runs.run(read, body.telemetry, condition, since, until)


ENDPOINTS = (list_rules, create_rule, try_rule, read_rule, change_rule, delete_rule)
