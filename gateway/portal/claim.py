"""Claiming devices: one by what is printed on it, or several from a list, with a result for each line."""

import csv
import io
from typing import Annotated
from uuid import UUID

import msgspec
from msgspec import Meta, Struct
from starlette.requests import Request
from starlette.responses import Response

from gateway.api.scopes import FleetScope
from gateway.api.validation import Label
from gateway.organization import claims
from gateway.organization.claims import Claim
from gateway.permissions import Permission
from gateway.portal import spaces_offered
from gateway.portal.forms import EMPTY, Form
from gateway.portal.page import page
from gateway.portal.rendering import View, redirect
from gateway.refusals import DoesNotFit, Refusal, TooMany
from gateway.services import Services

PATH = "/claim"
LINES_MAX = 200
COLUMNS = ("mac", "sn", "cloud_id", "name")
TOO_MANY = f"Lines are at most {LINES_MAX} at once"
NO_HEADING = "Lines begin with a heading that names the columns: cloud_id, or mac and sn; and name, if you like"


class Printed(Struct):
    """What a code on a device says, to begin with."""

    cloud_id: Label | None = None
    mac: Label | None = None
    sn: Label | None = None

    def as_form(self) -> Form:
        """The form of one device, filled with it."""
        said = {name: [value] for name, value in msgspec.structs.asdict(self).items() if value}
        return Form("claim", said) if said else EMPTY


class Lines(Struct):
    """Devices to claim, as CSV with a heading."""

    space_id: UUID
    lines: Annotated[str, Meta(max_length=64 * 1024)]


class Result(Struct):
    """What became of one line."""

    line: int
    what: str
    text: str
    claimed: bool
    device_id: UUID | None = None


@page("GET", PATH, permission=Permission.ADMINISTER)
async def show(services: Services, fleet: FleetScope, query: Printed, form: Form) -> View:
    """The forms."""
    shown = query.as_form() if form == EMPTY else form
    return View("claim.html", {"form": shown, "spaces": await spaces_offered.options(services, fleet)})


@page("GET", "/c/{cloud_id}", caller=None)
async def scanned(services: Services, cloud_id: str) -> Response:
    """Where the QR code on a device leads: to its claim, behind the sign-in where nobody is signed in."""
    return redirect(services, PATH, cloud_id=cloud_id)


@page("POST", PATH, permission=Permission.ADMINISTER, shown_by=show)
async def claim(services: Services, request: Request, fleet: FleetScope, body: Claim) -> View:
    """Show which device it is, or claim it."""
    found = await claims.claim_device(services, request, await fleet.at(services, body.space_id), body)
    return View("claimed.html", {"found": found, "claim": body})


@page("POST", f"{PATH}/lines", permission=Permission.ADMINISTER, shown_by=show)
async def claim_lines(services: Services, request: Request, fleet: FleetScope, body: Lines) -> View:
    """Claim several devices; what one line says wrong does not stop the others."""
    organization = await fleet.at(services, body.space_id)
    # A line ends as the file's system ends it, also by a bare carriage return.
    rows = list(csv.DictReader(io.StringIO(body.lines.strip(), newline=None)))
    if len(rows) > LINES_MAX:
        raise DoesNotFit(TOO_MANY)
    if not rows or not {"cloud_id", "sn"} & {str(name).strip().lower() for name in rows[0]}:
        raise DoesNotFit(NO_HEADING)
    results = []
    for number, row in enumerate(rows, start=2):
        given = {str(name).strip().lower(): value.strip() for name, value in row.items() if isinstance(value, str)}
        members = {name: given[name] for name in COLUMNS if given.get(name)}
        what = " · ".join(members.values())
        try:
            one = msgspec.convert({"space_id": body.space_id, **members}, Claim)
            found = await claims.claim_device(services, request, organization, one)
            results.append(Result(number, what, "Claimed", True, found.id))
        except msgspec.ValidationError as error:
            results.append(Result(number, what, str(error), False))
        except TooMany as refusal:
            results.append(Result(number, what, f"{refusal.text}; this line and the later ones were not tried", False))
            break
        except Refusal as refusal:
            results.append(Result(number, what, refusal.text, False))
    return View("claimed_lines.html", {"results": results, "lines": len(rows)})


PAGES = (show, scanned, claim, claim_lines)
