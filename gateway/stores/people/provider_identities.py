"""Whom an identity provider means: a person by issuer and subject, found by a verified address the first time only."""

from datetime import datetime
from uuid import UUID

from gateway.refusals import NotPermitted
from schemas.postgres import Connection, Executor

OF_ANOTHER = (
    "The identity provider knew somebody else by this email address before: whoever runs this gateway must remove the"
    " account of before"
)


async def person_of(connection: Executor, issuer: str, subject: str) -> UUID | None:
    """The person behind a subject; None where it is not known yet."""
    person_id: UUID | None = await connection.fetchval(
        "SELECT person_id FROM provider_identities WHERE issuer = $1 AND subject = $2", issuer, subject
    )
    return person_id


async def link(connection: Connection, issuer: str, subject: str, person_id: UUID, now: datetime) -> None:
    """Know a person by this subject from now on. Raises NotPermitted for one who is known by another of the issuer."""
    linked = await connection.fetchval(
        """INSERT INTO provider_identities (issuer, subject, person_id, linked_at) VALUES ($1, $2, $3, $4)
           ON CONFLICT DO NOTHING RETURNING true""",
        issuer,
        subject,
        person_id,
        now,
    )
    if not linked and await person_of(connection, issuer, subject) != person_id:
        raise NotPermitted(OF_ANOTHER)
