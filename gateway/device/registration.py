"""Registering: a device that has no keys yet shows its model's hardware key and gets an id and an access key.

A registration whose answer was lost is repeated: the same proof of a device that nobody claimed and that was never
heard of since gets the same id and key again. Once it was heard of its serial number is taken: its owner deletes the
device, then it registers again. That it asked to come back is noted, and shown to its owner, who may let it. A unit
that an owner named beforehand takes the place of a device (see `gateway.stores.devices.replacement`).

A registration may name a parent, but never makes the device anyone's: a hardware key proves the model, not that the
parent knows of it. A child that is to come along with its parent is registered by the parent (see `children`).
"""

import logging
from typing import Annotated, Any
from uuid import UUID

import msgspec
from msgspec import Meta, Raw, Struct
from starlette.requests import Request
from starlette.responses import Response

from gateway import identifiers
from gateway.api import bodies, dialects, fixed_window, validation
from gateway.api.addresses import address_of
from gateway.api.dialects import ErrorBody
from gateway.api.endpoint import Endpoint, endpoint
from gateway.api.validation import Label
from gateway.device.hub_url import hub_url
from gateway.refusals import DoesNotFit, Refusal, away
from gateway.services import Services
from gateway.stores.change import change_over
from gateway.stores.devices import registration as registrations
from gateway.stores.devices import replacement
from gateway.stores.devices.registration import UNCLAIMED, Model, NewDevice, Unheard
from schemas import ids, keys, logs
from schemas.postgres import Connection, PostgresAway

log = logging.getLogger(__name__)

BULK_MAX = 25
REGISTRATIONS_WINDOW_S = 60
REGISTRATION_BYTES_MAX = 64 * 1024
"""Read before the hardware key in it is known; details are the most of it, at 16 KiB."""
TOO_MANY = f"At most {BULK_MAX} devices are registered at once"


class Registration(Struct, kw_only=True):
    """What a device says of itself. The model's way of authentication asks for `mac` or `cloud_id`."""

    hardware_key: str
    sn: Label
    firmware_version: Label
    mac: Label | None = None
    cloud_id: Label | None = None
    name: Label | None = None
    details: dict[str, Any] | None = None
    sub_model: Label | None = None
    parent_id: UUID | None = None


_registration = msgspec.json.Decoder(Registration)


class Registered(Struct):
    """The identity of a device and where it is to call. `access_key` is shown this once."""

    id: UUID
    access_key: str
    hub_url: str
    hub_url_static_cert: str
    mqtt_hub_url: str | None = None


@endpoint(
    "POST",
    "/v1/devices",
    status=201,
    errors={
        400: "The hardware key is invalid.",
        422: "A member is missing, malformed or already taken.",
        429: "Too many devices in a minute, with the hardware key or from the address.",
    },
    body_bytes_max=REGISTRATION_BYTES_MAX,
)
async def register(services: Services, request: Request, body: Registration) -> Registered:
    """Register a device; keep what is answered. Until the device is heard of, the same call is answered alike."""
    url = hub_url(services, request)
    address = address_of(request)
    await _count(services, address, 1)
    async with services.postgres.acquire() as connection:
        return await _register(services, connection, body, url, address)


@endpoint(
    "POST",
    "/v1/devices/bulk_create",
    status=201,
    errors={
        422: f"More than {BULK_MAX} devices; or some were refused, then the answer has what became of each.",
        429: "Too many devices in a minute from the address.",
    },
    partial_status=422,
    described_body=Annotated[list[Registration], Meta(max_length=BULK_MAX)],
)
async def register_many(services: Services, request: Request, body: list[Raw]) -> list[Registered | ErrorBody]:
    """Register up to 25 devices, each on its own.

    The answer has for each, in order, what its registration alone would have answered: 201 when all are fine, else 422.
    """
    if len(body) > BULK_MAX:
        raise DoesNotFit(TOO_MANY)
    url = hub_url(services, request)
    address = address_of(request)
    await _count(services, address, len(body))
    results: list[Registered | ErrorBody] = []
    async with services.postgres.acquire() as connection:
        for item in body:
            try:
                one = bodies.decode(_registration, bytes(item))
                results.append(await _register(services, connection, one, url, address))
            except Refusal as refusal:
                results.append(ErrorBody(refusal.text))
            except PostgresAway as error:
                # Those before it are registered, and nobody else will ever tell them their keys.
                logs.event(log, logging.WARNING, "postgres_unavailable", cause=str(error))
                results.append(ErrorBody(away("Postgres").text))
    status = 422 if any(isinstance(result, ErrorBody) for result in results) else 201
    answer = msgspec.json.encode(results)
    return Response(answer, status, headers=dialects.UNCACHED, media_type="application/json")  # type: ignore[return-value]


