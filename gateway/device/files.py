"""Files for the device: what it may fetch, and the bytes, whole or by ranges that suit a slow modem."""

from datetime import datetime
from uuid import UUID

from msgspec import UNSET, Struct, UnsetType
from starlette.requests import Request
from starlette.responses import Response

from gateway.api import downloads
from gateway.api.callers.devices import DEVICE, DOWNLOADER
from gateway.api.downloads import Content
from gateway.api.endpoint import Endpoint, endpoint
from gateway.device.hub_url import hub_url
from gateway.refusals import Malformed, NotFound
from gateway.services import Services
from gateway.stores.devices.identity import DeviceCaller
from gateway.stores.files import reach
from gateway.stores.files.catalog import UNKNOWN
from gateway.stores.files.reach import ReleasedFile
from gateway.stores.rollouts import evidence
from schemas.ids import uuid_of


class DeviceFile(Struct, kw_only=True):
    """A file that the device may fetch from `url`, with its access key. `checksum` is the SHA-256, in hex."""

    id: UUID
    name: str
    url: str
    desc: str
    file_type: str
    version: str | None
    checksum: str
    size: int
    signature: str | UnsetType = UNSET
    created_at: datetime
    public_notes: str


@endpoint("GET", "/v1/devices/{device_id}/files", caller=DEVICE)
async def list_files(services: Services, device: DeviceCaller, request: Request) -> list[DeviceFile]:
    """List the files that are released for the device, the newest ones first, at most 100."""
    base_url = hub_url(services, request)
    return [_shown(base_url, device, file) for file in await reach.listed(services.postgres, device)]


@endpoint(
    "GET",
    "/v1/devices/{device_id}/files/{file_id}",
    caller=DEVICE,
    errors={400: "File not found.", 410: "It was withdrawn."},
)
async def read_file(services: Services, device: DeviceCaller, file_id: str, request: Request) -> DeviceFile:
    """Read what is known of a file, the firmware that `latest_fw_file_id` names for instance."""
    base_url = hub_url(services, request)
    known = uuid_of(file_id)
    if known is None:
        raise Malformed(UNKNOWN)
    try:
        file = await reach.find(services.postgres, device, known)
    except NotFound:
        raise Malformed(UNKNOWN) from None
    return _shown(base_url, device, file)


DOWNLOAD_ERRORS = {
    401: "The device was deleted, or its key rotated away.",
    404: "There is no such file for this device, or neither a key nor a good token was shown.",
    410: "It was withdrawn.",
    503: "Too many downloads are under way; `Retry-After` says when to come back.",
}


@endpoint(
    "GET",
    "/v1/devices/{device_id}/files/{file_id}/content",
    caller=DOWNLOADER,
    errors=DOWNLOAD_ERRORS,
    described_answer=bytes,
)
async def read_content(services: Services, device: DeviceCaller, file_id: UUID, request: Request) -> Response:
    """Download a file, whole or by one `Range`; `If-Range` with the `ETag` resumes what is still the same.

    Instead of its access key a device may show the `token` of a URL that a command gave it. Downloads do not count
    as calls. `Content-Digest` is the SHA-256 of a whole answer, `Repr-Digest` that of the file with every answer.
    """
    return await content(services, device, file_id, request)


async def content(services: Services, device: DeviceCaller, file_id: UUID, request: Request) -> Response:
    """The bytes of a file for a device, at whichever address it asks for them."""
    file = await reach.find(services.postgres, device, file_id)

    async def noted(*, all_of_it: bool) -> None:
        await evidence.fetches(services.postgres, device.id, file_id, services.clock(), all_of_it=all_of_it)

    await services.downloads.turn(device.id)
    end = services.downloads.begin(device.id)
    shown = Content(file.checksum, file.size, file.name)
    rest = services.downloads.yield_to_telemetry
    return await downloads.answer(request, services.blobs, shown, end, rest, noted if file.rolled_out else None)


def _shown(base_url: str, device: DeviceCaller, file: ReleasedFile) -> DeviceFile:
    return DeviceFile(
        id=file.id,
        name=file.name,
        url=f"{base_url}/v1/devices/{device.id}/files/{file.id}/content",
        desc=file.desc,
        file_type=file.file_type,
        version=file.version,
        checksum=file.checksum,
        size=file.size,
        signature=UNSET if file.signature is None else file.signature,
        created_at=file.created_at,
        public_notes=file.public_notes,
    )


ENDPOINTS: tuple[Endpoint, ...] = (list_files, read_file, read_content)
