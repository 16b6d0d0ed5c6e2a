"""Where crash tests let a worker die: at a named point of its work, as `kill -9` would."""

import os
import signal
from collections.abc import Callable

Checkpoint = Callable[[str], None]
"""Called with the name of each point that is reached."""


def die_at(name: str) -> Checkpoint:
    """A checkpoint that kills this process when it comes to `name`; with `name:n` the nth time."""
    name, _, times = name.partition(":")
    left = int(times or 1)

    def check(reached: str) -> None:
        nonlocal left
        if reached == name:
            left -= 1
            if not left:
                os.kill(os.getpid(), signal.SIGKILL)

    return check
