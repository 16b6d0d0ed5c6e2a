"""My account: name, password, passkeys, and where one is signed in."""

from typing import Annotated
from uuid import UUID

from msgspec import Meta, Struct
from starlette.requests import Request
from starlette.responses import Response

from gateway.api.callers.people import signed_in
from gateway.people import account, passkeys
from gateway.portal.forms import DoesNotFitFields, Form
from gateway.portal.page import page
from gateway.portal.rendering import View, redirect
from gateway.services import Services

PATH = "/account"


class Naming(Struct):
    """How one is called."""

    name: Annotated[str, Meta(max_length=255)]


class NewPassword(Struct):
    """Another password; the current one where there is one."""

    password: str
    again: str
    current_password: str = ""


@page("GET", PATH)
async def show_account(services: Services, request: Request, form: Form) -> View:
    """Who one is here."""
    here = signed_in(request)
    return View(
        "account.html",
        {
            "person": await account.read(services, here),
            "sessions": await account.list_sessions(services, here),
            "this_session": here.session.id,
            "passkeys": await passkeys.listed(services, here),
            "passkeys_work": passkeys.relying_party(services) is not None,
            "form": form,
        },
    )


@page("POST", PATH + "/name", shown_by=show_account)
async def rename(services: Services, request: Request, body: Naming) -> Response:
    """Another name."""
    await account.rename(services, signed_in(request), body.name.strip())
    return redirect(services, PATH, said="Your name is changed")


@page("POST", PATH + "/password", shown_by=show_account)
async def change_password(services: Services, request: Request, body: NewPassword) -> Response:
    """Another password; all other sessions end."""
    if body.password != body.again:
        raise DoesNotFitFields({"again": "It is not the same"})
    await account.change_password(services, request, signed_in(request), body.current_password, body.password)
    return redirect(services, PATH, said="Your password is changed, and all your other sessions have ended")


@page("POST", PATH + "/sessions/{session_id}/end")
async def end_session(services: Services, request: Request, session_id: UUID) -> Response:
    """End one session."""
    await account.end_session(services, signed_in(request), session_id)
    return redirect(services, PATH, said="The session has ended")


@page("POST", PATH + "/sessions/end-others")
async def end_other_sessions(services: Services, request: Request) -> Response:
    """End all sessions but this one."""
    ended = await account.end_other_sessions(services, signed_in(request))
    return redirect(services, PATH, said=f"{ended} other session{'s' if ended != 1 else ''} ended")


PAGES = (show_account, rename, change_password, end_other_sessions, end_session)
