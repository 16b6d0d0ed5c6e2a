"""Invitations by email, where a mail server is set; the link is shown in any case."""

import asyncio
import contextlib
import email
from collections.abc import AsyncIterator
from email import policy
from typing import Any

import pytest
from edges import running_edge
from owners import Owner
from test_people_pages import code_of, form_of
from visitors import ACCEPTANCE, person_of, visiting, way_in


class MailServer:
    """Takes messages, or refuses them: a conversation in SMTP by hand."""

    def __init__(self, refusal: str = "") -> None:
        self.refusal = refusal
        self.messages: list[Any] = []
        self.to: list[str] = []
        self.port = 0

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One client, from greeting to farewell."""
        writer.write(b"220 here\r\n")
        while line := (await reader.readline()).decode().strip():
            word, answer = line[:4].upper(), "250 well"
            if word == "RCPT":
                self.to.append(line.partition("<")[2].partition(">")[0])
                answer = self.refusal or answer
            if word == "DATA":
                writer.write(b"354 go on\r\n")
                data = await reader.readuntil(b"\r\n.\r\n")
                self.messages.append(email.message_from_bytes(data[:-3], policy=policy.default))
            if word == "QUIT":
                answer = "221 bye"
            writer.write(f"{answer}\r\n".encode())
        writer.close()


@contextlib.asynccontextmanager
async def mail_server(refusal: str = "") -> AsyncIterator[MailServer]:
    """One that listens."""
    made = MailServer(refusal)
    server = await asyncio.start_server(made.talk, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    async with server:
        yield made


@pytest.mark.parametrize("path", ["/people/organization", "/partner/people"])
@pytest.mark.parametrize("refusal", ["", "550 nobody here"])
async def test_an_invitation_is_sent_where_a_mail_server_is_set(
    dsn: str, redis_url: str, acme: Owner, path: str, refusal: str
) -> None:
    """To its address, with the link that the page shows too; a server that refuses it is told, and the link shown."""
    role = "organization.admin" if path == "/people/organization" else "partner.user"
    boss_id = await person_of(acme, "organization.admin", email="boss@example.com")
    await acme.pool.execute("UPDATE organizations SET name = $2 WHERE id = $1", acme.organization_id, "A\nBcc: x@y.zz")
    async with mail_server(refusal) as server:
        given = {"mail_server": f"smtp://127.0.0.1:{server.port}", "mail_from": "portal@example.com"}
        async with running_edge(dsn, redis_url, **given) as edge, visiting(edge) as boss, visiting(edge) as ada:
            await boss.send(await way_in(acme.pool, boss_id))
            form = await form_of(boss, "/people")
            status, page = await boss.send(path, form | {"email": "ada@example.com", "role": role})
            link = code_of(page)
            assert (status, server.to) == (200, ["ada@example.com"])
            assert ("No mail was sent" in page, "on its way" in page) == (bool(refusal), not refusal)
            if not refusal:
                [message] = server.messages
                assert message["From"] == "portal@example.com"
                assert (message["Subject"], message["Bcc"]) == ("Invitation to A Bcc: x@y.zz", None)
                assert link in message.get_content()
            assert (await ada.send(link.removeprefix(edge.url), ACCEPTANCE))[0] == 303
