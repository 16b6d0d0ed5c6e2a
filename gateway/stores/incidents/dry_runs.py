"""Dry runs: which incidents a rule would have opened and closed with the messages that a device sent.

Messages are taken in the order of their times, as if none had been late. The newest so many are looked at; where there
are more the answer says from when on.
"""

from collections.abc import Awaitable, Callable, Iterable
from datetime import datetime, timedelta

import msgspec
from msgspec import Struct

from gateway.stores.events.examining import Part, Range
from gateway.stores.events.telemetry_history import ListedMessage
from gateway.stores.events.tiers import Position
from schemas.rule_evaluation import Condition, Value, evaluate, evaluate_held
from schemas.times import EPOCH

MESSAGES_MAX = 20_000
PAGE = 1_000
PARTS_MAX = 100
"""Of the log, each so large as a page of history may be."""
INCIDENTS_MAX = 1_000
_MICROSECOND = timedelta(microseconds=1)


class TrialIncident(Struct):
    """An incident that would have been opened; `closed_at` is null of one that would be open still."""

    opened_at: datetime
    opened_value: Value
    closed_at: datetime | None = None
    closed_value: Value | None = None


class RuleTrial(Struct):
    """What a rule would have done with so many messages from `since` on; of many incidents the first."""

    since: datetime
    messages: int
    incidents: list[TrialIncident]


class _Told(Struct):
    telemetries: dict[str, Value | None] = {}


_told = msgspec.json.Decoder(_Told)
Read = Callable[[Range, int], Awaitable[Part[ListedMessage]]]
"""Reads messages newest first, so many at most."""


async def run(read: Read, telemetry: str, condition: Condition, since: datetime, until: datetime) -> RuleTrial:
    """Look at the messages of this time."""
    messages: list[tuple[int, bool, Value | None]] = []
    before: Position | None = None
    reached = until
    for _ in range(PARTS_MAX):
        limit = min(PAGE, MESSAGES_MAX - len(messages))
        part = await read(Range(since, until, before), limit)
        for message in part.rows:
            values = _told.decode(message.json).telemetries
            messages.append(((message.ts - EPOCH) // _MICROSECOND, telemetry in values, values.get(telemetry)))
        if part.up_to is None and len(part.rows) < limit:
            reached = since
            break
        before = part.up_to or _position(part.rows[-1])
        reached = before[0]
        if len(messages) == MESSAGES_MAX:
            break
    return RuleTrial(reached, len(messages), _incidents(condition, reversed(messages)))


def _position(message: ListedMessage) -> Position:
    return message.ts, message.shard, message.seq


def _incidents(condition: Condition, messages: Iterable[tuple[int, bool, Value | None]]) -> list[TrialIncident]:
    mark, state, found = condition.mark(), None, list[TrialIncident]()
    for at, is_told, value in messages:
        if is_told:
            outcome, now = evaluate(condition, state, at, value, mark)
        elif state is not None:
            outcome, now = evaluate_held(condition, state, at, mark)
        else:
            continue
        moment = EPOCH + at * _MICROSECOND
        if outcome == "open":
            if len(found) == INCIDENTS_MAX:
                break
            shown = value if is_told or state is None else state.value
            assert shown is not None
            found.append(TrialIncident(moment, shown))
        elif outcome == "close":
            found[-1].closed_at, found[-1].closed_value = moment, value
        state = now
    return found
