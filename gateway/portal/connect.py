"""Pages behind a link of a cloud connector: someone without an account enters a vendor's credentials."""

from msgspec import Struct
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from gateway.connect import authorization
from gateway.connect.authorization import PATH, Connected, Consent, Declined, Ended, Question, Step
from gateway.portal.forms import EMPTY
from gateway.portal.page import page
from gateway.portal.rendering import HEADERS, View
from gateway.services import Services

ONE = f"{PATH}/{{token}}"
FORM_BYTES_MAX = 64 * 1024


class Returned(Struct):
    """What the vendor's consent page sends back."""

    state: str = ""
    code: str = ""
    error: str = ""


@page("GET", f"{PATH}/callback", caller=None)
async def consented(services: Services, query: Returned) -> View | Response:
    """Where the vendor's consent page leads back to."""
    return _shown(await authorization.consented(services, query.state, query.code, query.error))


@page("GET", ONE, caller=None)
async def show(services: Services, token: str) -> View | Response:
    """What a link asks."""
    return _shown(await authorization.opened(services, token))


@page("POST", ONE, caller=None, body_bytes_max=FORM_BYTES_MAX)
async def submit(services: Services, request: Request, token: str) -> View | Response:
    """What was entered there; its fields are the manifest's."""
    given = {name: values[0].strip() for name, values in request.state.typed.items()}
    return _shown(await authorization.answered(services, token, given))


def _shown(step: Step) -> View | Response:
    match step:
        case Question():
            return View("connect.html", {"asked": step, "entry": EMPTY}, step.status, leads_elsewhere=True)
        case Consent():
            return RedirectResponse(step.url, 303, HEADERS)
        case Connected():
            text = f"“{step.connector}” imports its devices now. You can close this page."
            return View("connect_end.html", {"title": "Connected", "text": text})
        case Declined():
            text = f"It said: {step.reason}. Open the link again to try once more."
            return View("connect_end.html", {"title": "The vendor did not consent", "text": text}, 422)
        case Ended():
            text = "This link does not work any more. Ask whoever sent it for a new one."
            return View("connect_end.html", {"title": "This link has ended", "text": text}, 410)


PAGES = (consented, show, submit)
