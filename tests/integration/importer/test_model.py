"""Lives of a connector and its devices against a plain model of the contract's table."""

import asyncio
from dataclasses import dataclass, field
from itertools import chain, product
from typing import Any
from uuid import UUID

from aiohttp import web
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from imports import Imports
from vendors import manifest

from workers.importer import diff, leases
from workers.importer.diff import LostRunError

ACTS = ("rename there", "rename here", "delete here", "restore", "list no more", "list again")
IDS = [f"d{n:02}" for n in range(14)]
OTHERS = [f"x{n:02}" for n in range(4)]
TOUCHED = (IDS[0], IDS[1], OTHERS[0])
"""The devices that are touched singly: few, so that several things happen to the same one."""

_touched = st.sampled_from(TOUCHED)
_acts = st.one_of(
    # What the vendor lists: most of it, nearly nothing, nothing, or all others.
    st.tuples(st.just("list"), st.frozensets(_touched).map(lambda gone: frozenset(IDS) - gone)),
    st.tuples(st.just("list"), st.frozensets(st.sampled_from(IDS), max_size=2)),
    st.tuples(st.just("list"), st.frozensets(st.sampled_from(OTHERS), min_size=1)),
    st.tuples(st.just("rename there"), _touched),
    st.tuples(st.just("rename there"), _touched),
    st.tuples(st.just("rename here"), _touched),
    st.tuples(st.just("delete here"), _touched),
    st.tuples(st.just("restore"), _touched),
    st.tuples(st.just("wait"), st.none()),
    st.tuples(st.just("disable"), st.none()),
    st.tuples(st.just("enable"), st.none()),
    st.tuples(st.just("confirm"), st.none()),
    st.tuples(st.just("confirm"), st.none()),
)
_syncs = st.tuples(st.just("sync"), st.sampled_from([*7 * ["well"], "fails", "partial", "killed", "overtaken"]))
_rounds = st.tuples(st.lists(_acts, min_size=1, max_size=3), _syncs).map(lambda one: [*one[0], one[1]])


@dataclass
class Record:
    """An imported device as the table says it is."""

    told: str
    name: str
    excluded: str | None = None


@dataclass
class Model:
    """The contract, in plain words. When a list is held is the connector's to say, within what no list may do."""

    listed: dict[str, str] = field(default_factory=dict)
    records: dict[str, Record] = field(default_factory=dict)
    enabled: bool = True
    held: object = None
    """What the list that waits for a person would change."""
    confirmed: object = None

    def active(self) -> set[str]:
        return {name for name, record in self.records.items() if record.excluded is None}

    def sync(self, *, held: bool) -> None:
        """A complete list arrives. It is applied, or held: then nothing changes."""
        gone = frozenset(self.active() - set(self.listed))
        here = {name for name in self.listed if name not in self.records or self.records[name].excluded == "missing"}
        change = (gone, here)
        if not gone:
            assert not held, "nothing is missing"
        elif self.confirmed == change:
            assert not held, "a person confirmed just this"
        elif gone == self.active():
            assert held, "it would take all"
        self.held, self.confirmed = (change, None) if held else (None, None)
        if not held:
            self._apply(gone)

    def _apply(self, gone: frozenset[str]) -> None:
        for name in gone:
            self.records[name].excluded = "missing"
        for name, told in self.listed.items():
            record = self.records.get(name)
            if record is None:
                self.records[name] = Record(told, told)
            elif record.excluded != "user_deleted":
                record.name = told if record.name == record.told else record.name
                record.told, record.excluded = told, None


async def _play(imports: Imports, steps: list[tuple[str, Any]]) -> None:
    imports.cloud.before = imports.cloud.total = None
    connector = await imports.connector()
    model = Model()
    for kind, value in steps:
        await _act(imports, connector, model, kind, value)
        if kind == "sync":
            await _compare(imports, connector, model)


async def _act(imports: Imports, connector: str, model: Model, kind: str, value: Any) -> None:
    acme = imports.acme
    record = model.records.get(value) if isinstance(value, str) else None
    match kind:
        case "list":
            model.listed = {name: model.listed.get(name, name) for name in sorted(value)}
        case "list no more":
            model.listed.pop(value, None)
        case "list again":
            model.listed.setdefault(value, value)
        case "rename there" if value in model.listed:
            model.listed[value] += "'"
        case "delete here" if record and record.excluded != "user_deleted":
            await acme.call("DELETE", f"/devices/{await _device(imports, connector, value)}")
            record.excluded = "user_deleted"
        case "rename here" if record and record.excluded != "user_deleted":
            await acme.call("PATCH", f"/devices/{await _device(imports, connector, value)}", {"name": "mine"})
            record.name = "mine"
        case "restore":
            answer = await acme.call("POST", f"/connectors/{connector}/devices/{value}/restore")
            was = record is not None and record.excluded == "user_deleted"
            assert (answer == {"success": True}) is was
            if was:
                del model.records[value]
        case "disable":
            await acme.call("POST", f"/connectors/{connector}/disable")
            model.enabled = False
        case "enable":
            await acme.call("POST", f"/connectors/{connector}/enable")
            model.enabled = True
        case "confirm":
            answer = await acme.call("POST", f"/connectors/{connector}/confirm")
            assert (answer == {"success": True}) is (model.held is not None)
            model.confirmed = model.held
        case "wait":
            imports.clock.move(minutes=12)
        case "sync" if model.enabled:
            await _sync(imports, connector, model, value)


