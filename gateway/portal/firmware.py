"""Files for devices: drafts, their bytes, released and withdrawn; firmware above all."""

from uuid import UUID

from starlette.requests import Request
from starlette.responses import Response

from gateway.api.bodies import Streamed
from gateway.api.callers.api_keys import BOTH, OWNER, VENDOR
from gateway.api.scopes import SideScope, WholeScope
from gateway.organization import files
from gateway.organization.files import FileChange, FilesQuery, NewFile, NewModelFile
from gateway.permissions import Permission
from gateway.portal.forms import Form
from gateway.portal.page import page
from gateway.portal.rendering import View, redirect
from gateway.portal.sides import base, models_of, shown
from gateway.services import Services

PATH = "/firmware"
ONE = f"{PATH}/{{file_id}}"


@page("GET", PATH, doors=BOTH, permission=Permission.READ)
async def list_files(services: Services, side: SideScope, query: FilesQuery, form: Form) -> View:
    """The files."""
    values = {
        "form": form,
        "asked": query,
        "files": await files.list_files(services, side.organization, query),
        "models": list((await models_of(services, side)).items()),
    }
    return View("firmware.html", values | shown(side, "organization"))


@page("POST", PATH, doors=(OWNER, VENDOR.but(body=NewModelFile)), permission=Permission.DEVELOP, shown_by=list_files)
async def create_file(services: Services, side: WholeScope, body: NewFile) -> Response:
    """Make a draft."""
    file = await files.create_file(services, side, body)
    return redirect(services, base(side) + PATH, file.id, said="Now its bytes")


@page("GET", ONE, doors=BOTH, permission=Permission.READ)
async def read_file(services: Services, side: SideScope, file_id: UUID, form: Form) -> View:
    """One file."""
    file = await files.read_file(services, side.organization, file_id)
    return View("firmware_file.html", {"form": form, "file": file} | shown(side, "organization"))


@page("POST", ONE, doors=BOTH, permission=Permission.DEVELOP, shown_by=read_file)
async def change_file(services: Services, side: WholeScope, file_id: UUID, body: FileChange) -> Response:
    """Change a draft."""
    await files.change_file(services, side, file_id, body)
    return redirect(services, base(side) + PATH, file_id, said="Saved")


@page("POST", f"{ONE}/content", doors=BOTH, permission=Permission.DEVELOP)
async def put_content(services: Services, side: WholeScope, file_id: UUID, body: Streamed) -> Response:
    """Store its bytes as the browser sends them."""
    file = await files.put_content(services, side, file_id, body)
    return redirect(services, base(side) + PATH, file_id, said=f"{file.size} bytes are stored")


@page("GET", f"{ONE}/content", doors=BOTH, permission=Permission.READ)
async def read_content(services: Services, side: SideScope, file_id: UUID, request: Request) -> Response:
    """Its bytes, which a browser saves and shows nothing of."""
    return await files.read_content(services, side.organization, file_id, request)


@page("POST", f"{ONE}/release", doors=BOTH, permission=Permission.DEVELOP, shown_by=read_file)
async def release(services: Services, side: WholeScope, file_id: UUID) -> Response:
    """Release it."""
    await files.release_file(services, side, file_id)
    return redirect(services, base(side) + PATH, file_id, said="Released: its devices may fetch it")


@page("POST", f"{ONE}/withdraw", doors=BOTH, permission=Permission.DEVELOP, shown_by=read_file)
async def withdraw(services: Services, side: WholeScope, file_id: UUID) -> Response:
    """Withdraw it."""
    await files.withdraw_file(services, side, file_id)
    return redirect(services, base(side) + PATH, file_id, said="Withdrawn: no device is offered it any more")


@page("POST", f"{ONE}/delete", doors=BOTH, permission=Permission.DEVELOP, shown_by=read_file)
async def delete(services: Services, side: WholeScope, file_id: UUID) -> Response:
    """Delete it."""
    await files.delete_file(services, side, file_id)
    return redirect(services, base(side) + PATH, said="The file is deleted")


PAGES = (
    list_files, create_file, read_file, change_file, put_content, read_content, release, withdraw, delete,
)  # fmt: skip
