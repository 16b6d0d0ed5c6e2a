"""The form of a rollout: what it says as a plan, how many devices its waves have, and what it changes of one.

A wave goes up to a share of all devices, or takes in so many more. Plans by the API can say more than that (labels,
spaces, other gates): the form leaves such waves as they are.
"""

from collections.abc import Sequence
from datetime import time
from typing import Annotated, Any, Literal
from uuid import UUID

from msgspec import Meta, Struct, field

from gateway.api.validation import Name, Text
from gateway.organization.rollouts import (
    INTEGER_MAX,
    Many,
    NewRollout,
    NewRolloutGate,
    NewRolloutWave,
    NewRolloutWindow,
    Percent,
    RolloutPatch,
)
from gateway.portal.forms import DoesNotFitFields
from gateway.stores.rollouts.plans import RolloutGate
from gateway.stores.rollouts.rollout_view import Rollout, RolloutWave
from schemas.rollouts import ENDED, Channel

WAVES = ("first", "second", "third", "fourth")
UNITS = [("percent", "% of all"), ("count", "devices more")]
HOUR_S = 3600
DEFAULTS = {
    "first.amount": "5", "first.soak_h": "1", "first.failed_percent": "10",
    "second.amount": "25", "second.soak_h": "1", "second.failed_percent": "10",
    "third.amount": "100", "third.failed_percent": "10", "channel": "reply",
}  # fmt: skip

Amount = Annotated[float, Meta(gt=0, le=INTEGER_MAX)]
Unit = Literal["percent", "count"]
Hours = Annotated[float, Meta(ge=0, le=24 * 90)]


class WaveForm(Struct, kw_only=True, frozen=True):
    """One wave of the form; without an amount there is none."""

    amount: Amount | None = None
    unit: Unit = "percent"
    soak_h: Hours = 0.0
    failed_percent: Percent | None = None


class PlanForm(Struct, kw_only=True):
    """A rollout as its form says it."""

    name: Name
    description: Text = ""
    file_id: UUID
    channel: Channel = "reply"
    max_per_minute: Many | None = None
    opens: time | None = None
    closes: time | None = None
    needs_approval: bool = False
    first: WaveForm = WaveForm()
    second: WaveForm = WaveForm()
    third: WaveForm = WaveForm()
    fourth: WaveForm = WaveForm()

    def planned(self) -> NewRollout:
        """As the API is told."""
        waves = _waves(self)
        given: dict[str, Any] = {"waves": waves} if waves else {}
        return NewRollout(
            name=self.name,
            description=self.description,
            file_id=self.file_id,
            channel=self.channel,
            max_per_minute=self.max_per_minute,
            window=_window(self.opens, self.closes),
            needs_approval=self.needs_approval,
            **given,
        )


class ChangeForm(Struct, kw_only=True):
    """What changes of a rollout: all that its form says of a draft, later its pace and what it is called."""

    name: Name
    description: Text = ""
    max_per_minute: Many | None = None
    opens: time | None = None
    closes: time | None = None
    file_id: UUID | None = None
    channel: Channel | None = None
    needs_approval: bool = False
    first: WaveForm | None = None
    second: WaveForm = WaveForm()
    third: WaveForm = WaveForm()
    fourth: WaveForm = WaveForm()

    def patch(self, was: Rollout) -> RolloutPatch:
        """As the API is told; what the form of this rollout does not show stays."""
        window = _window(self.opens, self.closes)
        if window is not None and was.window is not None:
            window.download_before = was.window.download_before
        given: dict[str, Any] = {}
        if self.file_id is not None:
            given |= {"file_id": self.file_id, "needs_approval": self.needs_approval}
        if self.channel is not None:
            given["channel"] = self.channel
        if self.first is not None:
            given["waves"] = _waves(self) or [NewRolloutWave(percent=100)]
        return RolloutPatch(
            name=self.name, description=self.description, max_per_minute=self.max_per_minute, window=window, **given
        )


class PlanQuery(Struct, kw_only=True):
    """With `reach`, of which firmware, and whom each wave reaches."""

    reach: bool = False
    file_id: UUID | None = None
    first: Amount | None = field(default=None, name="first.amount")
    second: Amount | None = field(default=None, name="second.amount")
    third: Amount | None = field(default=None, name="third.amount")
    fourth: Amount | None = field(default=None, name="fourth.amount")
    first_unit: Unit = field(default="percent", name="first.unit")
    second_unit: Unit = field(default="percent", name="second.unit")
    third_unit: Unit = field(default="percent", name="third.unit")
    fourth_unit: Unit = field(default="percent", name="fourth.unit")

    @property
    def amounts(self) -> list[tuple[float, Unit]]:
        """Of all waves."""
        found = [(getattr(self, name), getattr(self, f"{name}_unit")) for name in WAVES]
        return [(amount, unit) for amount, unit in found if amount is not None]

    def is_long(self) -> bool:
        """All devices of a model are counted."""
        return self.reach


