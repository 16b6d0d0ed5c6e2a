"""A device calls, by its access key; its id is in the path.

Downloads are proven otherwise: by the key, or by the token of a URL that a command gave, for agents that send no key.
Agents forget their keys on 401, of whatever URL. So that is what a deleted device hears, and nobody else: without a key
that is or was a device's, and without a good token, there is no such file. Downloads do not count as calls.
"""

from uuid import UUID

from starlette.requests import Request

from gateway.api.callers.authorization import api_key_scheme, presented_key
from gateway.api.principals import CallerKind
from gateway.refusals import UNKNOWN_MASTER_KEY, NotFound, Unauthenticated, Unavailable, retry_after_s
from gateway.services import Services
from gateway.stores.devices import identity
from gateway.stores.devices.identity import DeviceCaller
from schemas import download_tokens
from schemas.ids import ID_CHARACTERS, uuid_of

FILE_UNKNOWN = "File not found"


async def authenticate(services: Services, request: Request) -> DeviceCaller:
    """The device that the path names, if the access key belongs to it.

    Counts the call against the device's limit, and notes that the device was seen.
    """
    key = presented_key(request).encode("utf-8", "replace")
    device_id = request.path_params["device_id"].lower().encode("utf-8", "replace")
    if len(device_id) != ID_CHARACTERS or not services.access_keys.verify(device_id, key):
        if services.access_keys.awaits(key):
            raise Unavailable(UNKNOWN_MASTER_KEY, retry_after_s=retry_after_s())
        raise Unauthenticated
    await services.call_limit.count(device_id)
    device = await identity.by_key(services.postgres, UUID(device_id.decode()), int(key[:2], 16))
    services.ingest.seen(device_id, key[:2])
    return device


async def authenticate_download(services: Services, request: Request) -> DeviceCaller:
    """The device that downloads the file of the path. Notes that it was seen, if it was not a moment ago."""
    key = presented_key(request).encode("utf-8", "replace")
    device_id, file_id = (uuid_of(request.path_params[name]) for name in ("device_id", "file_id"))
    if device_id is None or file_id is None:
        raise NotFound(FILE_UNKNOWN)
    token, named = request.query_params.get("token", ""), str(device_id).encode()
    if download_tokens.is_good(services.master_keys, token, device_id, file_id, services.clock()):
        device = await identity.by_id(services.postgres, device_id)
    elif services.access_keys.verify(named, key):
        device = await identity.by_key(services.postgres, device_id, int(key[:2], 16))
        if services.downloads.was_away(device_id):
            services.ingest.seen(named, key[:2])
    elif services.access_keys.awaits(key):
        raise Unavailable(UNKNOWN_MASTER_KEY, retry_after_s=retry_after_s())
    else:
        raise NotFound(FILE_UNKNOWN)
    return device


DEVICE = CallerKind(
    principal=DeviceCaller,
    prove=authenticate,
    schemes={"device": api_key_scheme("The device's access key: 32 hex characters.")},
    limited=True,
    exact=False,
)
DOWNLOADER = CallerKind(
    principal=DeviceCaller,
    prove=authenticate_download,
    schemes={
        "device": api_key_scheme("The device's access key: 32 hex characters."),
        "token": {"type": "apiKey", "in": "query", "name": "token", "description": "Of a URL that a command gave."},
    },
    limited=False,
    exact=False,
)
