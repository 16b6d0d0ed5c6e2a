"""Unknown parameters and members of owners, vendors and accounts are refused at every address, and nothing is done."""

from typing import Any

from owners import Owner
from projects import account_of

from gateway.api.bodies import Streamed
from gateway.app import ENDPOINTS
from schemas import ids


async def test_no_call_takes_what_it_does_not_know(acme: Owner) -> None:
    """A parameter, a member, a body where none is taken: 400 that names it."""
    account = await account_of(acme, "organization.admin")
    keys = {"organization": acme.key, "partner": acme.partner_key, "account": account.basic}
    places = {"project": str(acme.project_id), "organization": str(acme.organization_id)}
    for endpoint in ENDPOINTS:
        if not endpoint.exact:
            continue
        path = endpoint.path
        for name in (*endpoint.in_path, *endpoint.scopes):
            path = path.replace(f"{{{name}}}", places.get(name, str(ids.new_id())))
        assert endpoint.caller is not None
        scheme = next(iter(endpoint.caller.schemes))
        status, answer = await _ask(acme, endpoint.method, path + "?bogus=1", keys[scheme])
        assert (status, "Query parameter bogus is not known" in answer) == (400, True), (endpoint, answer)
        if endpoint.method != "GET" and endpoint.body not in (dict[str, Any], Streamed):
            status, answer = await _ask(acme, endpoint.method, path, keys[scheme], {"bogus": 1})
            assert (status, "ember bogus" in answer) == (400, True), (endpoint, answer)


async def _ask(acme: Owner, method: str, path: str, key: str, body: Any = None) -> tuple[int, str]:
    async with acme.http.request(method, acme.url + path, json=body, headers={"authorization": key}) as answer:
        return answer.status, str((await answer.json())["error"])


async def test_devices_may_say_what_is_not_known(edge: Any, acme: Owner) -> None:
    """Members and parameters: a device lives for years, and its gateway may be older."""
    key = await acme.call("POST", f"/models/{acme.model_id}/hardware_keys", {"name": "Line"})
    body = {"hardware_key": key["key"], "sn": "S1", "mac": "02:00:00:00:00:01", "firmware_version": "1.0.0", "bogus": 1}
    status, made = await acme.ask("POST", "/v1/devices?bogus=1", body)
    assert status == 201
    status, _ = await acme.ask("GET", f"/v1/devices/{made['id']}?bogus=1", key=made["access_key"])
    assert status == 200
    telemetry = {"telemetries": {"a": 1}, "bogus": 1}
    status, _ = await acme.ask("POST", f"/v1/devices/{made['id']}/telemetry?bogus=1", telemetry, made["access_key"])
    assert status == 201


async def test_where_nothing_is_required_nothing_need_be_sent(acme: Owner) -> None:
    """A service account can be made by a bare POST; what needs a member says which, and that a body is missing."""
    boss = await account_of(acme, "organization.admin")
    accounts = f"/v2/projects/{acme.project_id}/serviceaccounts"
    async with acme.http.post(acme.url + accounts, headers={"authorization": boss.basic}) as answer:
        assert (answer.status, (await answer.json())["displayName"]) == (200, "")
    async with acme.http.post(f"{acme.url}/v2/projects", headers={"authorization": boss.basic}) as answer:
        assert (answer.status, "Body is missing" in (await answer.json())["error"]) == (400, True)
