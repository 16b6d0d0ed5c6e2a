"""How the gateway itself is, for its operators: what `/metrics` knows, drawn, and what `fleetgate doctor` says.

All tenants share a gateway, so no role in an organization opens this page: whoever types the token of `/metrics` sees
it, signed in or not. The token is in no address, no cookie and no page; looking again asks for it again.
"""

import asyncio
from collections import defaultdict
from collections.abc import Iterable

from msgspec import Struct
from prometheus_client import Metric
from prometheus_client.samples import Sample

from gateway.operations import findings, metrics
from gateway.operations.findings import Finding
from gateway.portal.forms import DoesNotFitFields, Form
from gateway.portal.page import page
from gateway.portal.rendering import View
from gateway.refusals import Unauthenticated
from gateway.services import Services

PATH = "/gateway"
LOOK_S = 5.0
"""For how long a store is looked at: one that is away may not answer at all."""


class TokenForm(Struct):
    """What opens `/metrics`."""

    token: str


class Readings:
    """What was measured, as a page asks for it; None for what nobody could tell now."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._samples: dict[str, list[Sample]] = defaultdict(list)
        for family in families:
            for sample in family.samples:
                self._samples[sample.name.removeprefix("fleetgate_")].append(sample)

    def total(self, name: str) -> int | None:
        """The sum over all labels."""
        found = self._samples[name]
        return round(sum(sample.value for sample in found)) if found else None

    def most(self, name: str) -> float | None:
        """The largest of all labels."""
        return max((sample.value for sample in self._samples[name]), default=None)

    def mean_ms(self, name: str) -> float | None:
        """The mean of a histogram of seconds, in milliseconds."""
        count = self.total(f"{name}_count")
        took_s = sum(sample.value for sample in self._samples[f"{name}_sum"])
        return 1_000 * took_s / count if count else None

    def by(self, name: str, label: str) -> list[tuple[str, int]]:
        """Values by a label, without those that are 0; the largest first."""
        found: dict[str, float] = defaultdict(float)
        for sample in self._samples[name]:
            found[sample.labels[label]] += sample.value
        return sorted(((one, round(value)) for one, value in found.items() if value), key=lambda one: (-one[1], one[0]))


@page("GET", PATH, caller=None)
async def ask_for_token(services: Services, form: Form) -> View:
    """Ask for the token."""
    return View("gateway_health.html", {"form": form, "seen": None, "is_open": bool(services.settings.metrics_token)})


@page("POST", PATH, caller=None, shown_by=ask_for_token)
async def show_health(services: Services, body: TokenForm) -> View:
    """What is known now."""
    try:
        metrics.check(body.token, services.settings.metrics_token)
    except Unauthenticated as refusal:
        raise DoesNotFitFields({"token": refusal.text}) from None
    seen = Readings(await metrics.gathered(services))
    values = {"form": Form(), "seen": seen, "is_open": True, "findings": await _found(services)}
    return View("gateway_health.html", values)


async def _found(services: Services) -> list[Finding]:
    """What is well and what is to be fixed, as this edge sees it."""
    settings = services.settings
    found: list[Finding] = []
    for look in (
        findings.of_redis(settings.redis_url, settings.redis_ca),
        findings.of_postgres(settings.postgres_dsn, settings),
        findings.addresses(),
        findings.readable_manifests(),
    ):
        try:
            async with asyncio.timeout(LOOK_S):
                found += [finding async for finding in look]
        except TimeoutError:
            found.append(Finding(False, f"A store did not answer within {LOOK_S:g} s"))
    return sorted(found, key=lambda one: one.good)


PAGES = (ask_for_token, show_health)
