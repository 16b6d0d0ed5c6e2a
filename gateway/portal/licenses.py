"""What the organization sees as vendor, whoever owns the devices: licences of its models, and what registered.

/licenses            made, given to a device, taken back
/registered          devices of its models; those that nobody claimed among them
"""

from uuid import UUID

from starlette.responses import Response

from gateway.api.scopes import VendorScope
from gateway.organization import licenses
from gateway.organization.licenses import Assignment, LicensesQuery, NewLicense
from gateway.partner import devices
from gateway.partner.devices import DevicesQuery
from gateway.permissions import Permission
from gateway.portal.forms import Form
from gateway.portal.page import page
from gateway.portal.rendering import View, redirect
from gateway.portal.sides import models_of
from gateway.services import Services

PATH = "/licenses"
ONE = PATH + "/{license_id}"
REGISTERED = "/registered"


@page("GET", PATH, permission=Permission.READ)
async def show_licenses(services: Services, partner: VendorScope, query: LicensesQuery, form: Form) -> View:
    """The licences of the vendor's models."""
    found = await licenses.list_licenses(services, partner, query)
    return View(
        "licenses.html",
        {"licenses": found, "asked": query, "models": await models_of(services, partner), "form": form},
    )


@page("POST", PATH, permission=Permission.DEVELOP, shown_by=show_licenses)
async def create_license(services: Services, partner: VendorScope, body: NewLicense) -> Response:
    """Make a licence."""
    await licenses.create_license(services, partner, body)
    return redirect(services, PATH, said="The licence is made and signed: give it to a device", model_id=body.model_id)


@page("POST", ONE + "/assign", permission=Permission.DEVELOP, shown_by=show_licenses)
async def assign_license(services: Services, partner: VendorScope, license_id: UUID, body: Assignment) -> Response:
    """Give it to a device."""
    given = await licenses.assign_license(services, partner, license_id, body)
    return redirect(services, PATH, said="The device is told with its next answer", model_id=given.model_id)


@page("POST", ONE + "/revoke", permission=Permission.DEVELOP, shown_by=show_licenses)
async def revoke_license(services: Services, partner: VendorScope, license_id: UUID) -> Response:
    """Take it back."""
    taken = await licenses.revoke_license(services, partner, license_id)
    return redirect(services, PATH, said="The device is told to remove it", model_id=taken.model_id)


@page("POST", ONE + "/retry", permission=Permission.DEVELOP, shown_by=show_licenses)
async def retry_license(services: Services, partner: VendorScope, license_id: UUID) -> Response:
    """Have its device try again."""
    tried = await licenses.retry_license(services, partner, license_id)
    return redirect(services, PATH, said="The device is told to try again", model_id=tried.model_id)


@page("POST", ONE + "/delete", permission=Permission.DEVELOP, shown_by=show_licenses)
async def delete_license(services: Services, partner: VendorScope, license_id: UUID) -> Response:
    """Delete one that no device has."""
    await licenses.delete_license(services, partner, license_id)
    return redirect(services, PATH, said="The licence is deleted")


@page("GET", REGISTERED, permission=Permission.READ)
async def show_registered(services: Services, partner: VendorScope, query: DevicesQuery) -> View:
    """The devices of the vendor's models."""
    found = await devices.list_devices(services, partner, query)
    return View("registered.html", {"devices": found, "asked": query, "models": await models_of(services, partner)})


PAGES = (
    show_licenses,
    create_license,
    assign_license,
    revoke_license,
    retry_license,
    delete_license,
    show_registered,
)
