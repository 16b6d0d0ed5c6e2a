"""The quickstart: a program in the reader's language, with a hardware key in it that is made on the page."""

from typing import Annotated
from uuid import UUID

from msgspec import Meta, Struct
from starlette.requests import Request

from gateway.api.callers.readers import READER
from gateway.api.paging import PageQuery
from gateway.api.principals import Principal
from gateway.api.scopes import FleetScope
from gateway.developers.quickstart import LANGUAGES, snippet
from gateway.organization import hardware_keys, models
from gateway.organization.hardware_keys import NewHardwareKey
from gateway.organization.models import ModelsQuery, NewModel
from gateway.permissions import Permission
from gateway.portal.docs import view
from gateway.portal.forms import Form
from gateway.portal.page import page
from gateway.portal.rendering import View
from gateway.refusals import Refusal
from gateway.services import Services

MODEL, KEY = "Quickstart device", "Quickstart"


class QuickstartQuery(Struct):
    """In which language."""

    language: Annotated[str, Meta(max_length=20)] = "curl"


class KeyForm(Struct):
    """For which model a hardware key is made; a new one where none is chosen."""

    language: Annotated[str, Meta(max_length=20)]
    model_id: UUID | None = None


@page("GET", "/docs/quickstart", caller=READER)
async def quickstart(
    services: Services, request: Request, reader: Principal, query: QuickstartQuery, form: Form
) -> View:
    """The steps."""
    return await _steps(services, request, reader, query.language, form, "")


@page("POST", "/docs/quickstart/key", permission=Permission.ADMINISTER, shown_by=quickstart)
async def quickstart_key(
    services: Services, request: Request, person: Principal, fleet: FleetScope, body: KeyForm
) -> View:
    """Make a hardware key, and show it this once: in the program."""
    organization = fleet.whole()
    model_id = body.model_id
    if model_id is None:
        known = await models.list_models(services, organization, ModelsQuery(search=MODEL))
        made = next((model for model in known.items if model.name == MODEL), None)
        model_id = (made or await models.create_model(services, organization, NewModel(vendor="Own", name=MODEL))).id
    key = await hardware_keys.create_hardware_key(services, organization, model_id, NewHardwareKey(name=KEY))
    return await _steps(services, request, person, body.language, Form(), key.key)


async def _steps(services: Services, request: Request, reader: Principal, language: str, form: Form, key: str) -> View:
    language = language if language in LANGUAGES else "curl"
    own = await _own_models(services, reader)
    return view(
        request,
        "docs_quickstart.html",
        language=language,
        languages={name: title for name, (title, _) in LANGUAGES.items()},
        file=LANGUAGES[language][1],
        program=snippet(language, services.url, key),
        key=key,
        models=own,
        may_make_keys=own is not None,
        form=form,
        base=services.url,
    )


async def _own_models(services: Services, reader: Principal) -> list[tuple[UUID, str]] | None:
    """The models for which the reader may make keys; None where it may make none."""
    if reader.organization_id is None:
        return None
    try:
        organization = FleetScope.of(reader, reader.organization_id, Permission.ADMINISTER).whole()
    except Refusal:
        return None
    found = await models.list_models(services, organization, ModelsQuery(per_page=PageQuery().per_page))
    return [(model.id, f"{model.vendor} {model.name}") for model in found.items]


PAGES = (quickstart, quickstart_key)
