"""Direct Device Integration: the door that firmware updaters know, such as those beside RAUC, SWUpdate and Zephyr.

    GET  …/{device_id}                                  whether there is firmware, and when to ask again
    GET  …/{device_id}/deploymentBase/{action}          which, and where to fetch it
    POST …/{device_id}/deploymentBase/{action}/feedback how it goes
    PUT  …/{device_id}/configData                       attributes, kept as the device's details
    GET  …/{device_id}/softwaremodules/os/artifacts/{file_id}   the bytes

A door and no more: what is offered says `latest_fw_*`, files are those of the device, and what is told is evidence
for rollouts. The tenant of an updater's settings is `default`, its controller (or target) the device's id, its target
token the access key. Contract: Eclipse hawkBit, "Direct Device Integration API", v1.
"""

from typing import Annotated, Any, Literal
from uuid import UUID

from msgspec import UNSET, Meta, Struct, UnsetType
from msgspec.structs import replace
from starlette.requests import Request
from starlette.responses import Response

from gateway import identifiers
from gateway.api import validation
from gateway.api.callers.devices import DEVICE, DOWNLOADER
from gateway.api.endpoint import Endpoint, Success, endpoint
from gateway.device.files import DOWNLOAD_ERRORS, content
from gateway.device.hub_url import hub_url
from gateway.refusals import Gone, NotFound
from gateway.services import Services
from gateway.stores.change import Change, change
from gateway.stores.devices import device_view, self_report
from gateway.stores.devices.identity import DeviceCaller
from gateway.stores.files.reach import ReleasedFile
from gateway.stores.rollouts import actions
from schemas import outbox
from schemas.life_cycle import DeviceEvent

BASE = "/default/controller/v1/{device_id}"
ARTIFACT = "/DEFAULT/controller/v1/{device_id}/softwaremodules/os/artifacts/{file_id}"
"""Zephyr fetches files of this tenant alone, and looks for it in capitals."""
PART = "bApp"
"""What the firmware is, in words of the protocol: an application, as Zephyr wants it. Others take whatever it says."""
SLEEP = "00:05:00"
UNKNOWN, OVER = "Action not found", "Action is over: the device is offered something else now, or nothing"
FAILED_EVENT, FAILED_CATEGORY = "firmware_update_failed", "firmware"
REASON_CHARACTERS_MAX = 255

Execution = Literal["closed", "proceeding", "canceled", "scheduled", "rejected", "resumed", "download", "downloaded"]
Attributes = dict[validation.Name, Annotated[str, Meta(max_length=255)]]


class Href(Struct):
    """An address."""

    href: str


class Polling(Struct, frozen=True):
    """When to ask again: hours, minutes, seconds."""

    sleep: str = SLEEP


class UpdaterConfiguration(Struct):
    """What the updater goes by."""

    polling: Polling = Polling()


class UpdaterLinks(Struct, rename={"deployment_base": "deploymentBase", "config_data": "configData"}):
    """What waits."""

    deployment_base: Href | UnsetType = UNSET
    config_data: Href | UnsetType = UNSET


class UpdaterBase(Struct, rename={"links": "_links"}):
    """The answer to a poll."""

    config: UpdaterConfiguration
    links: UpdaterLinks


class Hashes(Struct):
    """Of the whole file, in hex."""

    sha256: str
    sha1: str | None
    md5: str | None


class ArtifactLinks(Struct, kw_only=True, rename={"download_http": "download-http"}):
    """Where the bytes are. Over TLS both are the same: some updaters know only the one, some only the other."""

    download: Href | UnsetType = UNSET
    download_http: Href


class Artifact(Struct, rename={"links": "_links"}):
    """A file to fetch; `size` in bytes."""

    filename: str
    hashes: Hashes
    size: int
    links: ArtifactLinks


class Chunk(Struct):
    """A piece of software: here there is always one."""

    part: Annotated[str, Meta(examples=[PART])]
    version: str
    name: str
    artifacts: list[Artifact]


class Deployment(Struct):
    """What is to be done."""

    download: Literal["forced"]
    update: Literal["forced"]
    chunks: list[Chunk]


class DeploymentBase(Struct):
    """One action."""

    id: str
    deployment: Deployment


class FeedbackResult(Struct, frozen=True):
    """How it went, or goes so far."""

    finished: Literal["success", "failure", "none"] = "none"


class FeedbackStatus(Struct):
    """Where the updater is with the action. Only `closed` and `canceled` end it."""

    execution: Execution
    result: FeedbackResult = FeedbackResult()
    details: Annotated[list[str], Meta(max_length=100)] = []

    @property
    def failed(self) -> bool:
        """Whether the action is over, and the firmware not installed."""
        return self.execution == "canceled" or (self.execution == "closed" and self.result.finished == "failure")

    @property
    def succeeded(self) -> bool:
        """Whether the firmware is installed: who closes an action and says no more, has done it."""
        return self.execution == "closed" and self.result.finished != "failure"


