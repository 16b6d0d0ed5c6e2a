"""Rules that open incidents by themselves: made, tried over what a device told, switched off and on, deleted."""

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

import msgspec
from msgspec import Meta, Struct
from starlette.responses import Response

from gateway.api.paging import PageQuery
from gateway.api.scopes import OrganizationScope
from gateway.api.validation import Name, Text
from gateway.organization import incident_rules, models
from gateway.organization.incident_rules import Duration, Hysteresis, Key, NewOwnersRule, RuleChange, RuleToTry
from gateway.organization.models import ModelsQuery
from gateway.permissions import Permission
from gateway.portal.forms import DoesNotFitFields, Form
from gateway.portal.page import page
from gateway.portal.rendering import View, redirect
from gateway.services import Services
from gateway.stores.incidents.dry_runs import RuleTrial
from schemas.incidents import PRIORITIES, PRIORITY
from schemas.rule_evaluation import Comparison

PATH = "/rules"
ONE = f"{PATH}/{{rule_id}}"
COMPARISONS = (
    ("gt", "is above"), ("ge", "is at least"), ("lt", "is below"), ("le", "is at most"), ("eq", "is"), ("ne", "is not"),
)  # fmt: skip
OFFERED = ModelsQuery(per_page=100)
WHOSE = "Choose the devices that it is for: those of a model"
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
    model_id: UUID | None = None
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


@page("GET", PATH, permission=Permission.READ)
async def list_rules(services: Services, organization: OrganizationScope, query: PageQuery) -> View:
    """The rules."""
    found = await incident_rules.list_rules(services, organization, query)
    return View("incident_rules.html", {"rules": found, "comparisons": dict(COMPARISONS), "priorities": PRIORITIES})


@page("GET", f"{PATH}/new", permission=Permission.DEVELOP)
async def editor(services: Services, organization: OrganizationScope, form: Form) -> View:
    """The form of a rule."""
    return await _editor(services, organization, form)


@page("POST", PATH, permission=Permission.DEVELOP, shown_by=editor)
async def create_rule(services: Services, organization: OrganizationScope, body: Rule) -> Response:
    """Make a rule."""
    if body.model_id is None:
        raise DoesNotFitFields({"model_id": WHOSE})
    texts: dict[str, Any] = {"title": body.title, "description": body.description, "priority": body.priority}
    new = NewOwnersRule(model_id=body.model_id, **texts, **body.terms())
    await incident_rules.create_rule(services, organization, new)
    return redirect(services, PATH, said=f"{body.title}: counts from the next message of each device on")


@page("POST", f"{PATH}/try", permission=Permission.DEVELOP, shown_by=editor)
async def try_rule(services: Services, organization: OrganizationScope, body: Rule) -> View:
    """Tell what a rule would have done; nothing is changed."""
    if body.device_id is None:
        raise DoesNotFitFields({"device_id": WHICH_DEVICE})
    terms = RuleToTry(
        device_id=body.device_id, since=str(int(services.clock().timestamp()) - 7 * 86_400), **body.terms()
    )
    trial = await incident_rules.try_rule(services, organization, terms)
    said = {name: [str(value)] for name, value in msgspec.structs.asdict(body).items() if value is not None}
    return await _editor(services, organization, Form("try_rule", said), trial)


@page("POST", f"{ONE}/switch", permission=Permission.DEVELOP)
async def switch(services: Services, organization: OrganizationScope, rule_id: UUID, body: Switch) -> Response:
    """Let a rule count, or not."""
    rule = await incident_rules.change_rule(services, organization, rule_id, RuleChange(enabled=body.enabled))
    return redirect(services, PATH, said=f"{rule.title} is {'on' if rule.enabled else 'off'}")


@page("POST", f"{ONE}/delete", permission=Permission.DEVELOP)
async def delete_rule(services: Services, organization: OrganizationScope, rule_id: UUID) -> Response:
    """Delete a rule, and close what it opened."""
    await incident_rules.delete_rule(services, organization, rule_id)
    return redirect(services, PATH, said="The rule is deleted, and what it opened is closed")


async def _editor(
    services: Services, organization: OrganizationScope, form: Form, trial: RuleTrial | None = None
) -> View:
    found = await models.list_models(services, organization, OFFERED)
    values = {
        "entry": form if form.name in ("create_rule", "try_rule") else Form("create_rule"),
        "models": [(str(model.id), f"{model.vendor} {model.name}") for model in found.items],
        "comparisons": COMPARISONS,
        "priorities": list(enumerate(PRIORITIES, start=1)),
        "trial": trial,
        "drawn": DRAWN,
        "stretches": [] if trial is None else _stretches(trial, services.clock()),
    }
    return View("incident_rule.html", values)


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


PAGES = (list_rules, editor, create_rule, try_rule, switch, delete_rule)
