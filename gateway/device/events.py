"""Events that devices tell in their makers' words: kept in the log, sent to receivers, and not in the state."""

from typing import Annotated, Any

from msgspec import UNSET, Meta, Struct

from gateway.api.callers.devices import DEVICE
from gateway.api.endpoint import Endpoint, endpoint
from gateway.api.validation import Label, Name
from gateway.refusals import DoesNotFit
from gateway.services import Services
from gateway.stores.change import change
from gateway.stores.devices.identity import DeviceCaller
from schemas import outbox, telemetry
from schemas.life_cycle import DeviceEvent
from schemas.telemetry import INTEGER_MAX, INTEGER_MIN, TelemetryError

IntegerKey = Annotated[int, Meta(ge=INTEGER_MIN, le=INTEGER_MAX)]


class EventReport(Struct):
    """Something that happened on the device. What the keys mean is up to its maker."""

    name: Annotated[Name, Meta(examples=["door_opened"])]
    category: Annotated[Name, Meta(examples=["access"])]
    int_key_1: IntegerKey | None = None
    int_key_2: IntegerKey | None = None
    string_key_1: Label | None = None
    string_key_2: Label | None = None
    timestamp: Annotated[
        Any, Meta(description="ISO 8601; a number counts seconds or milliseconds since 1970. Default: now.")
    ] = None


class Taken(Struct):
    """The event was taken."""

    status: bool = True


@endpoint("POST", "/v1/devices/{device_id}/events", caller=DEVICE)
async def tell_event(services: Services, device: DeviceCaller, body: EventReport) -> Taken:
    """Tell of something that happened. Of a device that nobody claimed it is taken and dropped."""
    async with change(services) as changed:
        try:
            at = telemetry.stated_time(body.timestamp, changed.moment) or changed.moment
        except TelemetryError as error:
            raise DoesNotFit(str(error)) from None
        told = DeviceEvent(
            name=body.name,
            category=body.category,
            int_key_1=UNSET if body.int_key_1 is None else body.int_key_1,
            int_key_2=UNSET if body.int_key_2 is None else body.int_key_2,
            string_key_1=UNSET if body.string_key_1 is None else body.string_key_1,
            string_key_2=UNSET if body.string_key_2 is None else body.string_key_2,
        )
        changed.record_all([outbox.event(device.id, told, at)])
    services.metrics.device_events.labels("stored" if device.project_id else "dropped").inc()
    return Taken()


ENDPOINTS: tuple[Endpoint, ...] = (tell_event,)