class Feedback(Struct):
    """What the updater tells of an action."""

    status: FeedbackStatus


class ConfigData(Struct):
    """Attributes of the device, and what they do to those that it told before."""

    data: Attributes
    mode: Literal["merge", "replace", "remove"] = "merge"


@endpoint("GET", BASE, caller=DEVICE)
async def poll(services: Services, device: DeviceCaller, request: Request) -> UpdaterBase:
    """Ask whether there is firmware to install, with Direct Device Integration. Attributes are asked for once."""
    base = f"{hub_url(services, request)}{BASE.format(device_id=device.id)}"
    action = await actions.current(services.postgres, device)
    links = UpdaterLinks()
    if action is not None:
        links.deployment_base = Href(f"{base}/deploymentBase/{action.number}?c={action.file.checksum[:8]}")
    if not await device_view.has_details(services.postgres, device.id):
        links.config_data = Href(f"{base}/configData")
    return UpdaterBase(UpdaterConfiguration(), links)


@endpoint("GET", f"{BASE}/deploymentBase/{{action}}", caller=DEVICE, errors={404: UNKNOWN})
async def read_action(services: Services, device: DeviceCaller, action: str, request: Request) -> DeploymentBase:
    """Read which firmware an action is about, and where it is."""
    found = await actions.current(services.postgres, device)
    if found is None or action != str(found.number):
        raise NotFound(UNKNOWN)
    url = hub_url(services, request) + ARTIFACT.format(device_id=device.id, file_id=found.file.id)
    chunk = Chunk(part=PART, version=found.file.version or "", name=found.file.name, artifacts=[])
    chunk.artifacts.append(_artifact(found.file, url))
    return DeploymentBase(action, Deployment(download="forced", update="forced", chunks=[chunk]))


def _artifact(file: ReleasedFile, url: str) -> Artifact:
    links = ArtifactLinks(download_http=Href(url), download=Href(url) if url.startswith("https:") else UNSET)
    return Artifact(file.name, Hashes(file.checksum, file.sha1, file.md5), file.size, links)


@endpoint("GET", ARTIFACT, caller=DOWNLOADER, errors=DOWNLOAD_ERRORS, described_answer=bytes)
async def read_artifact(services: Services, device: DeviceCaller, file_id: UUID, request: Request) -> Response:
    """Download the firmware of an action, whole or by one `Range`, as the device's files are."""
    return await content(services, device, file_id, request)


@endpoint("POST", f"{BASE}/deploymentBase/{{action}}/feedback", caller=DEVICE, errors={410: "The action is over."})
async def tell_feedback(services: Services, device: DeviceCaller, action: str, body: Feedback) -> Success:
    """Tell how an action goes. One that is closed with success has installed the firmware."""
    async with change(services) as changed:
        was = await self_report.lock(changed.connection, device.id)
        found = await actions.current(changed.connection, device)
        if found is None or action != str(found.number):
            raise Gone(OVER)
        version = found.file.version or ""
        if body.status.succeeded:
            installed, printed = identifiers.firmware_version(version)
            now = replace(was, firmware_version=installed, firmware_told=printed)
            await self_report.update(changed, device.id, was, now, firmware_told=True)
        elif body.status.failed:
            await _fail(changed, device, version, body.status.details)
    return Success()


async def _fail(changed: Change, device: DeviceCaller, version: str, details: list[str]) -> None:
    """Nothing was installed: a rollout counts it, and whoever listens hears why."""
    reason = " ".join(details)[:REASON_CHARACTERS_MAX]
    await actions.tell_failed(changed.connection, device.id, reason)
    event = DeviceEvent(name=FAILED_EVENT, category=FAILED_CATEGORY, string_key_1=version, string_key_2=reason or UNSET)
    changed.record_all([outbox.event(device.id, event, changed.moment)])


@endpoint("PUT", f"{BASE}/configData", caller=DEVICE)
async def put_attributes(services: Services, device: DeviceCaller, body: ConfigData) -> Success:
    """Tell attributes of the device."""
    async with change(services) as changed:
        was = await self_report.lock(changed.connection, device.id)
        details = _details(was.details, body)
        validation.details(details)
        await self_report.update(changed, device.id, was, replace(was, details=details))
    return Success()


def _details(was: dict[str, Any], attributes: ConfigData) -> dict[str, Any]:
    if attributes.mode == "remove":
        return {name: value for name, value in was.items() if name not in attributes.data}
    return {**({} if attributes.mode == "replace" else was), **attributes.data}


ENDPOINTS: tuple[Endpoint, ...] = (poll, read_action, read_artifact, tell_feedback, put_attributes)
