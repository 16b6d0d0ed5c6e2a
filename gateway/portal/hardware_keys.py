"""Hardware keys of a model: made and shown once, counted, revoked; and what registered with a stolen one, deleted."""

from uuid import UUID

from starlette.responses import Response

from gateway.api.paging import PageQuery
from gateway.api.scopes import MakerScope
from gateway.organization import hardware_keys, models
from gateway.organization.hardware_keys import NewHardwareKey
from gateway.permissions import Permission
from gateway.portal.forms import Form
from gateway.portal.models import ONE, PATH, Confirmation
from gateway.portal.page import page
from gateway.portal.rendering import View, redirect
from gateway.services import Services

KEYS = ONE + "/keys"
KEY = KEYS + "/{hardware_key_id}"


class KeysQuery(PageQuery, kw_only=True):
    """`counted` waits until devices are counted, which a whole page must not."""

    counted: bool = False

    def is_long(self) -> bool:
        """All devices of the model are counted."""
        return self.counted or super().is_long()


@page("GET", KEYS, permission=Permission.READ)
async def show_hardware_keys(
    services: Services, organization: MakerScope, model_id: UUID, query: KeysQuery, form: Form
) -> View:
    """The keys, and how many devices registered by each once that is counted."""
    model = await models.read_model(services, organization, model_id)
    found = await hardware_keys.page_of(services, organization, model_id, query, counted=query.counted)
    return View("hardware_keys.html", {"model": model, "keys": found, "form": form, "counted": query.counted})


@page("POST", KEYS, permission=Permission.ADMINISTER, shown_by=show_hardware_keys)
async def create_hardware_key(
    services: Services, organization: MakerScope, model_id: UUID, body: NewHardwareKey
) -> View:
    """Make a key, and show it this once."""
    made = await hardware_keys.create_hardware_key(services, organization, model_id, body)
    title = f"The hardware key {made.name} is made" if made.name else "The hardware key is made"
    values = {"title": title, "email": "", "key_id": "", "secret": made.key, "where": ""}
    return View("shown_once.html", values | {"back": f"{PATH}/{model_id}/keys"})


@page("POST", KEY + "/revoke", permission=Permission.ADMINISTER, shown_by=show_hardware_keys)
async def revoke_hardware_key(
    services: Services, organization: MakerScope, model_id: UUID, hardware_key_id: UUID
) -> Response:
    """Let no device register with a key any more."""
    await hardware_keys.revoke_hardware_key(services, organization, model_id, hardware_key_id)
    said = "The key is revoked: no device registers with it any more, those that did stay"
    return redirect(services, PATH, model_id, "keys", said=said)


@page("POST", KEY + "/devices", permission=Permission.ADMINISTER, shown_by=show_hardware_keys)
async def delete_registered(
    services: Services, organization: MakerScope, model_id: UUID, hardware_key_id: UUID, body: Confirmation
) -> Response:
    """Delete what registered with a revoked key and nobody claimed."""
    body.check((await models.read_model(services, organization, model_id)).name)
    done = await hardware_keys.delete_registered_devices(services, organization, model_id, hardware_key_id)
    said = f"{done.deleted} devices that nobody claimed are deleted"
    more = "; there are more: delete again" if done.more else ""
    return redirect(services, PATH, model_id, "keys", said=said + more)


PAGES = (show_hardware_keys, create_hardware_key, revoke_hardware_key, delete_registered)
