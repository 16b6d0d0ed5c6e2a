"""Pages that owner and vendor both have: where they lie, and what their templates know of the side."""

from typing import Any, Literal

from gateway.api.callers.api_keys import OWNER, VENDOR
from gateway.api.scopes import SideScope
from gateway.services import Services
from gateway.stores import models

MODELS_OFFERED = 100


def base(side: SideScope) -> str:
    """What the paths of this side's pages begin with."""
    return VENDOR.pages if side.as_vendor else OWNER.pages


def shown(side: SideScope, as_owner: Literal["fleet", "organization"]) -> dict[str, Any]:
    """For templates: whose page it is, the `base` of paths, the `reach` in which the visitor may change something."""
    return {"vendor": side.as_vendor, "base": base(side), "reach": "vendor" if side.as_vendor else as_owner}


async def models_of(services: Services, side: SideScope) -> dict[str, str]:
    """The models that the organization makes, by id, as one chooses among them; none for who sees only projects."""
    if side.project_ids is not None:
        return {}
    found = await models.listed(services.postgres, side.id, limit=MODELS_OFFERED)
    return {str(model.id): f"{model.vendor} {model.name}" for model in found}
