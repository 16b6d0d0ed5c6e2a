"""Lets stores pause in the middle of what takes long, without knowing what they pause for.

Whoever runs something long says how it lets others go first (`gateway.tenant_shares`); what is run says where it can:
between two statements, or two parts of an answer. Nothing happens there in calls that are short.
"""

from collections.abc import Awaitable, Callable
from contextvars import ContextVar

Pause = Callable[[], Awaitable[None]]

PAUSE: ContextVar[Pause | None] = ContextVar("pause", default=None)
"""Of the call that is under way."""


async def let_others_go_first() -> None:
    """Wait as long as the call under way should."""
    pause = PAUSE.get()
    if pause is not None:
        await pause()
