"""A device makes itself known with its model's hardware key, and gets the access key it uses from then on."""

import re
from typing import Any

import asyncpg
from msgspec import Struct

from gateway.endpoint import Endpoint, endpoint
from gateway.errors import Refusal
from gateway.organization.fields import Label, Name, check_depth, normalized_mac
from gateway.services import Gateway
from gateway.stores import registrations
from gateway.stores.reply_writer import publish
from schemas import ids

SEMVER = re.compile(r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?")
CLOUD_ID_REST = re.compile(r"[A-Za-z0-9]{16,36}")
TAKEN = {"devices_sn_key": "Sn has already been taken", "devices_cloud_id_key": "Cloud id has already been taken"}


class Registration(Struct):
    """What a device says of itself; `mac` or `cloud_id` is required by the model's method of authentication."""

    hardware_key: Name
    sn: Name
    firmware_version: Name
    mac: Name | None = None
    cloud_id: Name | None = None
    name: Label = ""
    details: dict[str, Any] = {}
    sub_model: Label | None = None


class Registered(Struct):
    """The device's identity. The access key is shown this once."""

    id: str
    access_key: str
    hub_url: str
    hub_url_static_cert: str
    mqtt_hub_url: str | None = None


@endpoint("POST", "/v1/devices", status=201, errors={400: "The hardware key is not valid."})
async def register(gateway: Gateway, body: Registration) -> Registered:
    """Register a device."""
    presented = ids.present(body.hardware_key)
    model = None if presented is None else await registrations.model_of_key(gateway.postgres, presented)
    if model is None:
        raise Refusal(400, "Hardware key is invalid")
    if not SEMVER.fullmatch(body.firmware_version):
        raise Refusal(422, "Firmware version must be a semantic version such as 1.2.3")
    check_depth("Details", body.details)
    mac = normalized_mac(body.mac) if body.mac else None
    if model.authentication == "mac_sn" and mac is None:
        raise Refusal(422, "Mac can't be blank")
    if model.authentication == "cloud_id":
        if not body.cloud_id:
            raise Refusal(422, "Cloud id can't be blank")
        code = model.short_code or ""
        if not (body.cloud_id.startswith(code) and CLOUD_ID_REST.fullmatch(body.cloud_id[len(code) :])):
            raise Refusal(422, f"Cloud id must be {code} followed by 16 to 36 letters and digits")
    device_id = ids.new_id()
    async with gateway.postgres.acquire() as connection:
        try:
            await registrations.insert(
                connection,
                device_id,
                model,
                shard=ids.shard_of(str(device_id).encode(), gateway.shards),
                sn=body.sn,
                mac=mac,
                cloud_id=body.cloud_id if model.authentication == "cloud_id" else None,
                name=body.name,
                sub_model=body.sub_model,
                firmware_version=body.firmware_version,
                details=body.details,
            )
        except asyncpg.UniqueViolationError as error:
            raise Refusal(422, TAKEN[str(error.constraint_name)]) from None
        if model.has_own_limit:
            await publish(gateway, connection, [device_id])
    hub_url = gateway.settings.public_url or f"{_scheme(gateway)}://{gateway.settings.bind}"
    key = gateway.access_keys.issue(str(device_id), 0)
    return Registered(str(device_id), key, hub_url, hub_url)


def _scheme(gateway: Gateway) -> str:
    return "https" if gateway.settings.tls_certificate else "http"


ENDPOINTS: tuple[Endpoint, ...] = (register,)
