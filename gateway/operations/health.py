"""Is it alive, and is it ready."""

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from gateway.services import Services
from schemas import keys
from schemas.postgres import PostgresAway
from schemas.redis import RedisAway


async def livez(request: Request) -> Response:
    """200 as long as this process answers."""
    return PlainTextResponse("ok\n")


async def readyz(request: Request) -> Response:
    """200 when telemetry would be taken: Redis is there and every shard is ready; else 503 with the reasons."""
    services: Services = request.state.services
    problems: list[str] = []
    try:
        pipeline = services.redis.pipeline(transaction=False)
        for shard in range(services.shards):
            pipeline.exists(keys.ingest(shard))
        for shard, exists in enumerate(await pipeline.execute()):
            if not services.ingest.is_connected(shard):
                problems.append(f"shard {shard} is not connected")
            elif not exists:
                problems.append(f"shard {shard} is being rebuilt")
    except RedisAway:
        problems.append("Redis is not available")
    try:
        await services.postgres.fetchval("SELECT 1")
    except PostgresAway:
        problems.append("Postgres is not available")
    return JSONResponse({"ready": not problems, "problems": problems}, 503 if problems else 200)