async def _device(imports: Imports, connector: str, vendor_id: str) -> UUID:
    found: UUID = await imports.pool.fetchval(
        "SELECT device_id FROM cloud_devices WHERE connector_id = $1 AND vendor_id = $2", connector, vendor_id
    )
    return found


async def _sync(imports: Imports, connector: str, model: Model, how: str) -> None:
    cloud = imports.cloud
    cloud.devices = [{"id": name, "name": told} for name, told in model.listed.items()]
    cloud.total = len(cloud.devices) + 1 if how == "partial" else None
    cloud.before = (lambda *_: web.json_response({}, status=400)) if how == "fails" else None
    if how in ("well", "fails", "partial"):
        run = await imports.sync(connector)
        assert (run["error"] is None) is (how == "well")
        if how == "well":
            model.sync(held=(await imports.shown(connector))["held"] is not None)
        return
    leased = await imports.claim(connector)
    if how == "overtaken":
        # Another worker takes it over when the lease has run out; what this one read is void.
        await imports.pool.execute(
            "UPDATE cloud_connectors SET lease_holder = gen_random_uuid() WHERE id = $1", connector
        )
        try:
            await imports.runs.run(leased)
        except LostRunError:
            return
        raise AssertionError("a run without its lease was applied")
    real = diff.apply

    async def die(*arguments: Any) -> None:
        await real(*arguments)
        raise asyncio.CancelledError

    diff.apply = die
    try:
        await imports.runs.run(leased)
    except asyncio.CancelledError:
        return
    else:
        model.sync(held=True)  # nothing was applied
    finally:
        diff.apply = real
        await leases.release(imports.pool, imports.holder, leased)


async def _compare(imports: Imports, connector: str, model: Model) -> None:
    rows = await imports.pool.fetch(
        """SELECT c.vendor_id, c.excluded, c.name AS told, d.name, d.deleted_at IS NULL AS there
             FROM cloud_devices c JOIN devices d ON d.id = c.device_id WHERE connector_id = $1""",
        connector,
    )
    found = {row["vendor_id"]: (row["excluded"], row["told"], row["name"]) for row in rows}
    assert found == {name: (r.excluded, r.told, r.name) for name, r in model.records.items()}
    assert {row["vendor_id"]: row["there"] for row in rows} == {
        name: record.excluded != "user_deleted" for name, record in model.records.items()
    }
    shown = await imports.shown(connector)
    assert (shown["held"] is not None) == (model.held is not None)
    assert shown["active_devices"] == len(model.active())


async def test_every_short_life_of_a_device_goes_as_the_table_says(imports: Imports) -> None:
    """All threes of what may happen to it, with a list imported after each: one device for each life, all at once."""
    (imports.cloud.folder / "acme.toml").write_text(manifest("offset", total=True))
    imports.cloud.page_size = 100
    lives = {"-".join(map(str, life)): life for life in product(range(len(ACTS)), repeat=3)}
    connector = await imports.connector()
    model = Model()
    await _act(imports, connector, model, "list", lives)
    for turn in range(4):
        for name, life in lives.items() if turn else ():
            await _act(imports, connector, model, ACTS[life[turn - 1]], name)
        await _act(imports, connector, model, "sync", "well")
        await _compare(imports, connector, model)
        if model.held:
            await _act(imports, connector, model, "confirm", None)
            await _act(imports, connector, model, "sync", "well")
            assert model.held is None
            await _compare(imports, connector, model)


async def test_any_life_of_a_connector_goes_as_the_table_says(imports: Imports) -> None:
    """Vendor's changes, users' deletes and names, failures, partial lists, kills, disabling, in any order.

    Other lives each time; one that goes wrong is told with the decorator that plays it again.
    """
    (imports.cloud.folder / "acme.toml").write_text(manifest("offset", total=True))
    imports.cloud.page_size = 8
    loop = asyncio.get_running_loop()

    # A life that goes wrong is not made shorter: that takes minutes.
    @settings(
        max_examples=30,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        print_blob=True,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.sampled_from([IDS, IDS[:2]]), st.lists(_rounds, min_size=4, max_size=8))
    def lives(first: list[str], rounds: list[list[tuple[str, Any]]]) -> None:
        # Every life begins with a list that was imported, of many devices or of few.
        steps = [("list", frozenset(first)), ("sync", "well"), *chain.from_iterable(rounds)]
        asyncio.run_coroutine_threadsafe(_play(imports, steps), loop).result(60)

    await asyncio.to_thread(lives)
