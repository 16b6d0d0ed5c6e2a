"""A device calls, by its access key; its id is in the path."""

from uuid import UUID

from starlette.requests import Request

from gateway.api.callers.authorization import api_key_scheme, presented_key
from gateway.api.principals import CallerKind
from gateway.refusals import UNKNOWN_MASTER_KEY, Unauthenticated, Unavailable, retry_after_s
from gateway.services import Services
from gateway.stores.devices import identity
from gateway.stores.devices.identity import DeviceCaller
from schemas.ids import ID_CHARACTERS


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


DEVICE = CallerKind(
    principal=DeviceCaller,
    prove=authenticate,
    schemes={"device": api_key_scheme("The device's access key: 32 hex characters.")},
    limited=True,
    exact=False,
)
