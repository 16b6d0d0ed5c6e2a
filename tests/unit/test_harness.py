"""The test suite itself: it comes to an end whatever a test does."""

import subprocess
import sys
from pathlib import Path

import pytest

WAIT_S = 60


def run(folder: Path, repository: Path, test: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Run one test with this suite's configuration, in a process of its own."""
    (folder / "test_one.py").write_text(test)
    configured = ("-c", str(repository / "pyproject.toml"), "-p", "tests.conftest", "-p", "no:schemathesis")
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", *configured, *words, f"--rootdir={folder}", str(folder / "test_one.py")],
        cwd=repository,
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        check=False,
    )


def test_a_connection_left_open_by_a_failed_test_does_not_keep_the_run_from_ending(
    tmp_path: Path, repository: Path
) -> None:
    """The event loop is closed, the failure reported."""
    test = (
        "import asyncio\n"
        "kept = []\n"
        "async def test_leaks():\n"
        "    server = await asyncio.start_server(lambda *both: kept.append(both), '127.0.0.1', 0)\n"
        "    kept.append(await asyncio.open_connection(*server.sockets[0].getsockname()))\n"
        "    raise AssertionError('as expected')\n"
    )
    ended = run(tmp_path, repository, test)
    assert ended.returncode == 1, ended.stdout
    assert "as expected" in ended.stdout


@pytest.mark.parametrize("processes", ["0", "1"])
def test_a_test_that_hangs_ends_the_run_with_a_trace(tmp_path: Path, repository: Path, processes: str) -> None:
    """Of all threads, with the line that waits; the time it gets is a setting. It is not tried again elsewhere."""
    test = "import asyncio\nasync def test_hangs():\n    await asyncio.Event().wait()\n"
    ended = run(tmp_path, repository, test, "-o", "faulthandler_timeout=0.5", "-n", processes)
    assert ended.returncode == 1
    assert ended.stderr.count("Timeout") == 1
    assert "run_until_complete" in ended.stderr or "runners.py" in ended.stderr
