"""Invitations by email, where the operator has set a mail server.

Of a link only a digest is stored, so no mail waits in a queue: it is sent while who invites waits, for some seconds at
the most, and what became of it is told beside the link, which may be sent in another way.
"""

import asyncio
import logging
import smtplib
import ssl
from email.message import EmailMessage
from ipaddress import ip_address
from typing import NamedTuple
from urllib.parse import unquote, urlsplit
from uuid import UUID

from gateway.api import fixed_window
from gateway.refusals import TooMany
from gateway.services import Services
from gateway.stores.tenants import organizations
from schemas import keys, logs

log = logging.getLogger(__name__)

SEND_S = 10.0
SENT_MAX, WINDOW_S, WINDOW = 100, 86_400, "a day"
"""Of one organization: nobody floods strangers through an installation's mail server."""
PORTS = {"smtp": 587, "smtps": 465}
REFUSED = "The mail server did not take the message"
_TEXT = """\
You are invited to {organization}.

Open this link to accept. It works once, within seven days:

{link}

If you do not know what this is about, leave it: nothing happens then.
"""


class Sending(NamedTuple):
    """What became of a message."""

    sent: bool
    problem: str = ""


async def send_invitation(services: Services, organization_id: UUID, to: str, link: str) -> Sending | None:
    """Send an invitation to its address; None where no mail server is set."""
    if not services.settings.mail_server:
        return None
    organization = " ".join((await organizations.read(services.postgres, organization_id)).name.split())
    try:
        await fixed_window.count(
            services,
            keys.of_caller(services.shards, "mails", str(organization_id)),
            calls_max=SENT_MAX,
            window_s=WINDOW_S,
            window=WINDOW,
        )
        message = EmailMessage()
        message["From"], message["To"] = services.settings.mail_from, to
        message["Subject"] = f"Invitation to {organization}"
        message.set_content(_TEXT.format(organization=organization, link=link))
        async with asyncio.timeout(SEND_S):
            await asyncio.to_thread(_send, services.settings.mail_server, message)
    except TooMany as refusal:
        return Sending(False, refusal.text)
    except (OSError, smtplib.SMTPException, ValueError) as error:  # an address that no header can hold is a ValueError
        logs.event(log, logging.WARNING, "mail_not_sent", cause=f"{type(error).__name__}: {error}")
        return Sending(False, REFUSED)
    return Sending(True)


def _send(server: str, message: EmailMessage) -> None:
    """Raises OSError, SMTPException."""
    parts, context = urlsplit(server), ssl.create_default_context()
    host, port = parts.hostname or "", parts.port or PORTS[parts.scheme]
    if parts.scheme == "smtps":
        opened: smtplib.SMTP = smtplib.SMTP_SSL(host, port, timeout=SEND_S, context=context)
    else:
        opened = smtplib.SMTP(host, port, timeout=SEND_S)
    with opened as smtp:
        if parts.scheme == "smtp" and not _is_here(host):
            smtp.starttls(context=context)
        if parts.username:
            smtp.login(unquote(parts.username), unquote(parts.password or ""))
        smtp.send_message(message)


def _is_here(host: str) -> bool:
    """Whether a server is on this machine, where nobody listens in between."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
