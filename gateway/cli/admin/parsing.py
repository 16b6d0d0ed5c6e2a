"""How the subcommands of `fleetgate admin` are declared, and the types of their arguments."""

import argparse
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

from schemas.postgres import Connection

NAME_CHARACTERS_MAX = 255
LISTED_MAX = 1_000

Action = Callable[[Connection, argparse.Namespace], Awaitable[Any]]
"""What a subcommand does, in a transaction; it returns the rows, or the one thing, to print."""
Things = Any
"""The subparsers of a level; argparse keeps their type to itself."""


def thing(parsers: Things, name: str, text: str) -> Things:
    """A kind of thing; returns what its actions are added to."""
    parser = parsers.add_parser(name, help=text, description=text)
    return parser.add_subparsers(title="actions", metavar="ACTION", required=True)


def verb(parsers: Things, name: str, text: str, action: Action, *owners: str) -> argparse.ArgumentParser:
    """An action; `owners` are required options that name by id what the thing belongs to."""
    parser: argparse.ArgumentParser = parsers.add_parser(name, help=text, description=text)
    parser.add_argument("--json", action="store_true", help="print JSON")
    for owner in owners:
        parser.add_argument(owner, type=UUID, required=True, metavar="ID")
    parser.set_defaults(action=action)
    return parser


def name(text: str) -> str:
    if not text:
        raise argparse.ArgumentTypeError(f"it must have 1 to {NAME_CHARACTERS_MAX} characters")
    return label(text)


def label(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise argparse.ArgumentTypeError("it is not valid UTF-8") from None
    if len(text) > NAME_CHARACTERS_MAX:
        raise argparse.ArgumentTypeError(f"it must have at most {NAME_CHARACTERS_MAX} characters")
    return text


def between(least: int, most: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        value = int(text)
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(f"{value} is not between {least} and {most}")
        return value

    return number
