"""What owners and vendors both do: one function, which each of them comes to by a door of its own."""

from typing import Any

from msgspec import Struct

from gateway.api.callers.api_keys import BOTH, ORGANIZATION_KEY, OWNER, PARTNER_KEY, VENDOR
from gateway.api.endpoint import endpoint
from gateway.api.scopes import FleetScope, OrganizationScope, SideScope, VendorScope, WholeScope
from gateway.permissions import Permission
from gateway.portal.page import page
from gateway.portal.rendering import View
from gateway.services import Services


class Wish(Struct):
    """What somebody wants."""

    model_id: str | None = None


class ModelWish(Wish):
    """What a vendor wants."""

    model_id: str


def test_each_face_has_the_path_the_caller_the_scope_and_what_differs_there() -> None:
    """And the function is what is called, whichever face it is called by."""

    @endpoint(
        "POST",
        "/wishes",
        doors=(OWNER.but(errors={404: "Project not found."}), VENDOR.but(body=ModelWish, answer=ModelWish)),
        permission=Permission.DEVELOP,
        errors={409: "It was wished for."},
    )
    async def wish(services: Services, side: WholeScope, body: Wish) -> Wish:
        """Wish for something."""
        return body

    owners, vendors = wish.faces
    assert (owners.path, vendors.path) == ("/core/v1/organization/wishes", "/core/v1/partner/wishes")
    assert (owners.caller, vendors.caller) == (ORGANIZATION_KEY, PARTNER_KEY)
    assert (owners.scopes, vendors.scopes) == ({"side": OrganizationScope}, {"side": VendorScope})
    assert (owners.body, vendors.body, owners.answer, vendors.answer) == (Wish, ModelWish, Wish, ModelWish)
    assert owners.errors == {409: "It was wished for.", 404: "Project not found."}
    assert vendors.errors == {409: "It was wished for."}
    assert wish is owners


def test_a_form_that_does_not_fit_is_shown_by_the_page_of_the_same_side() -> None:
    """And whoever sees only some projects comes in where the function takes that, and nowhere else."""

    @page("GET", "/wishes", doors=BOTH, permission=Permission.READ)
    async def show(services: Services, side: SideScope, form: Any) -> View:
        return View("wishes.html")

    @page("POST", "/wishes", doors=(VENDOR, OWNER), permission=Permission.DEVELOP, shown_by=show)
    async def wish(services: Services, side: WholeScope, body: Wish) -> View:
        return View("wishes.html")

    assert {one.path: one.shown_by and one.shown_by.path for one in wish.faces} == {
        "/wishes": "/wishes",
        "/partner/wishes": "/partner/wishes",
    }
    assert [one.scopes["side"] for one in show.faces] == [FleetScope, VendorScope]
    assert wish.at(OWNER).scopes["side"] is OrganizationScope
