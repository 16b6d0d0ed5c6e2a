"""Whose name is looked up next, while name servers are slow or silent: no tenant's are in the way of another's.

A look-up of a silent name holds a thread of the system's resolver for half a minute. So a tenant has few under way, and
of names that never had an answer all tenants together have so many, but one each: whoever has none under way begins
at once, while there are threads at all. Names that had an answer find a part of the threads always free.
"""

from asyncio import CancelledError, Future, get_running_loop
from collections import Counter, OrderedDict, deque
from collections.abc import Hashable
from typing import NamedTuple

from schemas.egress import LOOKUPS_MAX

OF_TENANT = 4
SHARED_MAX = LOOKUPS_MAX // 4
UNANSWERED_MAX = LOOKUPS_MAX - LOOKUPS_MAX // 8
"""Look-ups under way of one tenant; of names without an answer, those that any tenant may begin, and all. What lies
between is for those who have none under way."""


class _Waiting(NamedTuple):
    begin: Future[None]
    answered: bool


class LookupTurns:
    """For one event loop. One method decides; whoever ends a look-up lets others begin."""

    def __init__(self) -> None:
        self._under_way: Counter[Hashable] = Counter()
        self._unanswered: Counter[Hashable] = Counter()
        self._waiting: OrderedDict[Hashable, deque[_Waiting]] = OrderedDict()

    def __repr__(self) -> str:
        return f"<LookupTurns under_way={self._under_way.total()} waiting={sum(map(len, self._waiting.values()))}>"

    async def begin(self, tenant: Hashable, *, answered: bool) -> None:
        """Wait until a look-up may begin; `answered` tells whether the name had an answer before.

        Whoever returns from here calls `end`.
        """
        if self._may_begin(tenant, answered=answered):
            self._count(tenant, answered=answered)
            return
        waiting = _Waiting(get_running_loop().create_future(), answered)
        self._waiting.setdefault(tenant, deque()).append(waiting)
        try:
            await waiting.begin
        except CancelledError:
            if not waiting.begin.cancelled():
                self.end(tenant, answered=answered)  # It may begin, but nobody is there to look up.
            raise

    def end(self, tenant: Hashable, *, answered: bool) -> None:
        """A look-up has ended: whoever may now begins."""
        for counts, ended in ((self._under_way, 1), (self._unanswered, not answered)):
            counts[tenant] -= ended
            if not counts[tenant]:
                del counts[tenant]
        for other in list(self._waiting):
            self._let_begin(other)

    def _may_begin(self, tenant: Hashable, *, answered: bool) -> bool:
        if self._under_way[tenant] >= OF_TENANT:
            return False
        return answered or self._unanswered.total() < (UNANSWERED_MAX if not self._unanswered[tenant] else SHARED_MAX)

    def _count(self, tenant: Hashable, *, answered: bool) -> None:
        self._under_way[tenant] += 1
        self._unanswered[tenant] += not answered

    def _let_begin(self, tenant: Hashable) -> None:
        """Whoever of a tenant's waits and may begin now; tenants take turns."""
        queue = self._waiting[tenant]
        while queue:
            waiting = queue[0]
            if not waiting.begin.done():
                if not self._may_begin(tenant, answered=waiting.answered):
                    return
                self._count(tenant, answered=waiting.answered)
                waiting.begin.set_result(None)
                self._waiting.move_to_end(tenant)
            queue.popleft()
        del self._waiting[tenant]
