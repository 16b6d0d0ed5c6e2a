"""Files of a vendor for all devices of its models: drafts, their bytes, released and withdrawn."""

from uuid import UUID

from starlette.requests import Request
from starlette.responses import Response

from gateway.api.bodies import Streamed
from gateway.api.scopes import VendorScope
from gateway.organization.files import FileChange, FilesQuery
from gateway.partner import files
from gateway.partner.files import NewModelFile
from gateway.permissions import Permission
from gateway.portal.forms import Form
from gateway.portal.licenses import models_of
from gateway.portal.page import page
from gateway.portal.rendering import View, redirect
from gateway.services import Services

PATH = "/partner/firmware"
ONE = f"{PATH}/{{model_file_id}}"
HERE = {"base": PATH, "rollouts": "/partner/rollouts", "reach": "vendor"}


@page("GET", PATH, permission=Permission.READ)
async def list_files(services: Services, partner: VendorScope, query: FilesQuery, form: Form) -> View:
    """The files of the vendor's models."""
    values = {
        "form": form,
        "asked": query,
        "files": await files.list_files(services, partner, query),
        "models": list((await models_of(services, partner)).items()),
    }
    return View("firmware.html", values | HERE)


@page("POST", PATH, permission=Permission.DEVELOP, shown_by=list_files)
async def create_file(services: Services, partner: VendorScope, body: NewModelFile) -> Response:
    """Make a draft."""
    file = await files.create_file(services, partner, body)
    return redirect(services, PATH, file.id, said="Now its bytes")


@page("GET", ONE, permission=Permission.READ)
async def read_file(services: Services, partner: VendorScope, model_file_id: UUID, form: Form) -> View:
    """One file."""
    file = await files.read_file(services, partner, model_file_id)
    return View("firmware_file.html", {"form": form, "file": file} | HERE)


@page("POST", ONE, permission=Permission.DEVELOP, shown_by=read_file)
async def change_file(services: Services, partner: VendorScope, model_file_id: UUID, body: FileChange) -> Response:
    """Change a draft."""
    await files.change_file(services, partner, model_file_id, body)
    return redirect(services, PATH, model_file_id, said="Saved")


@page("POST", f"{ONE}/content", permission=Permission.DEVELOP)
async def put_content(services: Services, partner: VendorScope, model_file_id: UUID, body: Streamed) -> Response:
    """Store its bytes as the browser sends them."""
    file = await files.put_content(services, partner, model_file_id, body)
    return redirect(services, PATH, model_file_id, said=f"{file.size} bytes are stored")


@page("GET", f"{ONE}/content", permission=Permission.READ)
async def read_content(services: Services, partner: VendorScope, model_file_id: UUID, request: Request) -> Response:
    """Its bytes, which a browser saves and shows nothing of."""
    return await files.read_content(services, partner, model_file_id, request)


@page("POST", f"{ONE}/release", permission=Permission.DEVELOP, shown_by=read_file)
async def release(services: Services, partner: VendorScope, model_file_id: UUID) -> Response:
    """Release it."""
    await files.release_file(services, partner, model_file_id)
    return redirect(services, PATH, model_file_id, said="Released: devices of the model may fetch it")


@page("POST", f"{ONE}/withdraw", permission=Permission.DEVELOP, shown_by=read_file)
async def withdraw(services: Services, partner: VendorScope, model_file_id: UUID) -> Response:
    """Withdraw it."""
    await files.withdraw_file(services, partner, model_file_id)
    return redirect(services, PATH, model_file_id, said="Withdrawn: no device is offered it any more")


@page("POST", f"{ONE}/delete", permission=Permission.DEVELOP, shown_by=read_file)
async def delete(services: Services, partner: VendorScope, model_file_id: UUID) -> Response:
    """Delete it."""
    await files.delete_file(services, partner, model_file_id)
    return redirect(services, PATH, said="The file is deleted")


PAGES = (
    list_files, create_file, read_file, change_file, put_content, read_content, release, withdraw, delete,
)  # fmt: skip
