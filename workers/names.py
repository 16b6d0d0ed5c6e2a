"""Addresses of names that users gave us: looked up once at a time each, remembered, and at nobody else's cost.

Who may look up next while name servers are silent: `workers.lookup_turns`. Whoever had an answer is served the last one
while the next is looked up, or cannot be had just now: only what a name server says for certain (there is no such name,
its address is refused) ends it.
"""

import asyncio
import socket
from collections import OrderedDict
from collections.abc import Hashable
from typing import NamedTuple

from aiohttp.abc import AbstractResolver, ResolveResult

from schemas.egress import EgressError
from workers.lookup_turns import LookupTurns

KEPT_S = 10.0
"""An answer is not asked for again for so long."""
MEANWHILE_S = 0.25
"""So long the next answer is waited for where there is one to go on with."""
LAST_GOOD_S = 3600.0
"""An older answer is no answer."""
KNOWN_MAX = 20_000
_TEMPORARY = {socket.EAI_AGAIN, socket.EAI_SYSTEM, socket.EAI_FAIL, socket.EAI_MEMORY}


class LookupFailure(OSError):
    """A name has no address, or none could be found out."""


class NamesOfTenant(AbstractResolver):
    """One tenant's names, for aiohttp. They are looked up and remembered beside those of all others."""

    def __init__(self, names: "Names", tenant: Hashable) -> None:
        self._names = names
        self._tenant = tenant

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """The permitted addresses of a host, of any family. Raises as `Names.addresses` does."""
        return await self._names.addresses(host, port, self._tenant)

    async def close(self) -> None:
        """Others go on."""


class _Known(NamedTuple):
    addresses: list[ResolveResult]
    at: float


class Names:
    """The names that one event loop connects to."""

    def __init__(self, resolver: AbstractResolver, timeout_s: float) -> None:
        """`timeout_s` is how long somebody waits for a first answer; the look-up itself goes on."""
        self._resolver = resolver
        self._timeout_s = timeout_s
        self._known: OrderedDict[tuple[str, int], _Known] = OrderedDict()
        self._pending: dict[tuple[str, int], tuple[asyncio.Task[list[ResolveResult]], float]] = {}
        self._turns = LookupTurns()

    def __repr__(self) -> str:
        return f"<Names known={len(self._known)} pending={len(self._pending)}>"

    async def addresses(self, host: str, port: int, tenant: Hashable) -> list[ResolveResult]:
        """The permitted addresses of a host. Raises LookupFailure, or EgressError where it has only others."""
        loop, key = asyncio.get_running_loop(), (host, port)
        known = self._known.get(key)
        if known is not None and loop.time() - known.at < KEPT_S:
            return known.addresses
        if known is not None and loop.time() - known.at > LAST_GOOD_S:
            known = None
        lookup, since = self._pending.get(key) or self._begin(key, tenant, answered=known is not None)
        wait_s = self._timeout_s if known is None else max(0.0, since + MEANWHILE_S - loop.time())
        try:
            async with asyncio.timeout(wait_s) as waiting:
                return await asyncio.shield(lookup)
        except EgressError:
            raise
        except (OSError, UnicodeError) as error:
            late = isinstance(error, TimeoutError) and waiting.expired()
            if known is not None and (late or _is_temporary(error)):
                return known.addresses
            reason = f"no name server answered within {self._timeout_s:g} s" if late else error
            raise LookupFailure(f"{host}: {reason}") from error

    async def close(self) -> None:
        """Look up no more names."""
        await self._resolver.close()

    def _begin(
        self, key: tuple[str, int], tenant: Hashable, *, answered: bool
    ) -> tuple[asyncio.Task[list[ResolveResult]], float]:
        lookup = asyncio.create_task(self._look_up(key, tenant, answered=answered))
        lookup.add_done_callback(lambda done: self._remember(key, done))
        self._pending[key] = found = lookup, asyncio.get_running_loop().time()
        return found

    async def _look_up(self, key: tuple[str, int], tenant: Hashable, *, answered: bool) -> list[ResolveResult]:
        await self._turns.begin(tenant, answered=answered)
        try:
            return await self._resolver.resolve(*key)
        finally:
            self._turns.end(tenant, answered=answered)

    def _remember(self, key: tuple[str, int], lookup: "asyncio.Task[list[ResolveResult]]") -> None:
        del self._pending[key]
        if lookup.cancelled():
            return
        error = lookup.exception()
        if error is None:
            self._known[key] = _Known(lookup.result(), asyncio.get_running_loop().time())
            self._known.move_to_end(key)
            if len(self._known) > KNOWN_MAX:
                self._known.popitem(last=False)
        elif not _is_temporary(error):
            self._known.pop(key, None)


def _is_temporary(error: BaseException) -> bool:
    """Whether a name server may say something else in a moment."""
    return isinstance(error, socket.gaierror) and error.errno in _TEMPORARY
