"""Settings of what people run by hand: the command's own processes, beside edges and workers."""

from typing import Annotated

import msgspec
from msgspec import Meta

from schemas.sentences import matching
from schemas.settings import Dsn, Keys


class MigrateSettings(Keys, frozen=True, kw_only=True):
    """Settings of `fleetgate migrate`."""

    postgres_dsn: Dsn
    shards: Annotated[
        int, Meta(ge=1, le=256, description="Number of shards; fixed when the database is first migrated.")
    ] = 32


class UpSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of the supervisor (`fleetgate up`), beside those it hands to its children."""

    home: Annotated[str, Meta(description="Where embedded servers, secrets and demo.json live.")] = ".fleetgate"


class AgentSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of `fleetgate agent`: what should not be seen in a list of processes."""

    agent_url: Annotated[
        str,
        matching(
            "^(https?://.*)?$",
            "must begin with http:// or https://",
            description="Base URL of the gateway; default: that of the demo.",
        ),
    ] = ""
    agent_hardware_key: Annotated[
        str, Meta(description="Hardware key of the agent's model (secret); default: that of the demo.")
    ] = ""
