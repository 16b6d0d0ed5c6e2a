"""The demo's firmware: a vendor that uploads, releases and rolls it out in three waves to the simulated fleet."""

import random
from typing import Any

import aiohttp

from gateway.cli.demo_file import Demo
from gateway.cli.simulated.calls import TIMEOUT_S

VERSION = "1.0.0"
BYTES = 512 * 1024
WAVES = [{"percent": percent, "soak_s": 15, "gate": {"min_reported": 2, "failed_percent": 50}} for percent in (20, 60)]


class ReleaseError(Exception):
    """The gateway did not take it; the text says why."""


async def roll_out(demo: Demo, http: aiohttp.ClientSession) -> bool:
    """Roll the demo's firmware out, unless somebody has rolled out something already. Raises ReleaseError."""
    if (await _call(demo, http, "GET", "/rollouts"))["items"]:
        return False
    about = {"model_id": demo.model_id, "name": f"demo-{VERSION}.bin", "file_type": "firmware", "version": VERSION}
    made = await _call(demo, http, "POST", "/files", about)
    data = random.Random(VERSION).randbytes(BYTES)  # noqa: S311
    await _call(demo, http, "PUT", f"/files/{made['id']}/content", data)
    plan = {"name": f"Version {VERSION}", "file_id": made["id"], "waves": [*WAVES, {"percent": 100}]}
    rollout = await _call(demo, http, "POST", "/rollouts", plan)
    await _call(demo, http, "POST", f"/files/{made['id']}/release")
    await _call(demo, http, "POST", f"/rollouts/{rollout['id']}/start")
    return True


async def _call(demo: Demo, http: aiohttp.ClientSession, method: str, path: str, body: Any = None) -> Any:
    given: dict[str, Any] = {"data": body} if isinstance(body, bytes) else {} if body is None else {"json": body}
    url, headers = f"{demo.base_url}/core/v1/partner{path}", {"authorization": demo.partner_key}
    timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
    try:
        async with http.request(method, url, headers=headers, timeout=timeout, **given) as answer:
            if answer.status >= 300:
                raise ReleaseError(f"{method} {path}: {answer.status} {await answer.text()}")
            return await answer.json()
    except (aiohttp.ClientError, TimeoutError) as error:
        raise ReleaseError(f"{method} {path}: {str(error) or type(error).__name__}") from None
