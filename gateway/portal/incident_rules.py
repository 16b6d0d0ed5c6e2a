"""Rules that open incidents by themselves: made, tried over what a device told, switched off and on, deleted."""

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

import msgspec
from msgspec import Meta, Struct
from starlette.responses import Response

from gateway.api.callers.api_keys import BOTH
from gateway.api.paging import PageQuery
from gateway.api.scopes import FleetScope, SideScope
from gateway.api.validation import Name, Text
from gateway.organization import incident_rules
from gateway.organization.incident_rules import (
    Duration,
    Hysteresis,
    Key,
    NewOwnersRule,
    NewVendorsRule,
    RuleChange,
    RuleToTry,
)
from gateway.permissions import Permission
from gateway.portal import spaces_offered
from gateway.portal.forms import DoesNotFitFields, Form
from gateway.portal.page import page
from gateway.portal.rendering import View, redirect
from gateway.portal.sides import base, models_of, shown
from gateway.services import Services
from gateway.stores.incidents.dry_runs import RuleTrial
from gateway.stores.incidents.rules import IncidentRule
from gateway.stores.tenants import projects
from schemas.ids import uuid_of
from schemas.incidents import PRIORITIES, PRIORITY
from schemas.rule_evaluation import Comparison

PATH = "/rules"
ONE = f"{PATH}/{{rule_id}}"
COMPARISONS = (
    ("gt", "is above"), ("ge", "is at least"), ("lt", "is below"), ("le", "is at most"), ("eq", "is"), ("ne", "is not"),
)  # fmt: skip
OWNERS, VENDORS = ("model", "project", "space"), ("model",)
"""What a rule may be for."""
WHOSE = "Choose the devices that it is for"
WHICH_DEVICE = "Choose the device whose history it is tried over"
DRAWN = 1000
"""Width of the drawing of a trial."""


class Rule(Struct, kw_only=True):
    """A rule as its form says it; its value is a text, of which what looks like a number, true or false is one."""

    telemetry: Key
    comparison: Comparison
    value: Annotated[str, Meta(min_length=1, max_length=1000)]
    duration_s: Duration = 0
    hysteresis: Hysteresis = 0.0
    title: Name
    description: Text = ""
    priority: int = PRIORITY
    target: str = ""
    """Whose devices it is for: `model`, `project` or `space`, and which one."""
    rule_id: UUID | None = None
    """Which rule it is that is tried, of one that is there."""
    device_id: UUID | None = None
    """Whose history it is tried over."""

    def terms(self) -> dict[str, Any]:
        """When it holds, as the API is told."""
        names = ("telemetry", "comparison", "duration_s", "hysteresis")
        return {name: getattr(self, name) for name in names} | {"value": _value(self.value)}


class Stretch(Struct):
    """An incident of a trial, as it is drawn."""

    begin: float
    width: float
    opened_at: datetime
    closed_at: datetime | None


class Switch(Struct):
    """Whether a rule counts."""

    enabled: bool


@page("GET", PATH, doors=BOTH, permission=Permission.READ)
async def list_rules(services: Services, side: SideScope, query: PageQuery) -> View:
    """The rules."""
    values = {
        "rules": await incident_rules.list_rules(services, side, query),
        "models": await models_of(services, side),
        "comparisons": dict(COMPARISONS),
        "priorities": PRIORITIES,
    }
    return View("incident_rules.html", values | shown(side, "fleet"))


@page("GET", f"{PATH}/new", doors=BOTH, permission=Permission.DEVELOP)
async def editor(services: Services, side: SideScope, form: Form) -> View:
    """The form of a rule."""
    return await _editor(services, side, form)


@page("POST", PATH, doors=BOTH, permission=Permission.DEVELOP, shown_by=editor)
async def create_rule(services: Services, side: SideScope, body: Rule) -> Response:
    """Make a rule."""
    kind, _, target = body.target.partition(" ")
    if kind not in (VENDORS if side.as_vendor else OWNERS):
        raise DoesNotFitFields({"target": WHOSE})
    target_id = uuid_of(target)
    if kind == "space" and target_id is not None:
        whole = await side.at(services, target_id)
    elif kind == "project":
        whole = side.within(target_id, projects.UNKNOWN)
    else:
        whole = side.whole()
    texts: dict[str, Any] = {"title": body.title, "description": body.description, "priority": body.priority}
    whose: dict[str, Any] = {f"{kind}_id": target_id}
    made = NewVendorsRule if side.as_vendor else NewOwnersRule
    await incident_rules.create_rule(services, whole, made(**whose, **texts, **body.terms()))
    return redirect(services, base(side) + PATH, said=f"{body.title}: counts from the next message of each device on")


