"""Pages: endpoints that answer people. One function for each, which calls those of the APIs.

    @page("GET", "/devices/{device_id}", permission=Permission.READ)
    async def show(services: Services, fleet: FleetScope, device_id: UUID, form: Form) -> View:
        organization = await fleet.over(services, device_id)
        device = await devices.read_device(services, organization, device_id)
        return View("device.html", {"device": device})

    @page("POST", "/devices/{device_id}/name", permission=Permission.DEVELOP, shown_by=show)
    async def rename(services: Services, fleet: FleetScope, device_id: UUID, body: Naming) -> Response:
        ...
        return redirect(services, "/devices", device_id, said="The device has its new name")

What the function takes is as with `@endpoint` (see `gateway.api.endpoint`), and by default a signed-in person calls.
Beyond that:

* `body` is decoded from the form's fields (see `gateway.portal.forms`). A form that does not fit, and one that is
  refused for what it asks, is shown again by the page `shown_by`, with all that was typed and each error beside its
  field: that page takes a `form`. Its template asks for `form.of("rename")`.
* A write must come from a page of ours, with the token of its session: checked here, for every page.
* Where nobody is signed in, the sign-in page is shown, and leads back. What was typed is kept meanwhile, but passwords.
* What is returned is a `View`, or a response (`redirect`).
* Refusals and stores away are pages that say so, and what was kept.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any
from urllib.parse import parse_qsl

from starlette.requests import Request
from starlette.responses import Response

from gateway.api import bodies, origins, session_cookie
from gateway.api.bodies import Streamed
from gateway.api.callers import people
from gateway.api.callers.people import PERSON
from gateway.api.doors import Door
from gateway.api.endpoint import BODY_BYTES_MAX, Endpoint, mounted
from gateway.api.principals import CallerKind
from gateway.api.scopes import NOT_PERMITTED
from gateway.people import returning
from gateway.permissions import Permission
from gateway.portal import forms, rendering, visitor
from gateway.portal.forms import EMPTY, NOTHING, Form, Typed
from gateway.portal.rendering import View, url
from gateway.portal.visitor import NOBODY, Visitor
from gateway.refusals import (
    Conflict,
    DoesNotFit,
    Malformed,
    NotPermitted,
    Refusal,
    TooMany,
    Unauthenticated,
    Unavailable,
)
from gateway.services import Services
from schemas.postgres import PostgresAway

SIGN_IN = "/sign-in"
FIELDS_MAX = 2_000
TOKEN_HEADER = "x-form-token"  # noqa: S105
_OF_THE_FORM = (DoesNotFit, Conflict, Malformed, TooMany)
"""What is wrong with a form is told in it; other refusals are pages."""
STALE = "The page was older than your session, so nothing was done yet"


class StaleToken(NotPermitted):
    """A form came from a page of ours, with the token of another session than this one: it can be sent again."""


_AGAIN = (Unavailable, Unauthenticated, StaleToken)


class Page(Endpoint):
    """One page, or what one of its forms does."""

    provided = frozenset({"form"})
    answers_are_data = False

    def __init__(self, method: str, path: str, function: Callable[..., Any], shown_by: "Page | None", **given: Any):
        super().__init__(method, path, function, **given)
        self.shown_by = None if shown_by is None else shown_by.at(self.door)
        self._takes_form = "form" in function.__annotations__
        assert shown_by is None or shown_by._takes_form, f"{path}: the page that shows its form takes none"

    async def _answer_or_refusal(self, request: Request) -> Response:
        response = await super()._answer_or_refusal(request)
        people.keep(request.state.services, request, response)
        return response

    def named_parameters(self, request: Request) -> list[tuple[str, str]]:
        """The parameters of the address; a field of filters that is empty narrows nothing."""
        return [(name, value) for name, value in super().named_parameters(request) if value]

    async def read_body(self, request: Request, given: dict[str, Any]) -> None:
        """Add the form; a write is let through only from a page of ours."""
        if self._takes_form:
            given["form"] = getattr(request.state, "form", EMPTY)
        if self.method == "GET":
            return
        services: Services = request.state.services
        origins.check(services, request)
        typed: Typed = {} if self.takes_bytes else await _typed(request, self.body_bytes_max)
        request.state.typed = typed
        if self.caller is not None:
            given_token = request.headers.get(TOKEN_HEADER) or (typed.get(forms.TOKEN) or [""])[-1]
            if not session_cookie.is_form_token(session_cookie.read(services, request), given_token):
                raise StaleToken(STALE)
        if self.takes_bytes:
            given["body"] = Streamed(request) if self.body is Streamed else await bodies.read(request, BODY_BYTES_MAX)
        elif self.body is not None:
            given["body"] = forms.decode(self.body, typed)

    async def answered(self, request: Request, given: Mapping[str, Any], answer: View) -> Response:
        """The page."""
        return await _rendered(request, answer)

    async def refused(self, request: Request, refusal: Refusal, given: Mapping[str, Any]) -> Response:
        """A page that says what happened, and keeps what was typed."""
        if isinstance(refusal, Unauthenticated) and (self.method == "GET" or _is_part(request)):
            return _to_sign_in(request)
        status = self.dialect.status(refusal)
        if isinstance(refusal, _OF_THE_FORM) and self.shown_by is not None and hasattr(request.state, "typed"):
            name = getattr(self.function, "__name__", "")
            errors = forms.errors_of(refusal, self.body)
            request.state.form = Form(name, request.state.typed, errors)
            response = await self.shown_by._answer_or_refusal(request)
            if response.status_code == 200:
                response.status_code = status
            return response
        typed = await self._to_send_again(request) if isinstance(refusal, _AGAIN) else {}
        return await problem(request, status, refusal.text, typed=typed, retry_after_s=refusal.retry_after_s)

    async def _to_send_again(self, request: Request) -> Typed:
        """What was typed into a form of ours that could not be taken just now."""
        if self.method == "GET" or self.takes_bytes:
            return {}
        try:
            origins.check(request.state.services, request)
            known: Typed | None = getattr(request.state, "typed", None)
            return await _typed(request, self.body_bytes_max) if known is None else known
        except Refusal:
            return {}


def page(
    method: str,
    path: str,
    *,
    permission: Permission | None = None,
    caller: CallerKind | None = PERSON,
    doors: Sequence[Door] = (),
    shown_by: Page | None = None,
    body_bytes_max: int = BODY_BYTES_MAX,
    audited: bool = True,
) -> Callable[[Callable[..., Awaitable[View | Response]]], Page]:
    """Make a function a page; with `doors` one for owner and vendor each. With `caller=None` anyone may see it; not
    `audited` is what changes nothing.
    """

    def wrap(function: Callable[..., Awaitable[View | Response]]) -> Page:
        return mounted([made(function, one) for one in doors]) if doors else made(function, None)

    def made(function: Callable[..., Awaitable[View | Response]], door: Door | None) -> Page:
        return Page(
            method,
            path if door is None else door.pages + path,
            function,
            shown_by,
            status=200,
            errors={},
            body_bytes_max=body_bytes_max,
            partial_status=None,
            described_body=None,
            body_media_type="application/x-www-form-urlencoded",
            caller=caller,
            described_caller=None,
            permission=permission,
            stream=False,
            described_answer=None,
            audited=audited,
            door=door,
        )

    return wrap


async def problem(
    request: Request, status: int, text: str, *, typed: Typed = NOTHING, retry_after_s: int | None = None
) -> Response:
    """The page that says what went wrong; a form that was typed can be sent again from it."""
    values = {
        "status": status,
        "text": text,
        "typed": {name: values for name, values in typed.items() if name != forms.TOKEN and not forms.is_secret(name)},
        "lacks_role": text.startswith(NOT_PERMITTED.partition(":")[0]),
        "left_out": any(map(forms.is_secret, typed)),
        "retry_after_s": retry_after_s,
        "back": _page_before(request),
        "sign_in": url(rendering.prefix_of(request.state.services), SIGN_IN, next=_page_before(request)),
    }
    response = await _rendered(request, View("problem.html", values, status))
    if retry_after_s is not None:
        response.headers["retry-after"] = str(retry_after_s)
    return response


async def _rendered(request: Request, view: View) -> Response:
    services: Services = request.state.services
    signed_in = getattr(request.state, "signed_in", None)
    seen: Visitor = NOBODY
    token = ""
    if signed_in is not None:
        token = people.signed_in(request).form_token
        try:
            seen = await visitor.of(
                services, request.state.principal, signed_in.session.name or signed_in.session.email
            )
        except PostgresAway:
            seen = Visitor(signed_in.session.name or signed_in.session.email)
    return rendering.rendered(request, view, seen, token)


async def _typed(request: Request, bytes_max: int) -> dict[str, list[str]]:
    """The fields of a form. Raises Malformed."""
    data = await bodies.read(request, bytes_max)
    typed: dict[str, list[str]] = {}
    try:
        pairs = parse_qsl(data.decode(), keep_blank_values=True, errors="strict", max_num_fields=FIELDS_MAX)
    except ValueError:
        raise Malformed("The form cannot be read") from None
    for name, value in pairs:
        typed.setdefault(name, []).append(value)
    return typed


def _to_sign_in(request: Request) -> Response:
    """To the sign-in page; as a whole, also where only a part of a page was asked for."""
    services: Services = request.state.services
    if _is_part(request):
        to = url(rendering.prefix_of(services), SIGN_IN, next=_page_before(request))
        return Response(status_code=401, headers={**rendering.HEADERS, "hx-redirect": to})
    asked = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    return rendering.redirect(services, SIGN_IN, next=asked)


def _is_part(request: Request) -> bool:
    return request.headers.get("hx-request") == "true"


def _page_before(request: Request) -> str:
    """The page that a form or a part of a page was on, as a path below the prefix: where it leads back to."""
    came = request.headers.get("hx-current-url") or request.headers.get("referer") or ""
    prefix = rendering.prefix_of(request.state.services)
    return returning.page_before(came, request.headers.get("host", ""), prefix)
