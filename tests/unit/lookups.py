"""Name look-ups whose answers a test decides."""

import socket
from typing import Any

from schemas.egress import EgressPolicy, GuardedResolver


class Answers(GuardedResolver):
    """A resolver whose look-ups are told in advance; after the last answer it repeats it."""

    def __init__(self, policy: EgressPolicy, *answers: list[str]) -> None:
        super().__init__(policy)
        self.answers = list(answers)
        self.lookups = 0

    def look_up(self, host: str, port: int, family: int) -> list[tuple[Any, ...]]:
        self.lookups += 1
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if not answer:
            raise socket.gaierror(socket.EAI_NONAME, "unknown")
        kinds = [socket.AF_INET6 if ":" in address else socket.AF_INET for address in answer]
        return [(kind, socket.SOCK_STREAM, 6, "", (address, port)) for kind, address in zip(kinds, answer, strict=True)]
