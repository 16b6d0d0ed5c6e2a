"""Dumps of the device: logs and core files, as raw bytes or as a form, and more of them later."""

import re
from collections.abc import AsyncIterator
from urllib.parse import unquote
from uuid import UUID

from msgspec import Struct
from starlette.requests import Request

from gateway.api import multipart
from gateway.api.bodies import Streamed
from gateway.api.callers.devices import DEVICE
from gateway.api.endpoint import Endpoint, endpoint
from gateway.api.validation import NAME_CHARACTERS_MAX
from gateway.refusals import DoesNotFit, NotFound
from gateway.services import Services
from gateway.stores.devices.identity import DeviceCaller
from gateway.stores.files import dumps, uploads
from schemas.ids import uuid_of

FIELD = "data"
_MEDIA_TYPE = re.compile(r"[A-Za-z0-9][\w.+-]{0,62}/[A-Za-z0-9][\w.+-]{0,62}", re.ASCII)
_ANY_BYTES = "application/octet-stream"


class DumpStored(Struct):
    """The id by which more is appended."""

    id: UUID


class DumpLength(Struct):
    """How many bytes the dump has now."""

    length: int


@endpoint(
    "POST",
    "/v1/devices/{device_id}/dumps/{mime:path}/{file_name}",
    caller=DEVICE,
    status=201,
    errors={422: "There are no bytes."},
)
async def post_dump(
    services: Services, device: DeviceCaller, mime: str, file_name: str, request: Request, body: Streamed
) -> DumpStored:
    """Store a dump: the body as it is, or the field `data` of a form. The media type is URL-encoded: `text%2Fplain`.

    Of more dumps than a device may have the oldest go.
    """
    media_type, name = _named(request, mime, file_name)
    settings = services.settings
    end = services.dumps.begin(device.id)
    try:
        dump_id = await uploads.store(
            services.postgres,
            services.blobs,
            _data(request, body),
            _digests(request, body),
            settings.dump_bytes_max,
            lambda connection, upload: dumps.add(connection, device, name, media_type, upload, settings.dumps_max),
        )
    finally:
        end()
    return DumpStored(dump_id)


@endpoint(
    "PUT",
    "/v1/devices/{device_id}/dumps/{dump_id}",
    caller=DEVICE,
    errors={404: "Dump not found.", 422: "There are no bytes."},
)
async def append_to_dump(
    services: Services, device: DeviceCaller, dump_id: str, request: Request, body: Streamed
) -> DumpLength:
    """Append bytes to a dump, or the field `data` of a form; the answer says how long it is now."""
    known = uuid_of(dump_id)
    if known is None:
        raise NotFound(dumps.UNKNOWN)
    bytes_max = services.settings.dump_bytes_max
    left = bytes_max - await dumps.size(services.postgres, device, known)
    end = services.dumps.begin(device.id)
    try:
        data = _data(request, body)
        begun = await _beginning(data)
        if len(begun) <= dumps.SMALL_BYTES:
            return DumpLength(await _append_small(services, device, known, begun))
        length = await uploads.store(
            services.postgres,
            services.blobs,
            _joined(begun, data),
            _digests(request, body),
            left,
            lambda connection, upload: dumps.append(connection, device, known, upload, bytes_max),
        )
    finally:
        end()
    return DumpLength(length)


async def _append_small(services: Services, device: DeviceCaller, dump_id: UUID, data: bytes) -> int:
    if not data:
        raise DoesNotFit(uploads.BLANK)
    async with services.postgres.acquire() as connection, connection.transaction():
        return await dumps.append_small(
            connection, services.blobs, device, dump_id, data, services.settings.dump_bytes_max
        )


def _named(request: Request, mime: str, file_name: str) -> tuple[str, str]:
    """Media type and name of a dump: the path as it was sent tells which slashes are whose.

    What is no media type is bytes; of a path only the name is kept. Raises DoesNotFit.
    """
    sent = [unquote(part) for part in request.scope["raw_path"].decode("latin-1").split("/")[5:]]
    if len(sent) == 2:
        mime, file_name = sent
    name = file_name.replace("\\", "/").rpartition("/")[2] or "dump"
    if len(name) > NAME_CHARACTERS_MAX:
        raise DoesNotFit(f"File name must have at most {NAME_CHARACTERS_MAX} characters")
    return mime.lower() if _MEDIA_TYPE.fullmatch(mime) else _ANY_BYTES, name


def _data(request: Request, body: Streamed) -> AsyncIterator[bytes]:
    """The bytes of a dump."""
    content_type = request.headers.get("content-type", "")
    chunks = aiter(body)
    return multipart.field(chunks, content_type, FIELD) if multipart.is_form(content_type) else chunks


def _digests(request: Request, body: Streamed) -> dict[str, bytes]:
    """What the sender says of the dump's bytes; of a form it says something else."""
    return {} if multipart.is_form(request.headers.get("content-type", "")) else body.digests


async def _beginning(data: AsyncIterator[bytes]) -> bytes:
    """The first bytes: all of them, unless they are more than a small part has."""
    begun = b""
    async for chunk in data:
        begun += chunk
        if len(begun) > dumps.SMALL_BYTES:
            break
    return begun


async def _joined(begun: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield begun
    async for chunk in rest:
        yield chunk


ENDPOINTS: tuple[Endpoint, ...] = (post_dump, append_to_dump)
