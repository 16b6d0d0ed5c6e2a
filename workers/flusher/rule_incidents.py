"""Opens and closes the incidents of rules, in the transaction that stores the messages that led to it."""

from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime
from uuid import UUID

from schemas import incidents
from schemas.incidents import Closing, Opening, Place
from schemas.postgres import Connection
from workers.flusher.watch import Step, Watch

_Found = tuple[UUID, Watch, Step]
"""A step, its device, and where it was found."""


async def settle(connection: Connection, watches: Iterable[tuple[UUID, Watch]], moment: datetime) -> None:
    """Do what was found for these devices. A rule may have opened and closed within one batch: it takes turns."""
    turns: defaultdict[int, list[_Found]] = defaultdict(list)
    for device_id, watch in watches:
        for steps in watch.steps.values():
            for turn, step in enumerate(steps):
                turns[turn].append((device_id, watch, step))
    for turn in sorted(turns):
        closings = [
            Closing(device_id, step.rule.issue, step.value) for device_id, _, step in turns[turn] if step.before is None
        ]
        await incidents.close_each(connection, closings, moment, ["rule"])
        await _open(connection, [found for found in turns[turn] if found[2].before is not None], moment)


async def _open(connection: Connection, found: list[_Found], moment: datetime) -> None:
    openings = [
        Opening(
            device_id,
            "rule",
            step.rule.issue,
            step.rule.title,
            step.rule.description,
            step.rule.priority,
            UUID(step.rule.id),
            step.value,
        )
        for device_id, _, step in found
    ]
    opened = await incidents.open_each(connection, openings, moment)
    rest = [one for one in found if (one[0], one[2].rule.issue) not in opened]
    open_already = await _open_of(connection, {(device_id, step.rule.issue) for device_id, _, step in rest})
    for device_id, watch, step in rest:
        if (device_id, step.rule.issue) not in open_already:
            watch.put_off(step)


async def _open_of(connection: Connection, places: set[Place]) -> set[Place]:
    """Those of these where an incident is open."""
    if not places:
        return set()
    rows = await connection.fetch(
        """SELECT i.device_id, i.issue FROM unnest($1::uuid[], $2::text[]) AS p (device_id, issue)
             JOIN incidents i ON i.device_id = p.device_id AND i.issue = p.issue WHERE i.closed_at IS NULL""",
        [device_id for device_id, _ in places],
        [issue for _, issue in places],
    )
    return {(row["device_id"], row["issue"]) for row in rows}
