"""Settings from the environment: read, checked, and told in the README and by `--help`.

`python -m schemas.environment` prints the README's table.
"""

import sys
from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

from schemas.command_settings import AgentSettings, MigrateSettings, UpSettings
from schemas.sentences import complaint_of, patterns_of
from schemas.settings import PREFIX, EdgeSettings, SettingsError, WorkerSettings

GROUPS: tuple[type[msgspec.Struct], ...] = (EdgeSettings, WorkerSettings, MigrateSettings, UpSettings, AgentSettings)

AT_MOST = (
    ("connector_deliveries_max", "deliveries_max"),
    ("state_keys_max", "state_bytes_max"),
    ("organization_imports_max", "imports_max"),
    ("organization_streams_max", "streams_max"),
    ("account_streams_max", "organization_streams_max"),
)
"""Settings of which the first can be no more than the second."""
WITHOUT = (
    ("stream_keep_s", "stream_keep_bytes"),
    ("oidc_issuer", "oidc_client_id"),
    ("oidc_client_id", "oidc_issuer"),
    ("oidc_domains", "oidc_issuer"),
    ("oidc_roles", "oidc_issuer"),
    ("mail_server", "mail_from"),
    ("mail_from", "mail_server"),
)
"""Settings of which the first does nothing where the second is 0 or empty."""

S = TypeVar("S", bound=msgspec.Struct)


def variables(group: type[msgspec.Struct]) -> dict[str, msgspec.inspect.Field]:
    """The environment variables of one struct, by name."""
    info = msgspec.inspect.type_info(group)
    assert isinstance(info, msgspec.inspect.StructType)
    return {PREFIX + field.name.upper(): field for field in info.fields}


def load(group: type[S], environ: Mapping[str, str]) -> S:
    """Read one struct from the environment. Raises SettingsError with a sentence for a person."""
    known = set().union(*(variables(g) for g in GROUPS))
    unknown = sorted(name for name in environ if name.startswith(PREFIX) and name not in known)
    if unknown:
        raise SettingsError(f"unknown setting {', '.join(unknown)}: see the table of settings in README.md")
    given: dict[str, Any] = {}
    for name, field in variables(group).items():
        if name in environ:
            given[field.name] = environ[name]
        elif field.required:
            raise SettingsError(f"{name} is not set")
    try:
        settings = msgspec.convert(given, group, strict=False)
    except msgspec.ValidationError as error:
        text, _, path = str(error).partition(" - at `$.")
        name = PREFIX + path.rstrip("`").upper()
        raise SettingsError(f"{name} is not usable: {complaint_of(text, patterns_of(group))}") from None
    for small, large in AT_MOST:
        if getattr(settings, small, 0) > getattr(settings, large, sys.maxsize):
            raise SettingsError(f"{PREFIX}{small.upper()} must be no more than {PREFIX}{large.upper()}")
    for wanted, needed in WITHOUT:
        if getattr(settings, wanted, 0) and not getattr(settings, needed):
            lack = "is 0" if getattr(settings, needed) == 0 else "is not set"
            raise SettingsError(f"{PREFIX}{wanted.upper()} does nothing while {PREFIX}{needed.upper()} {lack}")
    return settings


def table() -> str:
    """All settings as a table in Markdown."""
    lines = ["| variable | default | for | |", "|---|---|---|---|"]
    users: dict[str, list[str]] = {}
    for group, user in zip(GROUPS, ("edge", "worker", "migrate", "up", "agent"), strict=True):
        for name in variables(group):
            users.setdefault(name, []).append(user)
    fields = {name: field for group in GROUPS for name, field in variables(group).items()}
    for name, field in fields.items():
        default = "required" if field.required else "" if field.default == "" else f"`{field.default}`"
        text = _description(field.type)
        lines.append(f"| `{name}` | {default} | {', '.join(users[name])} | {text} |")
    return "\n".join(lines) + "\n"


def listing(group: type[msgspec.Struct]) -> str:
    """The variables of one struct, for the `--help` of who reads them."""
    lines = ["settings (environment variables):"]
    for name, field in variables(group).items():
        default = "required" if field.required else f"default {field.default}" if field.default != "" else "optional"
        lines += [f"  {name} ({default})", f"      {_description(field.type)}"]
    return "\n".join(lines)


def _description(kind: msgspec.inspect.Type) -> str:
    schema = kind.extra_json_schema if isinstance(kind, msgspec.inspect.Metadata) else None
    return str((schema or {}).get("description", ""))


if __name__ == "__main__":
    sys.stdout.write(table())
