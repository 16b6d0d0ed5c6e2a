"""What the dispatcher notes of deliveries and edges read: how latencies are kept, how much of it, by whom.

The ledger: accepted = delivered + pending + expired + dropped + superseded, for each connector, at every moment. Events
are accepted when a connector's place in the log moves past them; those that lie ahead of it are its backlog.
"""

from datetime import timedelta

LATENCY_BOUNDS_MS = (
    *(1, 2, 3, 5, 7, 10, 15, 20, 30, 50, 70, 100, 150, 200, 300, 500, 700),
    *(1_000, 1_500, 2_000, 3_000, 5_000, 7_000, 10_000),
)
"""Upper bounds of the buckets in `delivery_minutes.latencies`; one more bucket holds all above."""
MINUTES_KEPT = timedelta(hours=24)
"""A chart of the night before: of a connector that is never still 300 KB."""
METRICS_WINDOW = timedelta(hours=3)
ATTEMPTS_KEPT = 100
"""Of those that failed, and of those that did not: neither takes the other's room."""
SLOTS = 32
"""Every connector lies in one, by its id; a dispatcher owns a slot while it holds the advisory lock of its number."""
SLOT_LOCKS = 0x64697370
"""The first number of these locks."""
