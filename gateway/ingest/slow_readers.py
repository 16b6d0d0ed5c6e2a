"""Connections whose clients do not take what they are sent: for how long, and how much of it all together.

    more is written than the client takes ──▶ watched: since when, and how much was left then
    every `timeout_s` ──▶ less is left by `BYTES_TAKEN_MIN`: watched on, as a client on a slow network
                     └──▶ else the connection is aborted
    all of them together leave more than `bytes_max` ──▶ aborted, from the one that was watched longest

A connection is watched while its buffer is above the mark of its transport (64 KiB), and when it is to end with
something left to send. So a client that never reads holds memory for a known time, and never more than is known.
"""

from asyncio import Transport

from schemas.metrics import Metrics

BYTES_TAKEN_MIN = 16 * 1024
"""In `timeout_s`: the slowest mobile networks carry a few KiB a second."""


class SlowReaders:
    """Those of one edge."""

    def __init__(self, *, timeout_s: float, bytes_max: int, metrics: Metrics) -> None:
        self._timeout_s = timeout_s
        self._bytes_max = bytes_max
        self._metrics = metrics
        self._watched: dict[Transport, tuple[float, int]] = {}
        """Since when, and how many bytes were left then; in the order of that."""
        self._bytes = 0

    def __repr__(self) -> str:
        return f"<SlowReaders {len(self._watched)} bytes={self._bytes}>"

    def watch(self, transport: Transport, now: float) -> None:
        """Something is left to be sent. Others may be aborted for it, or this one."""
        left = transport.get_write_buffer_size()
        if not left or transport in self._watched:
            return
        self._watched[transport] = now, left
        self._bytes += left
        if self._bytes > self._bytes_max:
            self._measure()
        while self._bytes > self._bytes_max and self._watched:
            self._abort(next(iter(self._watched)), "budget")

    def forget(self, transport: Transport) -> None:
        """It was taken, or the connection is gone."""
        _, left = self._watched.pop(transport, (0.0, 0))
        self._bytes -= left

    def tick(self, now: float) -> None:
        """Once a second: abort those that took too little in their time."""
        for transport, (since, was) in list(self._watched.items()):
            if now - since < self._timeout_s:
                break
            left = transport.get_write_buffer_size()
            if left > was - BYTES_TAKEN_MIN:
                self._abort(transport, "time")
            else:
                self.forget(transport)
                self.watch(transport, now)

    def _measure(self) -> None:
        """What is left by now."""
        for transport, (since, _) in self._watched.items():
            self._watched[transport] = since, transport.get_write_buffer_size()
        self._bytes = sum(left for _, left in self._watched.values())

    def _abort(self, transport: Transport, why: str) -> None:
        self.forget(transport)
        self._metrics.connections_aborted.labels(why).inc()
        transport.abort()
