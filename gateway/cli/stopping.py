"""Ending a command that runs until SIGINT, SIGTERM or the end of its terminal: the first signal asks, a second one ends
it at once."""

import asyncio
import os
import signal

SECOND_SIGNAL_CODE = 130


def stop_event(said: str = "") -> asyncio.Event:
    """An event that SIGINT, SIGTERM and SIGHUP set; `nohup` has the last ignored. `said` is printed then; a second
    signal ends the process at once."""
    stop = asyncio.Event()

    def on_signal() -> None:
        if stop.is_set():
            os._exit(SECOND_SIGNAL_CODE)
        stop.set()
        if said:
            print(said, flush=True)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
            asyncio.get_running_loop().add_signal_handler(number, on_signal)
    return stop


async def stopped(stop: asyncio.Event, within_s: float) -> bool:
    """Wait for `stop`, so long at most; returns whether it came."""
    try:
        await asyncio.wait_for(stop.wait(), within_s)
    except TimeoutError:
        return stop.is_set()
    return True