@page("POST", f"{PATH}/try", doors=BOTH, permission=Permission.DEVELOP, shown_by=editor)
async def try_rule(services: Services, side: SideScope, body: Rule) -> View:
    """Tell what a rule would have done; nothing is changed."""
    if body.device_id is None:
        raise DoesNotFitFields({"device_id": WHICH_DEVICE})
    await side.over(services, body.device_id)
    terms = RuleToTry(
        device_id=body.device_id, since=str(int(services.clock().timestamp()) - 7 * 86_400), **body.terms()
    )
    trial = await incident_rules.try_rule(services, side, terms)
    said = {name: [str(value)] for name, value in msgspec.structs.asdict(body).items() if value is not None}
    rule = None if body.rule_id is None else await _changeable(services, side, body.rule_id)
    return await _editor(services, side, Form("try_rule", said), trial, rule)


@page("GET", ONE, doors=BOTH, permission=Permission.DEVELOP)
async def edit_rule(services: Services, side: SideScope, rule_id: UUID, form: Form) -> View:
    """The form of a rule that is there."""
    return await _editor(services, side, form, rule=await _changeable(services, side, rule_id))


@page("POST", ONE, doors=BOTH, permission=Permission.DEVELOP, shown_by=edit_rule)
async def change_rule(services: Services, side: SideScope, rule_id: UUID, body: Rule) -> Response:
    """Change what a rule holds for; whose devices it is for stays."""
    whole = await side.over_rule(services, rule_id)
    texts: dict[str, Any] = {"title": body.title, "description": body.description, "priority": body.priority}
    await incident_rules.change_rule(services, whole, rule_id, RuleChange(**texts, **body.terms()))
    return redirect(
        services, base(side) + PATH, said=f"{body.title} is changed, from the next message of each device on"
    )


@page("POST", f"{ONE}/switch", doors=BOTH, permission=Permission.DEVELOP)
async def switch(services: Services, side: SideScope, rule_id: UUID, body: Switch) -> Response:
    """Let a rule count, or not."""
    whole = await side.over_rule(services, rule_id)
    rule = await incident_rules.change_rule(services, whole, rule_id, RuleChange(enabled=body.enabled))
    return redirect(services, base(side) + PATH, said=f"{rule.title} is {'on' if rule.enabled else 'off'}")


@page("POST", f"{ONE}/delete", doors=BOTH, permission=Permission.DEVELOP)
async def delete_rule(services: Services, side: SideScope, rule_id: UUID) -> Response:
    """Delete a rule, and close what it opened."""
    whole = await side.over_rule(services, rule_id)
    await incident_rules.delete_rule(services, whole, rule_id)
    return redirect(services, base(side) + PATH, said="The rule is deleted, and what it opened is closed")


async def _changeable(services: Services, side: SideScope, rule_id: UUID) -> IncidentRule:
    return await incident_rules.read_rule(services, await side.over_rule(services, rule_id), rule_id)


async def _editor(
    services: Services,
    side: SideScope,
    form: Form,
    trial: RuleTrial | None = None,
    rule: IncidentRule | None = None,
) -> View:
    values = {
        "entry": form if form.name in ("create_rule", "try_rule", "change_rule") else Form("create_rule"),
        "rule": rule,
        "targets": await _targets(services, side),
        "comparisons": COMPARISONS,
        "priorities": list(enumerate(PRIORITIES, start=1)),
        "trial": trial,
        "drawn": DRAWN,
        "stretches": [] if trial is None else _stretches(trial, services.clock()),
    }
    return View("incident_rule.html", values | shown(side, "fleet"))


async def _targets(services: Services, side: SideScope) -> list[tuple[str, str]]:
    """Whose devices a rule of this person's may be for."""
    targets: list[tuple[str, str]] = []
    if isinstance(side, FleetScope):
        spaces = await spaces_offered.options(services, side)
        targets += [(f"space {space_id}", f"Space {path}") for space_id, path in spaces]
        targets += [
            (f"project {project.id}", f"Project {project.name}")
            for project in await projects.listed(services.postgres, side.id)
            if side.project_ids is None or project.id in side.project_ids
        ]
    offered = await models_of(services, side)
    return [*targets, *((f"model {model_id}", f"Model {name}") for model_id, name in offered.items())]


def _stretches(trial: RuleTrial, until: datetime) -> list[Stretch]:
    """The incidents of a trial along the time that it looked at."""
    whole = (until - trial.since).total_seconds() or 1.0
    stretches = []
    for one in trial.incidents:
        begin = (one.opened_at - trial.since).total_seconds() / whole * DRAWN
        end = ((one.closed_at or until) - trial.since).total_seconds() / whole * DRAWN
        stretches.append(Stretch(round(begin, 1), round(max(end - begin, 2), 1), one.opened_at, one.closed_at))
    return stretches


def _value(text: str) -> Any:
    try:
        value = msgspec.json.decode(text)
    except msgspec.DecodeError:
        return text
    return value if isinstance(value, bool | int | float) else text


PAGES = (list_rules, editor, create_rule, try_rule, edit_rule, change_rule, switch, delete_rule)
