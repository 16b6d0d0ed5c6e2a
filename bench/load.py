"""Load on one URL: `wrk` where it is installed (it needs least of a core), else the generator of this package."""

import asyncio
import re
import shutil
import sys
from pathlib import Path

import msgspec

from bench.generator import Outcome
from bench.rig import REST, pinned

_SCRIPT = """
local requests, count, place = {}, 0, 0
local body = '{"status":"online","telemetries":{"n":1,"cpu":12.5,"mem":44,"disk":81,"up":true,"fw":"1.2.3"}}'
function init(arguments)
  for line in io.lines("%s") do
    local id, key = line:match("(%%S+) (%%S+)")
    count = count + 1
    requests[count] = wrk.format("POST", "/v1/devices/" .. id .. "/telemetry",
      {["Authorization"] = key, ["Content-Type"] = "application/json"}, body)
  end
end
function request() place = place %% count + 1; return requests[place] end
"""
_UNITS_MS = {"us": 0.001, "ms": 1.0, "s": 1000.0}


async def closed(url: str, devices: Path, *, connections: int, seconds: float) -> Outcome:
    """As many messages as are answered, one under way on each connection."""
    if shutil.which("wrk") is None or seconds < 1:  # it counts in whole seconds
        return await generate(url, devices, connections=connections, seconds=seconds)
    script = devices.with_suffix(".lua")
    script.write_text(_SCRIPT % devices)
    text = await _output("wrk", "-t1", f"-c{connections}", f"-d{seconds:g}s", "--latency", "-s", str(script), url)
    answered, took_s = re.search(r"(\d+) requests in ([\d.]+)s", text).groups()  # type: ignore[union-attr]
    refused = re.search(r"Non-2xx or 3xx responses: (\d+)", text)
    broken = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", text)
    bad = int(refused[1]) if refused else 0
    accepted = int(answered) - bad
    return Outcome(
        seconds=float(took_s),
        answered=int(answered),
        accepted=accepted,
        rate=accepted / float(took_s),
        p50_ms=_latency(text, "50%"),
        p99_ms=_latency(text, "99%"),
        max_ms=_latency(text, "Latency", place=2),
        unanswered=sum(map(int, broken.groups())) if broken else 0,
        statuses={"2xx": accepted, "other": bad},
    )


async def generate(
    url: str,
    devices: Path,
    *,
    connections: int,
    seconds: float,
    rate: float = 0.0,
    mass: int = 0,
    template: Path | None = None,
    cores: str = REST,
) -> Outcome:
    """One run of `bench.generator` in a process of its own."""
    words = [sys.executable, "-m", "bench.generator", url, str(devices)]
    words += [f"--connections={connections}", f"--seconds={seconds}", f"--rate={rate}", f"--mass={mass}"]
    words += [f"--template={template}"] if template else []
    return msgspec.json.decode(await _output(*words, cores=cores), type=Outcome)


async def _output(*command: str, cores: str = REST) -> str:
    process = await asyncio.create_subprocess_exec(*pinned(cores, *command), stdout=asyncio.subprocess.PIPE)
    output, _ = await process.communicate()
    assert process.returncode == 0, f"{command[0]} ended with {process.returncode}"
    return output.decode()


def _latency(text: str, label: str, place: int = 0) -> float:
    """A figure of wrk's report in ms: of a percentile, or of the columns of its `Latency` line."""
    line = next(line for line in text.splitlines() if line.strip().startswith(label))
    number, unit = re.findall(r"([\d.]+)(us|ms|s)\b", line)[place]
    return float(number) * _UNITS_MS[unit]
