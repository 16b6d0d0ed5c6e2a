"""Licences through lives that nobody planned, against a plain model of them."""

import random
from datetime import UTC, datetime, timedelta

from fleets import Fleet, Unit
from owners import Owner
from prometheus_client import CollectorRegistry

from schemas.licenses import OFFERED_ANEW, REPORTED, IllegalStepError, LicenseState, Step, after
from schemas.metrics import Metrics
from schemas.redis import Redis
from workers.license_clock import LicenseClock

STEPS = 120
NOW, END = datetime(2026, 5, 4, tzinfo=UTC), "2090-01-01T00:00:00Z"
VENDOR = {"revoke": Step.REVOKE, "retry": Step.RETRY, "extend": Step.CHANGE}


class Lives:
    """Some licences and units; what each licence should be, worked out beside the gateway."""

    def __init__(self, acme: Owner, fleet: Fleet, clock: LicenseClock, chance: random.Random) -> None:
        self.acme = acme
        self.fleet = fleet
        self.clock = clock
        self.chance = chance
        self.turns = 0
        self.units: list[Unit] = []
        self.states: dict[str, LicenseState] = {}
        self.holders: dict[str, str | None] = {}

    async def begin(self) -> None:
        for _ in range(2):
            self.units.append(await self.fleet.unit(claimed=True))
        for number in range(8):
            body = {"model_id": str(self.acme.model_id), "data": "all"} | ({"expires_at": END} if number % 2 else {})
            made = await self.acme.partner("POST", "/licenses", body)
            self.states[made["id"]], self.holders[made["id"]] = LicenseState.AVAILABLE, None

    def expected(self, license_id: str, step: Step) -> tuple[int, LicenseState]:
        was = self.states[license_id]
        try:
            return 200, after(was, step)
        except IllegalStepError:
            return 422, was

    def likely(self, license_id: str, steps: dict[str, Step]) -> str:
        """Any of these words, more often one that leads on."""
        leads_on = [word for word, step in steps.items() if self.states[license_id] in step.leads]
        return self.chance.choice(leads_on * 3 + sorted(steps))

    async def vendor(self, license_id: str) -> None:
        call = self.likely(license_id, VENDOR)
        wanted, self.states[license_id] = self.expected(license_id, VENDOR[call])
        body = {"expires_at": END if list(self.states).index(license_id) % 2 else None} if call == "extend" else None
        path = f"/core/v1/partner/licenses/{license_id}/{call}"
        assert (await self.acme.ask("POST", path, body, self.acme.partner_key))[0] == wanted

    async def assign(self, license_id: str) -> None:
        unit = self.chance.choice(self.units)
        wanted, state = self.expected(license_id, Step.ASSIGN)
        if wanted == 200 and self.holders[license_id] not in (None, unit.id):
            wanted = 422
        path = f"/core/v1/partner/licenses/{license_id}/assign"
        status, _ = await self.acme.ask("POST", path, {"device_id": unit.id}, self.acme.partner_key)
        assert status == wanted
        if wanted == 200:
            self.states[license_id], self.holders[license_id] = state, unit.id

    async def report(self, license_id: str) -> None:
        word = self.likely(license_id, REPORTED)
        holder = [unit for unit in self.units if unit.id == self.holders[license_id]]
        unit = self.chance.choice(holder * 4 + self.units)
        if self.chance.random() < 0.5:
            await unit.call("GET", "/license")
        wanted, state = self.expected(license_id, REPORTED[word])
        if self.holders[license_id] != unit.id:
            wanted, state = 404, self.states[license_id]
        body = {"id": license_id, "state": word}
        assert (await unit.ask("POST", "/licenses", body))[0] == wanted, (word, self.states[license_id])
        self.states[license_id] = state

    async def expire(self, license_id: str) -> None:
        """Years later, and later each time; or now, when nothing is over."""
        late = self.chance.random() < 0.7
        self.turns += 1
        await self.clock.advance(datetime(2091, 1, 1, tzinfo=UTC) + timedelta(seconds=self.turns) if late else NOW)
        for number, (known, state) in enumerate(self.states.items()):
            if state is LicenseState.EXPIRED and late:
                self.states[known] = after(state, Step.REVOKE)
            elif state is LicenseState.INUSE and number % 2 and late:
                self.states[known] = after(state, Step.EXPIRE)

    async def delete(self, license_id: str) -> None:
        unit = self.units.pop(0)
        await self.acme.call("DELETE", f"/devices/{unit.id}")
        for known, holder in self.holders.items():
            if holder == unit.id and self.states[known] is not LicenseState.REMOVED:
                self.states[known], self.holders[known] = LicenseState.AVAILABLE, None
        self.units.append(await self.fleet.unit(claimed=True))

    async def replace(self, license_id: str) -> None:
        old = self.units.pop(0)
        body = self.fleet.registration()
        await self.acme.call("POST", f"/devices/{old.id}/replace", {"sn": body["sn"], "mac": body["mac"]})
        status, answer = await self.fleet.ask("POST", "/v1/devices", body)
        assert (status, answer["id"]) == (201, old.id)
        self.units.append(Unit(self.fleet, old.id, answer["access_key"], body["sn"], body["mac"]))
        for known, holder in self.holders.items():
            if holder == old.id:
                self.states[known] = OFFERED_ANEW.get(self.states[known], self.states[known])

    async def check(self) -> None:
        """States, holders, what is counted as pending and what devices are told are those of the model."""
        found = {one["id"]: one for one in (await self.acme.partner("GET", "/licenses"))["items"]}
        assert {known: (one["state"], one["device_id"]) for known, one in found.items()} == {
            known: (state.word, self.holders[known]) for known, state in self.states.items()
        }
        for unit in self.units:
            pending = {k for k, state in self.states.items() if self.holders[k] == unit.id and state.is_pending}
            assert (await self.acme.pool.fetchval(COUNTED, unit.id)) == len(pending)
            assert {one["id"] for one in await unit.call("GET", "/licenses")} == pending
            assert (await unit.waits())["new_licenses"] is bool(pending)


COUNTED = "SELECT pending_licenses FROM devices WHERE id = $1"


async def test_licences_keep_to_their_states_whatever_happens(fleet: Fleet, acme: Owner, redis_client: Redis) -> None:
    """Vendor, devices, clock, deletions and replacements in any order."""
    clock = LicenseClock(acme.pool, redis_client, Metrics(CollectorRegistry()))
    lives = Lives(acme, fleet, clock, random.Random(2))
    await lives.begin()
    acts = [lives.vendor, lives.assign, lives.report, lives.report, lives.expire, lives.delete, lives.replace]
    reached = set()
    for step in range(STEPS):
        (act,) = lives.chance.choices(acts, weights=[8, 4, 8, 8, 4, 1, 1])
        await act(lives.chance.choice(list(lives.states)))
        if step % 2:
            await lives.check()
        reached |= set(lives.states.values())
    assert len(reached) >= 6
