"""`demo.json`: where the gateway of `fleetgate up --demo` is, and its keys. Written by that, read by what tries it."""

import os
from pathlib import Path

import msgspec
from msgspec import Struct

from schemas.command_settings import UpSettings
from schemas.environment import load
from schemas.settings import PREFIX, SettingsError


class DemoAccount(Struct):
    """A service account of the demo, an administrator of its organization."""

    key_id: str
    secret: str
    email: str


class Demo(Struct):
    """What `demo.json` holds: where the gateway is, and credentials of each kind."""

    base_url: str
    hardware_key: str
    model_id: str
    organization_id: str
    organization_key: str
    partner_key: str
    project_id: str
    space_id: str
    service_account: DemoAccount
    data_connector_id: str
    signature_secret: str
    cloud_connector_id: str
    short_code: str = ""
    """What Cloud IDs of the demo's models begin with."""
    license_key: str = ""
    """What the demo's licences are checked with."""
    v2_url: str = ""
    emulator_url: str = ""
    token_url: str = ""

    @classmethod
    def read(cls, path: Path) -> "Demo":
        """Raises SettingsError when nobody made a demo there."""
        try:
            return msgspec.json.decode(path.read_bytes(), type=cls)
        except FileNotFoundError:
            reason = f"there is no {path}"
        except msgspec.DecodeError as error:
            reason = f"{path} is not of this version: {error}"
        raise SettingsError(f"{reason}; start `fleetgate up --demo` first, or say which gateway is meant")


def default_path() -> Path:
    """Where `fleetgate up --demo` keeps it."""
    given = {name: value for name, value in os.environ.items() if name == f"{PREFIX}HOME"}
    return Path(load(UpSettings, given).home) / "demo.json"
