"""Least, default and most of what people may set. The schema's CHECK constraints hold the same: a test compares."""

from typing import NamedTuple


class Bounds(NamedTuple):
    """All three belong to the range."""

    least: int
    default: int
    most: int


OFFLINE_THRESHOLD_S = Bounds(10, 300, 2_592_000)
"""Seconds of silence after which a device of a model is offline."""
RATE_LIMIT = Bounds(1, 30, 1_000_000)
"""Calls of a device in 30 s."""
COMMAND_TIMEOUT_S = Bounds(1, 600, 2_592_000)
"""Seconds from the first delivery of a command until it has failed."""
RETRY_WINDOW_S = Bounds(60, 43_200, 604_800)
"""For how long an event is tried again that a data connector's receiver does not take."""
IN_FLIGHT = Bounds(1, 1_000, 1_000)
"""Requests at once to a data connector's receiver."""
STATE_KEYS = Bounds(100, 1_000, 20_000)
"""Keys of a device's state."""
STATE_BYTES = Bounds(4_096, 65_536, 1_048_576)
"""Bytes of a device's state as JSON."""
ROLLOUT_TIMEOUT_S = Bounds(60, 86_400, 7_776_000)
"""Seconds from the offer of firmware until a device has not reported back in time."""
ROLLOUT_GRACE_S = Bounds(0, 600, 604_800)
"""Seconds that a device has to report its new version once it said that the command is done."""
ROLLOUT_SOAK_S = Bounds(0, 0, 7_776_000)
"""Seconds that a wave rests before the next one may begin."""
ROLLOUT_RETRIES = Bounds(0, 1, 10)
"""How often a device is offered firmware again after it failed."""
PAGE_BYTES_MAX = 4 * 1024 * 1024
"""Of the JSON in one page of a list."""
SPACE_PATH_BYTES_MAX = 2_000
"""Of a space's full path. An index entry of PostgreSQL holds at most about 2,700 bytes."""
SPACE_DEPTH_MAX = 32
"""Names of a space's full path."""
