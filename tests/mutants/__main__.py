"""`make mutants`: breaks the lines that keep promises, one at a time, in a copy of the tree, and runs their tests.

A test must fail within `TEST_S`; one that hangs is ended with its servers and counts as a failure of the line's tests,
since whoever waits for it learns nothing. Ends with 1 when a broken line was not noticed, or a whole one was.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from enum import StrEnum
from pathlib import Path

from tests.mutants.lines import MUTANTS, Mutant

ROOT = Path(__file__).parent.parent.parent
PARTS = ("gateway", "workers", "schemas", "tests", "docs", "pyproject.toml", "README.md")
"""What tests need."""
TEST_S = 120
NOTICED = 1
"""What pytest returns when tests failed; anything else says that they did not run."""


class End(StrEnum):
    """What became of a mutant."""

    KILLED = "killed"
    SURVIVED = "SURVIVED"
    HANGS = "HANGS"
    BROKEN = "NO TEST RAN"


def copy(target: Path) -> None:
    """The parts of the tree."""
    for part in PARTS:
        found = ROOT / part
        if found.is_dir():
            shutil.copytree(found, target / part, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(found, target / part)


def run(tree: Path, tests: str) -> int | None:
    """Run these tests in the tree; pytest's exit code, None if it took too long."""
    process = subprocess.Popen(
        [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", tests],
        cwd=tree,
        env={**os.environ, "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        return process.wait(TEST_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)  # its servers die with it
        process.wait()
        return None


def judge(tree: Path, mutant: Mutant) -> End:
    """Break the line, run its tests, and mend it."""
    file = tree / mutant.file
    whole = file.read_text()
    assert whole.count(mutant.line) == 1, mutant
    file.write_text(whole.replace(mutant.line, mutant.broken))
    try:
        code = run(tree, mutant.test)
    finally:
        file.write_text(whole)
    return {None: End.HANGS, 0: End.SURVIVED, NOTICED: End.KILLED}.get(code, End.BROKEN)


def main() -> int:
    """Break those whose promise contains all words given, or all; print a table."""
    chosen = [mutant for mutant in MUTANTS if all(word in mutant.promise for word in sys.argv[1:])]
    ends = []
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        tree = Path(folder)
        copy(tree)
        for mutant in chosen:
            began = time.monotonic()
            ends.append(judge(tree, mutant))
            took = f"{time.monotonic() - began:4.0f} s"
            print(f"{ends[-1]:<12} {took}  {mutant.promise:<58} {mutant.file}", flush=True)
    print(f"{ends.count(End.KILLED)} of {len(ends)} broken lines were noticed")
    return 0 if ends and set(ends) == {End.KILLED} else 1


if __name__ == "__main__":
    sys.exit(main())
