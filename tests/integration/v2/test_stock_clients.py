"""Clients that others wrote, unmodified: the command of the public client library, a stock client of OAuth 2.0, and a
stock client of server-sent events. They are told addresses and credentials, and nothing else."""

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
import sseclient
from authlib.integrations.requests_client import AssertionSession
from flushing import drain, flushers, send, store_all
from owners import Owner
from projects import Account, account_of

from schemas.redis import Redis
from schemas.secrets import derived_secret
from tests.conftest import MASTER_KEY

WAIT_S = 20
POINTED = """
import sys
import disruptive
disruptive.base_url, disruptive.emulator_base_url, disruptive.default_auth.token_endpoint = sys.argv[1:4]
del sys.argv[1:4]
from dtcli.cli import entry_point
entry_point()
"""


class Command:
    """The `dt` command, as an account uses it."""

    def __init__(self, account: Account, home: Path) -> None:
        self.urls = [account.owner.url + path for path in ("/v2", "/emulator/v2", "/oauth2/token")]
        self.environment = {
            **os.environ,
            "HOME": str(home),
            "DT_SERVICE_ACCOUNT_KEY_ID": account.key_id,
            "DT_SERVICE_ACCOUNT_SECRET": account.secret,
            "DT_SERVICE_ACCOUNT_EMAIL": account.email,
        }

    async def __call__(self, *words: str) -> list[dict[str, Any]]:
        """What it prints, an object a line."""
        pipe = asyncio.subprocess.PIPE
        command = [sys.executable, "-c", POINTED, *self.urls, *words, "--json", "--full"]
        run = await asyncio.create_subprocess_exec(*command, env=self.environment, stdout=pipe, stderr=pipe)
        said, complained = await asyncio.wait_for(run.communicate(), WAIT_S)
        assert (run.returncode, complained) == (0, b""), (words, complained.decode())
        return [json.loads(line) for line in said.decode().splitlines() if line.startswith("{")]


async def test_the_command_of_the_public_client_does_its_work(
    edge: Any, acme: Owner, redis_client: Redis, tmp_path: Path
) -> None:
    """Projects, members, accounts, keys, emulated devices, labels, events, connectors, claims: made, read and ended."""
    boss = await account_of(acme, "organization.admin")
    dt = Command(boss, tmp_path)
    sold = await acme.row(await acme.device(claimed=False))
    [organization], [project], [claim] = await asyncio.gather(
        dt("organization", "list"),
        dt("project", "create", str(acme.organization_id), "Plant"),
        dt("claim", "info", f"{sold['mac']}/{sold['sn']}"),
    )
    assert organization["displayName"] == "Acme"
    assert (project["displayName"], claim["device_id"]) == ("Plant", f"{sold['mac']}/{sold['sn']}")
    place = project["name"].rpartition("/")[2]
    [device], [member], [account], [connector] = await asyncio.gather(
        dt("emulator", "create", place, "temperature", "--display-name", "Fridge", "--labels", "room=1"),
        dt("project", "member", "add", place, "someone@example.org", "project.user"),
        dt("service-account", "create", place, "--display-name", "Robot"),
        dt("data-connector", "create", "http-push", place, "https://receiver.example/events"),
    )
    assert device["labels"] == {"room": "1", "name": "Fridge"}
    fridge, robot = device["name"].rpartition("/")[2], account["name"].rpartition("/")[2]
    _, [key], _ = await asyncio.gather(
        dt("emulator", "publish", "temperature", fridge, place, "21.5"),
        dt("service-account", "key", "create", robot, place),
        dt("device", "label", "set", fridge, place, "room=2"),
    )
    assert (key["secret"], member["accountType"]) == (derived_secret(MASTER_KEY, key["id"]), "USER")
    await store_all(edge, redis_client)
    events, [listed], [shown] = await asyncio.gather(
        dt("event", "list", fridge, place, "--event-types", "temperature"),
        dt("device", "list", place, "--label-filters", "room=2", "--device-types", "temperature"),
        dt("data-connector", "get", connector["name"].rpartition("/")[2], place),
    )
    assert [event["data"]["temperature"]["value"] for event in events] == [21.5]
    assert listed["reported"]["temperature"]["value"] == 21.5
    assert shown["httpConfig"]["url"] == "https://receiver.example/events"
    await dt("emulator", "delete", fridge, place)
    await dt("project", "delete", place)
    assert await acme.pool.fetchval("SELECT count(*) FROM projects WHERE name = 'Plant'") == 0


@pytest.mark.filterwarnings("ignore:Please use OctKey", "ignore:Using implicit key type")  # of authlib, to itself
async def test_stock_clients_of_oauth_and_of_server_sent_events(edge: Any, acme: Owner, redis_client: Redis) -> None:
    """A session that fetches its token by a JWT assertion (RFC 7523), and an event source that asks for no pings."""
    device_id = await acme.device()
    user = await account_of(acme, "project.user", basic=False)
    [shards] = flushers(edge, redis_client)
    session = AssertionSession(
        token_endpoint=f"{acme.url}/oauth2/token",
        issuer=user.email,
        subject=None,
        audience=f"{acme.url}/oauth2/token",
        grant_type=AssertionSession.JWT_BEARER_GRANT_TYPE,
        header={"alg": "HS256", "kid": user.key_id},
        key=user.secret,
    )
    project = f"{acme.url}/v2/projects/{acme.project_id}"

    def follow() -> list[Any]:
        assert session.get(project, timeout=WAIT_S).json()["displayName"] == "Main"
        headers = {"accept": "text/event-stream"}
        with session.get(f"{project}/devices:stream", headers=headers, stream=True, timeout=WAIT_S) as answer:
            events = sseclient.SSEClient(answer).events()
            return [json.loads(next(events).data)["result"]["event"]["data"] for _ in range(2)]

    following = asyncio.create_task(asyncio.to_thread(follow))
    async with asyncio.timeout(WAIT_S):
        while not edge.services.events._count:
            assert not following.done(), following.exception()
            await asyncio.sleep(0.01)
    for n in (1, 2):
        await send(edge, device_id, telemetries={"n": n})
        await drain(shards)
    told = await following
    assert [data["telemetry"]["telemetries"] for data in told] == [{"n": 1}, {"n": 2}]
