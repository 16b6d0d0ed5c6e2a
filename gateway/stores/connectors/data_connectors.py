"""Data connectors: what is sent where. What becomes of their queues when they change is done by triggers, with them.

Signature secrets and custom headers are sealed; nothing here opens them but `secret` and `headers`.
"""

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
from msgspec import Struct

from gateway.refusals import Conflict, NotFound
from schemas import ids
from schemas.bounds import RETRY_WINDOW_S
from schemas.postgres import Connection, Executor
from schemas.secrets import Vault

CONNECTORS_MAX = 10
UNKNOWN = "Data connector not found"


class Connector(Struct, kw_only=True):
    """One data connector. `headers` and `secret` are sealed."""

    id: str
    project_id: UUID
    display_name: str
    status: str
    event_types: list[str]
    labels: list[str]
    url: str
    headers: bytes
    secret: bytes
    previous_secret_until: datetime | None
    asymmetric_signature: bool
    standard_webhooks: bool
    retry_window_s: int
    in_flight_max: int | None
    failing_since: datetime | None


SETTABLE = (
    "display_name", "status", "event_types", "labels", "url", "headers", "secret",
    "asymmetric_signature", "standard_webhooks", "retry_window_s", "in_flight_max",
)  # fmt: skip
"""The columns that people set."""
_COLUMNS = ", ".join(Connector.__struct_fields__)


def seal_headers(vault: Vault, connector_id: str, headers: dict[str, str]) -> bytes:
    """Custom headers as they are stored; none are nothing."""
    return vault.seal(msgspec.json.encode(headers), connector_id) if headers else b""


def open_headers(vault: Vault, connector: Connector) -> dict[str, str]:
    """The custom headers of a connector."""
    return msgspec.json.decode(vault.open(connector.headers, connector.id) or b"{}", type=dict[str, str])


async def create(connection: Connection, connector: Connector) -> Connector:
    """Store a new connector, in a transaction. Raises Conflict when its project has too many."""
    await connection.execute("SELECT FROM projects WHERE id = $1 FOR NO KEY UPDATE", connector.project_id)
    count = await connection.fetchval(
        "SELECT count(*) FROM data_connectors WHERE project_id = $1", connector.project_id
    )
    if count >= CONNECTORS_MAX:
        raise Conflict(f"A project has at most {CONNECTORS_MAX} data connectors")
    columns = ("id", "project_id", *SETTABLE)
    row: Any = await connection.fetchrow(
        f"""INSERT INTO data_connectors ({", ".join(columns)})
            VALUES ({", ".join(f"${n}" for n, _ in enumerate(columns, 1))}) RETURNING {_COLUMNS}""",
        *(getattr(connector, column) for column in columns),
    )
    return Connector(**row)


async def listed(connection: Executor, project_id: UUID, after: str, limit: int) -> list[Connector]:
    """The connectors of a project behind `after`, by id."""
    rows = await connection.fetch(
        f"SELECT {_COLUMNS} FROM data_connectors WHERE project_id = $1 AND id > $2 ORDER BY id LIMIT $3",
        project_id,
        after,
        limit,
    )
    return [Connector(**row) for row in rows]


async def read(connection: Executor, project_id: UUID, connector_id: str) -> Connector:
    """Raises NotFound."""
    return _known(
        await connection.fetchrow(
            f"SELECT {_COLUMNS} FROM data_connectors WHERE project_id = $1 AND id = $2", project_id, connector_id
        )
    )


async def lock(connection: Connection, project_id: UUID, connector_id: str) -> Connector:
    """The connector, locked until the transaction ends. Raises NotFound."""
    return _known(
        await connection.fetchrow(
            f"""SELECT {_COLUMNS} FROM data_connectors WHERE project_id = $1 AND id = $2 FOR NO KEY UPDATE""",
            project_id,
            connector_id,
        )
    )


def _known(row: Any) -> Connector:
    if row is None:
        raise NotFound(UNKNOWN)
    return Connector(**row)


async def update(connection: Connection, now: Connector) -> Connector:
    """Store a locked connector; it holds from the next attempt on."""
    row: Any = await connection.fetchrow(
        f"""UPDATE data_connectors
               SET {", ".join(f"{column} = ${n}" for n, column in enumerate(SETTABLE, 2))}, updated_at = now()
             WHERE id = $1 RETURNING {_COLUMNS}""",
        now.id,
        *(getattr(now, column) for column in SETTABLE),
    )
    return Connector(**row)


async def redirect(connection: Executor, connector_id: str, url: str) -> None:
    """Send to another URL from the next attempt on."""
    await connection.execute("UPDATE data_connectors SET url = $2 WHERE id = $1 AND url <> $2", connector_id, url)


async def rotate_secret(connection: Connection, connector: Connector, secret: bytes, overlap: timedelta) -> None:
    """Sign with a new (sealed) secret; for the overlap the one before is used beside it."""
    await connection.execute(
        """UPDATE data_connectors SET previous_secret = secret, previous_secret_until = now() + $3, secret = $2,
                  updated_at = now()
            WHERE id = $1""",
        connector.id,
        secret,
        overlap,
    )


async def delete(connection: Executor, connector_id: str) -> None:
    """End a connector: nobody finds it any more, and nothing is sent. What it owed a dispatcher ends in slices."""
    await connection.execute("UPDATE data_connectors SET project_id = NULL WHERE id = $1", connector_id)


def new(project_id: UUID) -> Connector:
    """A connector with an id and nothing else set."""
    return Connector(
        id=ids.new_xid(),
        project_id=project_id,
        display_name="",
        status="ACTIVE",
        event_types=[],
        labels=[],
        url="",
        headers=b"",
        secret=b"",
        previous_secret_until=None,
        asymmetric_signature=False,
        standard_webhooks=False,
        retry_window_s=RETRY_WINDOW_S.default,
        in_flight_max=None,
        failing_since=None,
    )
