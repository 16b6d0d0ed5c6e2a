"""The benchmarks run where nothing but Python is."""

import os
import re
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


def test_comparisons_without_a_peer_measure_ours_and_say_how_to_get_one(repository: Path) -> None:
    """Both at once, for a moment each."""
    words = ["--rounds", "1", "--seconds", "0.3", "--warm", "0.1", "--devices", "20", "--rate", "20"]
    environment = {**os.environ, "PYTHONPATH": str(repository)}
    modules = {"bench.peers_webhooks": "delivered a second", "bench.peers_ingest": "stored a second"}
    running = {
        module: subprocess.Popen(
            [sys.executable, "-m", module, *words],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for module in modules
    }
    for module, process in running.items():
        output, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors
        figures = dict(re.findall(r"^ours +(.+?)  +([\d.,]+)$", output, re.MULTILINE))
        assert float(figures[modules[module]].replace(",", "")) > 0
        assert re.search("^not measured: .+ To get it: .+ then --peer .+=EXECUTABLE$", output, re.MULTILINE)
