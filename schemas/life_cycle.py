"""Life-cycle events: what was done to a device, and what became of it. One struct for each type.

    {"commandUpdated": {"updateTime": "2026-…Z", "commandId": "…", "name": "reboot", "status": "done", "message": null}}

A new one is a struct here and its member of `schemas.events.EventType`. Whoever makes the change hands it over in the
same transaction, by `schemas.outbox`.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, ClassVar, Literal
from uuid import UUID

import msgspec
from msgspec import UNSET, Struct, UnsetType

from schemas.events import EventType, rfc3339
from schemas.licenses import Action, LicenseState, Word
from schemas.rollouts import PartState

CommandStatus = Literal["scheduled", "pending", "in_progress", "done", "failed", "aborted"]
IncidentKind = Literal["device", "user", "rule"]
"""Who opened an incident: the device, a person, or a rule; being offline is one."""


class LifeCycle(Struct, rename="camel", kw_only=True, frozen=True):
    """What an event tells besides `updateTime`, which is when it happened."""

    TYPE: ClassVar[EventType]

    def data(self, moment: datetime) -> bytes:
        """The event's data as JSON."""
        members = msgspec.json.encode(self)[1:-1]
        separator = b"," if members else b""
        stamp = rfc3339(moment).encode()
        return b'{"%b":{"updateTime":"%b"%b%b}}' % (self.TYPE.encode(), stamp, separator, members)


class DeviceRegistered(LifeCycle, kw_only=True, frozen=True):
    """A device exists from now on. An imported one has neither a parent nor a choice of its space."""

    TYPE = EventType.DEVICE_REGISTERED

    parent_id: UUID | UnsetType | None = UNSET
    space_id: UUID | UnsetType = UNSET


class DeviceClaimed(LifeCycle, kw_only=True, frozen=True):
    """An organization became its owner."""

    TYPE = EventType.DEVICE_CLAIMED

    space_id: UUID


class DeviceMoved(LifeCycle, kw_only=True, frozen=True):
    """It was moved to another space; a move to another project is recorded in both projects."""

    TYPE = EventType.DEVICE_MOVED

    from_project_id: UUID
    from_space_id: UUID
    to_project_id: UUID
    to_space_id: UUID


class DeviceDeleted(LifeCycle, kw_only=True, frozen=True):
    """It was deleted; its history stays."""

    TYPE = EventType.DEVICE_DELETED


class DeviceExcluded(LifeCycle, kw_only=True, frozen=True):
    """The vendor's cloud that it was imported from no longer lists it."""

    TYPE = EventType.DEVICE_EXCLUDED

    reason: Literal["missing"]


class DeviceRestored(LifeCycle, kw_only=True, frozen=True):
    """The vendor's cloud lists it again."""

    TYPE = EventType.DEVICE_RESTORED


class StatusChanged(LifeCycle, kw_only=True, frozen=True):
    """It was silent for longer than its model's threshold, or called again."""

    TYPE = EventType.STATUS_CHANGED

    offline: bool


class IncidentOpened(LifeCycle, kw_only=True, frozen=True):
    """An incident of the device was opened: by itself, by a person, or by a rule, which tells the value."""

    TYPE = EventType.INCIDENT_OPENED

    incident_id: UUID
    kind: IncidentKind
    issue: str
    title: str
    priority: int
    value: int | float | bool | str | UnsetType = UNSET


class IncidentClosed(LifeCycle, kw_only=True, frozen=True):
    """An incident of the device was closed."""

    TYPE = EventType.INCIDENT_CLOSED

    incident_id: UUID
    kind: IncidentKind
    issue: str
    value: int | float | bool | str | UnsetType = UNSET


class DeviceEvent(LifeCycle, kw_only=True, frozen=True):
    """The device told of something that its maker gave a name; what stands in the keys is up to them."""

    TYPE = EventType.DEVICE_EVENT

    name: str
    category: str
    int_key_1: int | UnsetType = UNSET
    int_key_2: int | UnsetType = UNSET
    string_key_1: str | UnsetType = UNSET
    string_key_2: str | UnsetType = UNSET


class CommandUpdated(LifeCycle, kw_only=True, frozen=True):
    """A command was sent to it, or another status was reached."""

    TYPE = EventType.COMMAND_UPDATED

    command_id: UUID
    name: str
    status: CommandStatus
    message: str | None

    @classmethod
    def of_row(cls, row: Any) -> "CommandUpdated":
        """The event of a row of `commands` that was just written."""
        return cls(command_id=row["id"], name=row["name"], status=row["status"], message=row["message"])


class DeviceReplaced(LifeCycle, kw_only=True, frozen=True):
    """Another unit took its place; what was the device's stays so."""

    TYPE = EventType.DEVICE_REPLACED

    sn: str
    previous_sn: str | None


class LicenseUpdated(LifeCycle, kw_only=True, frozen=True):
    """A licence of it took a step: assigned, applied, changed, revoked, expired; available when the device is gone."""

    TYPE = EventType.LICENSE_UPDATED

    license_id: UUID
    name: str
    state: Word
    action: Action | None
    error: str | None
    expires_at: datetime | None

    @classmethod
    def of_row(cls, row: Any) -> "LicenseUpdated":
        """The event of a row of `licenses` that was just written."""
        state = LicenseState(row["state"])
        return cls(
            license_id=row["id"],
            name=row["name"],
            state=state.word,
            action=state.action,
            error=row["error"],
            expires_at=row["expires_at"],
        )


class ConfigChanged(LifeCycle, kw_only=True, frozen=True):
    """Its config was replaced by a new version."""

    TYPE = EventType.CONFIG_CHANGED

    version: int


class FirmwareUpdated(LifeCycle, kw_only=True, frozen=True):
    """It reports another firmware version than before."""

    TYPE = EventType.FIRMWARE_UPDATED

    version: str
    previous_version: str


class RolloutUpdated(LifeCycle, kw_only=True, frozen=True):
    """Its part in a firmware rollout has moved on; the reason says why it ended, or why it was tried again."""

    TYPE = EventType.ROLLOUT_UPDATED

    rollout_id: UUID
    name: str
    version: str
    wave: int
    state: PartState
    reason: str | None


class LabelsChanged(LifeCycle, kw_only=True, frozen=True):
    """Labels were changed, or name or description, which are labels too. The only event whose data has no envelope."""

    TYPE = EventType.LABELS_CHANGED

    added: dict[str, str]
    modified: dict[str, str]
    removed: list[str]

    @classmethod
    def between(cls, was: Mapping[str, str], now: Mapping[str, str]) -> "LabelsChanged":
        """The difference of all labels that a device had and has."""
        return cls(
            added={key: value for key, value in now.items() if key not in was},
            modified={key: value for key, value in now.items() if was.get(key, value) != value},
            removed=[key for key in was if key not in now],
        )

    def data(self, moment: datetime) -> bytes:
        """The three members alone."""
        return msgspec.json.encode(self)


LIFE_CYCLE: dict[EventType, type[LifeCycle]] = {struct.TYPE: struct for struct in LifeCycle.__subclasses__()}
"""The struct of each type."""
