"""What a run found: printed while it goes on, kept as JSON with the machine and the commit it was found on."""

import os
import platform
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import psutil

FOLDER = Path(__file__).parent / "results"
LATEST = FOLDER / "latest.json"


class Report:
    """Collects figures, and the named ratios that the limits are set for."""

    def __init__(self) -> None:
        self._rows: list[dict[str, Any]] = []
        self._named: dict[str, Any] = {}

    def progress(self, text: str) -> None:
        """Tell a waiting person how far it is."""
        print(f"  {text}", file=sys.stderr, flush=True)

    def add(self, section: str, name: str, shown: str, **figures: Any) -> None:
        """One line of the table."""
        print(f"{section:12} {name:58} {shown:>16}", flush=True)
        self._rows.append({"section": section, "name": name, "shown": shown, **figures})

    def ratio(self, name: str, value: float, *, at_least: float | None = None, at_most: float | None = None) -> None:
        """A named figure and the limit it is held against."""
        limit, held = "", True
        if at_least is not None:
            limit, held = f"(wanted ≥ {at_least:g})", value >= at_least
        elif at_most is not None:
            limit, held = f"(wanted ≤ {at_most:g})", value <= at_most
        mark = "" if held else "  ← falls short"
        print(f"{'':12} {name:58} {value:>16,.2f} {limit}{mark}", flush=True)
        self._named[name] = value

    def figures(self, name: str, figures: dict[str, Any]) -> None:
        """Several figures under one name."""
        self._named[name] = figures

    def write(self) -> Path:
        """Write the run's own file, and bring `latest.json` up to date with the named figures of this run."""
        FOLDER.mkdir(exist_ok=True)
        now = datetime.now(UTC)
        kept = {"measured_at": now, "commit": _commit(), "machine": machine(), "named": self._named, "rows": self._rows}
        path = FOLDER / f"{now:%Y%m%d-%H%M%S}.json"
        path.write_bytes(_pretty(kept))
        latest = msgspec.json.decode(LATEST.read_bytes()) if LATEST.exists() else {}
        LATEST.write_bytes(_pretty(latest | self._named))
        return path


def machine() -> dict[str, Any]:
    """The class of machine, as far as it matters for a comparison."""
    model = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), model)
    return {
        "cores": os.cpu_count(),
        "processor": model,
        "memory_gib": round(psutil.virtual_memory().total / 2**30),
        "system": platform.system(),
        "python": platform.python_version(),
    }


def _commit() -> str:
    """What was measured; unknown where there is no git."""
    if shutil.which("git") is None:
        return "unknown"
    done = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, cwd=FOLDER.parent)
    return done.stdout.strip()


def _pretty(value: Any) -> bytes:
    return msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n"
