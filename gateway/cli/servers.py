"""Which servers a command works on: those of its settings, else those that `fleetgate up` runs in its home."""

import os
from collections.abc import Mapping
from pathlib import Path

import msgspec

from gateway.cli.secret_file import write_secret
from schemas.command_settings import UpSettings
from schemas.environment import load, variables
from schemas.settings import (
    PREFIX,
    Bind,
    Certificate,
    Dsn,
    FileStore,
    PublicUrl,
    RedisCa,
    RedisUrl,
    SettingsError,
    url_of,
)


class Servers(FileStore, frozen=True, kw_only=True):
    """Where the data live, the keys that fit them, and where people find the gateway."""

    postgres_dsn: Dsn
    redis_url: RedisUrl
    redis_ca: RedisCa = ""
    bind: Bind = "127.0.0.1:8080"
    tls_certificate: Certificate = ""
    public_url: PublicUrl = ""

    @property
    def url(self) -> str:
        """The base URL that people are told to call."""
        return url_of(self.public_url, self.bind, self.tls_certificate)


NAMES = tuple(variables(Servers))
REQUIRED = tuple(name for name, field in variables(Servers).items() if field.required)


def note(home: Path, environment: Mapping[str, str]) -> None:
    """Let other commands find the servers of a running `fleetgate up` (mode 600)."""
    write_secret(_path(home), load(Servers, environment))


def find() -> Servers:
    """Those of the settings; what these leave open is as `fleetgate up` noted it. Raises SettingsError."""
    given = {name: os.environ[name] for name in NAMES if os.environ.get(name)}
    path = _path(Path(load(UpSettings, os.environ).home))
    if not given.keys() >= set(REQUIRED):
        try:
            noted = msgspec.json.decode(path.read_bytes(), type=Servers)
        except (OSError, msgspec.DecodeError):
            missing = ", ".join(name for name in REQUIRED if name not in given)
            raise SettingsError(f"{missing} not set, and no `fleetgate up` has run in {path.parent.parent}") from None
        known = {PREFIX + name.upper(): value for name, value in msgspec.structs.asdict(noted).items() if value}
        given = known | given
    return load(Servers, given)


def _path(home: Path) -> Path:
    return home / "run" / "servers.json"
