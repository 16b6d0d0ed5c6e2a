"""How a cloud connector gets its credentials: a link with a passcode, and where the vendor asks for it, a consent."""

from datetime import datetime

from msgspec import Struct

from schemas.postgres import Connection, Executor


class LinkedConnector(Struct):
    """A connector as whoever holds its link sees it."""

    id: str
    name: str
    provider: str
    settings: dict[str, str]
    credentials: bytes
    passcode_digest: bytes


async def set_link(
    connection: Connection, connector_id: str, link_digest: bytes, passcode_digest: bytes, until: datetime
) -> None:
    """A new link and passcode: those before stop working."""
    await connection.execute(
        """UPDATE cloud_connectors SET link_digest = $2, passcode_digest = $3, link_until = $4, passcode_failures = 0,
                  consent_digest = NULL, consent = '' WHERE id = $1""",
        connector_id,
        link_digest,
        passcode_digest,
        until,
    )


async def by_link(
    connection: Connection, link_digest: bytes, now: datetime, failures_max: int
) -> LinkedConnector | None:
    """The connector of a link that is still good, locked for the transaction: attempts come one after another."""
    row = await connection.fetchrow(
        """SELECT id, name, provider, settings, credentials, passcode_digest FROM cloud_connectors
            WHERE link_digest = $1 AND link_until > $2 AND passcode_failures < $3 FOR NO KEY UPDATE""",
        link_digest,
        now,
        failures_max,
    )
    return None if row is None else LinkedConnector(**row)


async def passcode_failed(connection: Connection, connector_id: str) -> int:
    """Count a wrong passcode; returns how many there were."""
    return int(
        await connection.fetchval(
            """UPDATE cloud_connectors SET passcode_failures = passcode_failures + 1 WHERE id = $1
               RETURNING passcode_failures""",
            connector_id,
        )
    )


async def authorise(executor: Executor, connector_id: str, credentials: bytes) -> None:
    """Store credentials, and run at once; a disabled connector stays disabled. The link ends."""
    await executor.execute(
        """UPDATE cloud_connectors SET credentials = $2, error = NULL, failures_in_a_row = 0, revision = revision + 1,
                  credentials_version = credentials_version + 1, link_digest = NULL, consent_digest = NULL,
                  consent_until = NULL, consent = '',
                  status = CASE WHEN status = 'Disabled' THEN status ELSE 'Active' END,
                  inventory_at = CASE WHEN status = 'Disabled' THEN NULL ELSE now() END WHERE id = $1""",
        connector_id,
        credentials,
    )


async def ask_consent(
    executor: Executor, connector_id: str, consent: bytes, state_digest: bytes, until: datetime
) -> None:
    """Keep what was entered while the vendor's consent page is open, apart from the credentials that runs renew."""
    await executor.execute(
        "UPDATE cloud_connectors SET consent = $2, consent_digest = $3, consent_until = $4 WHERE id = $1",
        connector_id,
        consent,
        state_digest,
        until,
    )


async def by_consent(connection: Connection, state_digest: bytes, now: datetime) -> LinkedConnector | None:
    """The connector whose consent this is, with what was entered for it, locked for the transaction."""
    row = await connection.fetchrow(
        """SELECT id, name, provider, settings, consent AS credentials, passcode_digest FROM cloud_connectors
            WHERE consent_digest = $1 AND consent_until > $2 FOR NO KEY UPDATE""",
        state_digest,
        now,
    )
    return None if row is None else LinkedConnector(**row)