def sizes(devices: int, amounts: Sequence[tuple[float, Unit]]) -> list[int]:
    """About how many devices each wave takes in, of so many."""
    found, taken = [], 0
    for amount, unit in amounts:
        upto = round(devices * amount / 100) if unit == "percent" else taken + int(amount)
        found.append(max(min(upto, devices) - taken, 0))
        taken += found[-1]
    return found


def shown(rollout: Rollout | None) -> dict[str, Any]:
    """What the form of a new rollout, or of one that there is, shows before anything is typed, and what it lets change.

    Waves are left out where the form cannot say them, or some have begun.
    """
    values = {"rollout": rollout, "units": UNITS, "plan": DEFAULTS, "whole": True, "waves": WAVES, "unsaid": False}
    if rollout is None:
        return values
    draft = rollout.status == "draft"
    changeable = draft or (rollout.wave == 0 and not rollout.needs_approval)
    waves = WAVES if changeable and _may_say_waves(rollout) else ()
    return values | {"plan": _of(rollout), "whole": draft, "waves": waves, "unsaid": changeable and not waves}


def reach_of(rollout: Rollout) -> dict[str, Any] | None:
    """What to ask `PlanQuery` with for the devices of its waves before it begins; None where the form cannot say it."""
    if rollout.started_at is not None or rollout.status in ENDED or not _may_say_waves(rollout):
        return None
    asked = _of(rollout)
    names = [f"{wave}.{member}" for wave in WAVES for member in ("amount", "unit")]
    return {"reach": True, "file_id": rollout.file_id} | {name: asked[name] for name in names if name in asked}


def _of(rollout: Rollout) -> dict[str, Any]:
    window = rollout.window
    found: dict[str, Any] = {
        "name": rollout.name,
        "description": rollout.description,
        "file_id": rollout.file_id,
        "channel": rollout.channel,
        "max_per_minute": rollout.max_per_minute,
        "opens": window and window.opens.strftime("%H:%M"),
        "closes": window and window.closes.strftime("%H:%M"),
        "needs_approval": rollout.needs_approval,
    }
    for name, wave in zip(WAVES, rollout.waves, strict=False):
        found |= {
            f"{name}.amount": wave.count if wave.percent is None else f"{wave.percent:g}",
            f"{name}.unit": "count" if wave.percent is None else "percent",
            f"{name}.soak_h": f"{wave.soak_s / HOUR_S:g}",
            f"{name}.failed_percent": None if wave.gate.failed_percent is None else f"{wave.gate.failed_percent:g}",
        }
    return found


def _may_say_waves(rollout: Rollout) -> bool:
    return len(rollout.waves) <= len(WAVES) and all(map(_is_plain, rollout.waves))


def _is_plain(wave: RolloutWave) -> bool:
    plain = RolloutGate(failed_percent=wave.gate.failed_percent)
    return (wave.labels, wave.space_id, wave.starts_at, wave.gate) == (None, None, None, plain)


def _waves(form: PlanForm | ChangeForm) -> list[NewRolloutWave]:
    found, wrong = [], {}
    for name in WAVES:
        wave: WaveForm = getattr(form, name)
        if wave.amount is None:
            continue
        if wave.unit == "percent" and wave.amount > 100:
            wrong[f"{name}.amount"] = "Must be at most 100 %"
        if wave.unit == "count" and not wave.amount.is_integer():
            wrong[f"{name}.amount"] = "Must be a whole number of devices"
        if wrong:
            continue
        found.append(
            NewRolloutWave(
                percent=wave.amount if wave.unit == "percent" else None,
                count=int(wave.amount) if wave.unit == "count" else None,
                soak_s=round(wave.soak_h * HOUR_S),
                gate=NewRolloutGate(failed_percent=wave.failed_percent),
            )
        )
    if wrong:
        raise DoesNotFitFields(wrong)
    return found


def _window(opens: time | None, closes: time | None) -> NewRolloutWindow | None:
    if (opens is None) != (closes is None):
        raise DoesNotFitFields({"opens" if opens is None else "closes": "Give both, or neither"})
    return None if opens is None or closes is None else NewRolloutWindow(opens=opens, closes=closes)
