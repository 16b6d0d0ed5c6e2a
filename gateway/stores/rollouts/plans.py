"""The plan of a rollout: its firmware, its waves and their gates; checked before it is stored.

Whose plan it is decides what it may say: an owner rolls out to its own devices, by labels and spaces too; a vendor to
all devices of its model, of whose labels and spaces it knows nothing.
"""

from collections.abc import Sequence
from datetime import datetime, time
from uuid import UUID

import asyncpg
from msgspec import Struct

from gateway.refusals import DoesNotFit
from gateway.stores.whose import Whose
from schemas.postgres import Connection
from schemas.rollouts import WAVES_MAX, Channel, OnFailure, OnSuccess

LABELS_MAX = 20
UNKNOWN_FILE = "File id: file not found"
NO_FIRMWARE = "File id: only firmware is rolled out"
OF_VENDOR = "File id: the vendor of the model rolls it out itself"


class RolloutGate(Struct, kw_only=True, frozen=True):
    """What is too much in a wave, and what happens then; percentages count from `min_reported` reports on."""

    min_reported: int = 0
    failed_percent: float | None = None
    failed_count: int | None = None
    on_failure: OnFailure = "pause"
    back_to_file_id: UUID | None = None
    on_success: OnSuccess = "next"


class PlannedWave(Struct, kw_only=True, frozen=True):
    """Who comes next: up to a share of all devices, so many more, or those with these labels or in this space."""

    percent: float | None = None
    count: int | None = None
    labels: dict[str, str] | None = None
    space_id: UUID | None = None
    starts_at: datetime | None = None
    soak_s: int = 0
    gate: RolloutGate = RolloutGate()


class RolloutWindow(Struct, kw_only=True, frozen=True):
    """A daily window of local time; `download_before` says that only the installation waits for it."""

    opens: time
    closes: time
    download_before: bool = False


class Plan(Struct, kw_only=True):
    """What is rolled out, and how."""

    name: str
    description: str
    file_id: UUID
    channel: Channel
    dynamic: bool
    max_per_minute: int | None
    window: RolloutWindow | None
    report_timeout_s: int
    grace_s: int
    retries: int
    needs_approval: bool
    starts_at: datetime | None
    waves: Sequence[PlannedWave]


async def check(connection: Connection, issuer: Whose, plan: Plan) -> UUID:
    """The model whose devices a plan is for. Raises DoesNotFit, saying what to change."""
    if plan.window is not None and plan.window.opens == plan.window.closes:
        raise DoesNotFit("Window opens and closes at the same time: leave it out, or give two times")
    firmware = await _firmware(connection, issuer, plan.file_id, UNKNOWN_FILE)
    if firmware["status"] == "withdrawn":
        raise DoesNotFit("File id: the file was withdrawn")
    await check_waves(connection, issuer, plan.waves, firmware["model_id"], plan.file_id)
    model_id: UUID = firmware["model_id"]
    return model_id


async def reach(connection: Connection, issuer: Whose, file_id: UUID) -> int:
    """How many devices a rollout of this file would be for, today. Raises DoesNotFit."""
    firmware = await _firmware(connection, issuer, file_id, UNKNOWN_FILE)
    devices: int = await connection.fetchval(
        """SELECT count(*) FROM devices
            WHERE model_id = $1 AND deleted_at IS NULL AND ($2 OR organization_id = $3)""",
        firmware["model_id"],
        issuer.as_vendor,
        issuer.organization_id,
    )
    return devices


async def check_waves(
    connection: Connection, issuer: Whose, waves: Sequence[PlannedWave], model_id: UUID, file_id: UUID
) -> None:
    """Raises DoesNotFit that names the first wave at fault."""
    if not 1 <= len(waves) <= WAVES_MAX:
        raise DoesNotFit(f"Waves must be 1 to {WAVES_MAX}")
    reached = 0.0
    for number, wave in enumerate(waves, start=1):
        named = f"Waves[{number - 1}]"
        if sum(one is not None for one in (wave.percent, wave.count, wave.labels, wave.space_id)) != 1:
            raise DoesNotFit(f"{named}: give one of percent, count, labels and space id")
        if issuer.as_vendor and (wave.labels is not None or wave.space_id is not None):
            raise DoesNotFit(f"{named}: labels and spaces are the owners': give percent or count")
        if wave.labels is not None and not 1 <= len(wave.labels) <= LABELS_MAX:
            raise DoesNotFit(f"{named}.labels must be 1 to {LABELS_MAX} labels")
        if wave.percent is not None:
            if wave.percent <= reached:
                raise DoesNotFit(f"{named}.percent must be more than that of the waves before: it counts them in")
            reached = wave.percent
        if wave.space_id is not None and not await connection.fetchval(
            """SELECT true FROM spaces s JOIN projects p ON p.id = s.project_id
                WHERE s.id = $1 AND p.organization_id = $2""",
            wave.space_id,
            issuer.organization_id,
        ):
            raise DoesNotFit(f"{named}.space id: space not found")
        await _check_gate(connection, issuer, f"{named}.gate", wave.gate, model_id, file_id)


async def _check_gate(
    connection: Connection, issuer: Whose, named: str, gate: RolloutGate, model_id: UUID, file_id: UUID
) -> None:
    if gate.failed_percent is not None and gate.failed_count is not None:
        raise DoesNotFit(f"{named}: give failed percent or failed count")
    if (gate.on_failure == "roll_back") != (gate.back_to_file_id is not None):
        raise DoesNotFit(f"{named}: roll_back and back to file id belong together")
    if gate.back_to_file_id is not None:
        unknown = f"{named}.back to file id: file not found"
        target = await _firmware(connection, issuer, gate.back_to_file_id, unknown)
        if target["model_id"] != model_id or target["status"] != "released" or gate.back_to_file_id == file_id:
            raise DoesNotFit(f"{named}.back to file id: must be other released firmware of the same model")


async def _firmware(connection: Connection, issuer: Whose, file_id: UUID, unknown: str) -> asyncpg.Record:
    """Firmware that the issuer may roll out: its own, that of its models, or what was released for its devices."""
    row = await connection.fetchrow(
        """SELECT f.file_type, f.status, f.for_model_id AS model_id, f.organization_id, m.organization_id AS vendor_id,
                  f.organization_id IS NULL AND EXISTS (
                      SELECT FROM rollouts r WHERE r.file_id = f.id AND r.as_vendor
                         AND r.organization_id <> $2) AS taken,
                  f.status = 'released' AND EXISTS (
                      SELECT FROM devices d WHERE d.model_id = f.for_model_id AND d.organization_id = $2
                         AND d.deleted_at IS NULL) AS used
             FROM files f LEFT JOIN device_models m ON m.id = f.for_model_id WHERE f.id = $1 FOR SHARE OF f""",
        file_id,
        issuer.organization_id,
    )
    if row is None:
        raise DoesNotFit(unknown)
    of_model = row["organization_id"] is None
    own = row["vendor_id"] == issuer.organization_id if of_model else row["organization_id"] == issuer.organization_id
    if not own and (issuer.as_vendor or not of_model or not row["used"]):
        raise DoesNotFit(unknown)
    if issuer.as_vendor and not of_model:
        raise DoesNotFit(unknown)
    if row["file_type"] != "firmware":
        raise DoesNotFit(NO_FIRMWARE)
    if row["taken"]:
        raise DoesNotFit(OF_VENDOR)
    return row
