"""The benchmarks run where nothing but Python is."""

import os
import subprocess
import sys
from pathlib import Path


def test_a_benchmark_beside_its_peers_runs_without_any_tool_of_the_machine(repository: Path, tmp_path: Path) -> None:
    """Neither wrk nor taskset nor git: the generator of the package counts what every peer answers as accepted."""
    environment = {**os.environ, "PATH": str(tmp_path), "PYTHONPATH": str(repository)}
    command = [sys.executable, "-m", "bench", "--smoke", "--only", "telemetry"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    for peer in ("empty uvicorn app", "empty Starlette route", "nginx return 200"):
        assert f"ours ÷ {peer}, 64 connections" in done.stdout
    assert "telemetry_vs_empty_asgi" in done.stdout