async def _count(services: Services, who: str, devices: int) -> None:
    """Count registrations of an address, or with a hardware key: it lies in every device, and can be read out of one.

    Raises TooMany.
    """
    await fixed_window.count(
        services,
        keys.of_caller(services.shards, "registrations", who),
        calls_max=services.settings.registrations_max,
        window_s=REGISTRATIONS_WINDOW_S,
        window="a minute",
        calls=devices,
    )


async def _register(
    services: Services, connection: Connection, body: Registration, url: str, address: str
) -> Registered:
    model = await registrations.model_of_hardware_key(connection, body.hardware_key)
    await _count(services, str(model.hardware_key_id), 1)
    new = new_device(
        services,
        model,
        parent_id=body.parent_id,
        sn=identifiers.serial_number(body.sn),
        mac=identifiers.filled("Mac", body.mac) if model.authentication == "mac_sn" else body.mac,
        cloud_id=identifiers.cloud_id(body.cloud_id, model.short_code) if model.authentication == "cloud_id" else None,
        name=body.name,
        sub_model=body.sub_model,
        firmware_version=body.firmware_version,
        details=body.details,
    )
    try:
        async with change_over(services, connection) as changed:
            taken = await replacement.take_place(changed, new, address)
            if taken is not None:
                return _registered(services, taken, url)
            if body.parent_id is not None:
                parent = await registrations.lock_parent(connection, body.parent_id)
                if parent is None or parent[0] != model.vendor_id:
                    raise DoesNotFit(registrations.PARENT_UNKNOWN)
            version = await registrations.insert(changed, new, UNCLAIMED)
            key = services.access_key(new.id, version)
    except DoesNotFit as refused:
        if refused.text not in registrations.TAKEN.values():
            raise
        async with change_over(services, connection) as changed:
            before = await registrations.unheard(connection, new, changed.moment)
            before = before or await replacement.come_back(changed, new, address)
        if before is None:
            raise
        return _registered(services, before, url)
    return Registered(new.id, key, url, url)


def _registered(services: Services, device: Unheard, url: str) -> Registered:
    return Registered(device.id, services.access_key(device.id, device.key_version), url, url)


def new_device(
    services: Services,
    model: Model,
    *,
    parent_id: UUID | None,
    sn: str | None,
    mac: str | None,
    cloud_id: str | None,
    name: str | None,
    sub_model: str | None,
    firmware_version: str | None,
    details: dict[str, Any] | None,
    vouched_for: bool = False,
) -> NewDevice:
    """A device with a new id, its members checked. Raises DoesNotFit."""
    device_id = ids.new_id()
    firmware = identifiers.firmware_version(firmware_version)
    return NewDevice(
        id=device_id,
        shard=ids.shard_of(str(device_id).encode(), services.shards),
        model=model,
        parent_id=parent_id,
        sn=sn,
        mac=identifiers.normalized_mac(mac) if mac else None,
        cloud_id=cloud_id,
        name=name or "",
        sub_model=sub_model,
        firmware_version=firmware.version,
        firmware_told=firmware.told,
        details=validation.details(details),
        vouched_for=vouched_for,
    )


ENDPOINTS: tuple[Endpoint, ...] = (register, register_many)
