"""What is built and started is what was looked at: exact versions, and no secret for who needs none."""

import re
import tomllib
from pathlib import Path


def test_the_build_back_end_is_one_exact_version(repository: Path) -> None:
    """The one that the lock file has with its hashes."""
    build = tomllib.loads((repository / "pyproject.toml").read_text())["build-system"]
    lock = (repository / "requirements-dev.lock").read_text()
    for requirement in build["requires"]:
        assert re.fullmatch(r"[a-z-]+==[0-9.]+", requirement)
        assert f"{requirement} \\\n    --hash=sha256:" in lock


def test_the_image_is_built_on_one_exact_image(repository: Path) -> None:
    """By its digest; and what is installed into it, by the hashes of the lock file."""
    lines = (repository / "Dockerfile").read_text().splitlines()
    (base,) = [line.partition("=")[2] for line in lines if line.startswith("ARG PYTHON=")]
    assert re.fullmatch(r"python:3\.\d+\.\d+-slim-[a-z]+@sha256:[0-9a-f]{64}", base)
    assert {line.split()[1] for line in lines if line.startswith("FROM")} == {"${PYTHON}"}
    installs = [line for line in lines if "pip install" in line]
    assert all("--require-hashes" in line or "--no-deps" in line for line in installs)


def test_every_dependency_is_locked_with_hashes(repository: Path) -> None:
    """Of what runs and of what develops."""
    for name in ("requirements.lock", "requirements-dev.lock", "requirements-node.lock"):
        blocks = re.split(r"\n(?=\S)", (repository / name).read_text().strip())
        assert blocks
        assert [block for block in blocks if "==" not in block or "--hash=sha256:" not in block] == []
