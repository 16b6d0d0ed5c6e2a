"""Which servers a command works on: those of its settings, else those that `fleetgate up` runs in its home."""

import os
from pathlib import Path

import msgspec
from msgspec import Struct

from gateway.cli.device_client import write_secret
from schemas.settings import PREFIX, SettingsError, UpSettings, load

NAMES = ("POSTGRES_DSN", "REDIS_URL", "MASTER_KEY")


class Servers(Struct):
    """Where the data live, and the master key that fits them."""

    postgres_dsn: str
    redis_url: str
    master_key: str


def note(home: Path, environment: dict[str, str]) -> None:
    """Let other commands find the servers of a running `fleetgate up` (mode 600)."""
    write_secret(_path(home), Servers(*(environment[PREFIX + name] for name in NAMES)))


def find() -> Servers:
    """Raises SettingsError when nothing says where they are."""
    given = {name: os.environ.get(PREFIX + name) for name in NAMES}
    if all(given.values()):
        return msgspec.convert({name.lower(): value for name, value in given.items()}, Servers)
    ours = {name: value for name, value in os.environ.items() if name.startswith(PREFIX)}
    path = _path(Path(load(UpSettings, ours).home))
    if not path.exists():
        missing = ", ".join(PREFIX + name for name, value in given.items() if not value)
        raise SettingsError(f"{missing} not set, and no `fleetgate up` has run in {path.parent.parent}")
    return msgspec.json.decode(path.read_bytes(), type=Servers)


def _path(home: Path) -> Path:
    return home / "run" / "servers.json"
