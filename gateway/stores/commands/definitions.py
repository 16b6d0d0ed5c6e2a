"""The commands that the devices of a model understand: what they are called and which parameters they take.

A command that was sent keeps what its definition said at that time; changing or removing a definition ends nothing.
"""

from collections.abc import Sequence
from typing import Literal, get_args
from uuid import UUID

import asyncpg
from msgspec import Struct, to_builtins

from gateway.refusals import DoesNotFit, NotFound
from gateway.stores import models
from schemas import ids
from schemas.bounds import COMMAND_TIMEOUT_S
from schemas.postgres import Connection, Executor

UNKNOWN = "Command not found"
TAKEN = "Name or friendly name has already been taken"

FieldType = Literal["string", "integer", "number", "boolean"]
FIELD_TYPES: tuple[FieldType, ...] = get_args(FieldType)

_DEFINITION = """id, model_id, name, friendly_name, description, needs_file, timeout_s, fields, active, several,
                 show_in_panel, ask_again"""


class CommandField(Struct):
    """A parameter of a command. With `options`, which only strings have, it is one of those."""

    name: str
    type: FieldType
    required: bool = False
    description: str = ""
    options: list[str] = []


class CommandDefinition(Struct):
    """A command that the devices of a model understand.

    Only an `active` one may be sent, and without `several` only while the device has none that has not ended. Whether
    it is among the buttons of a device (`show_in_panel`), and whether people are asked once more (`ask_again`), is for
    whoever shows it.
    """

    id: UUID
    model_id: UUID
    name: str
    friendly_name: str
    description: str
    needs_file: bool
    timeout_s: int
    fields: list[CommandField]
    active: bool
    several: bool
    show_in_panel: bool
    ask_again: bool


async def add(
    connection: Executor,
    model_id: UUID,
    *,
    name: str,
    friendly_name: str = "",
    description: str = "",
    needs_file: bool = False,
    timeout_s: int = COMMAND_TIMEOUT_S.default,
    fields: list[CommandField] | None = None,
    active: bool = True,
    several: bool = True,
    show_in_panel: bool = True,
    ask_again: bool = False,
) -> CommandDefinition:
    """Define a command; without a friendly name it is called by its name. Raises NotFound, or DoesNotFit."""
    fields = fields or []
    _check_fields(fields)
    try:
        row = await connection.fetchrow(
            f"""INSERT INTO command_definitions
                       (id, model_id, name, friendly_name, description, needs_file, timeout_s, fields, active, several,
                        show_in_panel, ask_again)
                VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) RETURNING {_DEFINITION}""",
            ids.new_id(),
            model_id,
            name,
            friendly_name or name,
            description,
            needs_file,
            timeout_s,
            to_builtins(fields),
            active,
            several,
            show_in_panel,
            ask_again,
        )
    except asyncpg.UniqueViolationError:
        raise DoesNotFit(TAKEN) from None
    except asyncpg.ForeignKeyViolationError:
        raise NotFound(models.UNKNOWN) from None
    assert row is not None
    return _definition(row)


async def listed(
    connection: Executor, model_id: UUID, offset: int = 0, limit: int | None = None
) -> list[CommandDefinition]:
    """The commands of a model by name."""
    rows = await connection.fetch(
        f"SELECT {_DEFINITION} FROM command_definitions WHERE model_id = $1 ORDER BY name OFFSET $2 LIMIT $3",
        model_id,
        offset,
        limit,
    )
    return [_definition(row) for row in rows]


async def of_models(connection: Executor, model_ids: Sequence[UUID], limit: int) -> dict[UUID, list[CommandDefinition]]:
    """The commands of each of these models by name, at most so many each."""
    rows = await connection.fetch(
        f"""SELECT {_DEFINITION} FROM (
                SELECT *, row_number() OVER (PARTITION BY model_id ORDER BY name) AS place
                  FROM command_definitions WHERE model_id = ANY($1::uuid[])) AS placed
             WHERE place <= $2 ORDER BY model_id, name""",
        model_ids,
        limit,
    )
    found: dict[UUID, list[CommandDefinition]] = {}
    for row in rows:
        found.setdefault(row["model_id"], []).append(_definition(row))
    return found


async def lock(connection: Connection, model_id: UUID, definition_id: UUID) -> CommandDefinition:
    """A definition, locked until the end of the transaction. Raises NotFound."""
    row = await connection.fetchrow(
        f"SELECT {_DEFINITION} FROM command_definitions WHERE id = $1 AND model_id = $2 FOR UPDATE",
        definition_id,
        model_id,
    )
    if row is None:
        raise NotFound(UNKNOWN)
    return _definition(row)


async def find(
    connection: Executor, model_id: UUID, *, name: str | None, friendly_name: str | None
) -> CommandDefinition | None:
    """The definition with this name, with this friendly name, or with both."""
    row = await connection.fetchrow(
        f"""SELECT {_DEFINITION} FROM command_definitions
             WHERE model_id = $1 AND ($2::text IS NULL OR name = $2) AND ($3::text IS NULL OR friendly_name = $3)""",
        model_id,
        name,
        friendly_name,
    )
    return None if row is None else _definition(row)


async def replace(connection: Connection, command: CommandDefinition) -> None:
    """Store a definition that is locked and was changed. Raises DoesNotFit.

    Commands already sent keep what they were sent with.
    """
    _check_fields(command.fields)
    try:
        await connection.execute(
            """UPDATE command_definitions SET name = $2, friendly_name = $3, description = $4, needs_file = $5,
                      timeout_s = $6, fields = $7, active = $8, several = $9, show_in_panel = $10, ask_again = $11
                WHERE id = $1""",
            command.id,
            command.name,
            command.friendly_name,
            command.description,
            command.needs_file,
            command.timeout_s,
            to_builtins(command.fields),
            command.active,
            command.several,
            command.show_in_panel,
            command.ask_again,
        )
    except asyncpg.UniqueViolationError:
        raise DoesNotFit(TAKEN) from None


async def delete(connection: Executor, model_id: UUID, definition_id: UUID) -> None:
    """Remove a definition; commands already sent run on. Raises NotFound."""
    found = await connection.fetchval(
        "DELETE FROM command_definitions WHERE id = $1 AND model_id = $2 RETURNING true", definition_id, model_id
    )
    if not found:
        raise NotFound(UNKNOWN)


def _check_fields(fields: list[CommandField]) -> None:
    names = [field.name for field in fields]
    if len(set(names)) < len(names):
        raise DoesNotFit("Fields must have different names")
    if any(field.options and field.type != "string" for field in fields):
        raise DoesNotFit("Fields with options must be strings")


def _definition(row: asyncpg.Record) -> CommandDefinition:
    fields = [CommandField(**field) for field in row["fields"]]
    return CommandDefinition(**{**row, "fields": fields})
