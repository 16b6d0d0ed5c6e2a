"""What 100 rules on the model of all devices cost the flusher: rounds with and without them in turn.

No value is beyond a threshold, as of nearly all messages: what an incident costs that is opened is another matter.
"""

from statistics import median

from bench.flush import Cost, Flushing
from bench.results import Report
from bench.rig import Rig
from schemas import ids
from schemas.postgres import Pool

RULES = 100
KEYS = ("n", "cpu", "mem", "disk")
RATIO = 0.95


async def run(rig: Rig, report: Report, *, rounds: int) -> None:
    """What the flusher does in the same time of its core with rules, as a part of what it does without."""
    without: list[Cost] = []
    ruled: list[Cost] = []
    async with Flushing(rig) as flushing:
        await flushing.measure()  # the states of all devices are there from now on
        for number in range(rounds):
            await flushing.pool.execute("DELETE FROM incident_rules")
            without.append(await flushing.measure())
            await _add_rules(flushing.pool, rig)
            ruled.append(await flushing.measure())
            report.progress(f"rules: round {number + 1} of {rounds}")
    for name, costs in (("no rules", without), (f"{RULES} rules on the model", ruled)):
        rate, taken = median(cost.rate for cost in costs), median(cost.flusher_us for cost in costs)
        report.add("rules", f"flusher with {name}", f"{rate:,.0f}/s, {taken:.1f} µs", rate=rate, µs=taken)
    ratio = median(cost.flusher_us for cost in without) / median(cost.flusher_us for cost in ruled)
    report.ratio("rules_vs_none", ratio, at_least=RATIO)


async def _add_rules(pool: Pool, rig: Rig) -> None:
    organization_id = await pool.fetchval("SELECT organization_id FROM projects WHERE id = $1", rig.project_id)
    await pool.executemany(
        """INSERT INTO incident_rules
                  (id, organization_id, as_vendor, model_id, telemetry_key, comparison, value, hysteresis, title)
           VALUES ($1, $2, false, $3, $4, $5, $6, 2, 'Beyond')""",
        [
            (ids.new_id(), organization_id, rig.model_id, KEYS[n % 4], *(("gt", 10**6 + n), ("lt", -n))[n // 4 % 2])
            for n in range(RULES)
        ],
    )
