"""A daily window of local time, in whichever time zone a device's space is. It may span midnight."""

from datetime import datetime, time, timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo

_DAYS = (-1, 0, 1, 2)
"""The days, counted from today, on which a window may have opened that is open, or opens next."""


class Window(NamedTuple):
    """Opens every day at `opens`, and closes at `closes`, of the same day or of the next."""

    opens: time
    closes: time

    def is_open(self, moment: datetime, zone: str) -> bool:
        """Whether it is open somewhere at a moment."""
        return any(opened <= moment < closed for opened, closed in self._around(moment, zone))

    def next_change(self, moment: datetime, zone: str) -> datetime:
        """When it closes if it is open, or else opens."""
        return min(edge for around in self._around(moment, zone) for edge in around if edge > moment)

    def _around(self, moment: datetime, zone: str) -> list[tuple[datetime, datetime]]:
        place = ZoneInfo(zone)
        today = moment.astimezone(place).date()
        length = timedelta(days=1) if self.closes <= self.opens else timedelta()
        found = []
        for day in (today + timedelta(days=days) for days in _DAYS):
            opened = datetime.combine(day, self.opens, place)
            closed = datetime.combine(day + length, self.closes, place)
            found.append((opened.astimezone(moment.tzinfo), closed.astimezone(moment.tzinfo)))
        return found
